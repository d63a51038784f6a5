"""What the time-course functions share: validation, precision, blocks of voxels."""

from __future__ import annotations

import math
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError

FloatArray: TypeAlias = NDArray[np.floating[Any]]

MIN_TIMES = 3
_SHAPES = {1: "(n_time,)", 2: "(n_time, n_voxels)", 3: "(n_subjects, n_time, n_voxels)"}
# Working memory of the blockwise functions, in float64 elements (64 MB).
_BLOCK_ELEMENTS = 8_000_000


def blocks(n_columns: int, n_rows: int, widest: int | None = None) -> list[slice]:
    """Cut columns into slices whose float64 copy stays within the working memory."""
    width = max(1, _BLOCK_ELEMENTS // max(1, n_rows))
    if widest is not None:
        width = min(width, widest)
    return [slice(start, start + width) for start in range(0, n_columns, width)]


def mean_over_time(values: FloatArray) -> FloatArray:
    """Average over time in float64, returned in the values' own precision."""
    mean = values.mean(axis=0, dtype=np.float64, keepdims=True)
    return cast("FloatArray", mean.astype(values.dtype))


def floating(array: ArrayLike) -> FloatArray:
    """Return an array as float32 where it is that already, as float64 otherwise."""
    values = np.asarray(array)
    return values if values.dtype == np.float32 else values.astype(np.float64, copy=False)


def time_courses(
    array: ArrayLike,
    *,
    name: str = "responses",
    axes: tuple[int, ...] = (2, 1),
    min_times: int = 1,
    min_voxels: int = 0,
) -> FloatArray:
    """Return floating time courses, or say what is wrong with them.

    Parameters
    ----------
    name : str
        The function that asks and what it calls the array, for messages.
    array : array of shape (n_time,), (n_time, n_voxels) or (n_subjects, n_time, n_voxels)
    axes : tuple of int
        How many axes will do: 1, 2 or 3.
    min_times, min_voxels : int
        Fewest time points and, of more than one axis, fewest voxels that will do.

    Returns
    -------
    array of the same shape
        float32 where it is that already, float64 otherwise.

    Raises
    ------
    ShapeError
        If the axes are others, there is no time point, or there are too few voxels.
    DataError
        If there are too few time points, or a value is not finite.
    """
    values = floating(array)
    check_axes(name, values, axes, min_voxels)
    check_n_times(values.shape[0 if values.ndim < 3 else 1], min_times)
    finite = np.isfinite(values)
    if not finite.all():
        rows = np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1))
        at, kind = ("at", "time points") if values.ndim < 3 else ("in", "subjects")
        message = (
            f"{name} must be finite; got NaN or infinity {at} {kind} {some(rows)} "
            f"(counted from 0). Leave out those voxels or {kind}, or mend the data."
        )
        raise DataError(message)
    return values


def check_axes(
    name: str,
    values: FloatArray,
    axes: tuple[int, ...] = (2, 1),
    min_voxels: int = 0,
) -> None:
    """Refuse an array of other axes, without time points or of too few voxels."""
    # One voxel's course has no axis of voxels.
    *before, n_voxels = values.shape if values.ndim > 1 else (values.size, min_voxels)
    if values.ndim not in axes or 0 in before or n_voxels < min_voxels:
        shapes = " or ".join(_SHAPES[n_axes] for n_axes in axes)
        voxels = f" and {min_voxels} voxel{'s' if min_voxels > 1 else ''}" if min_voxels else ""
        message = (
            f"{name} must have shape {shapes} with at least one time point{voxels}; got "
            f"{values.shape}. Put voxels on the last axis and time before them."
        )
        raise ShapeError(message)


def check_n_times(n_time: int, minimum: int) -> None:
    """Refuse too short a run."""
    if n_time < minimum:
        message = (
            f"{minimum} time points or more are needed; got {n_time}. "
            "Use a longer run or trim less."
        )
        raise DataError(message)


def check_positive(name: str, value: float, unit: str) -> None:
    """Refuse what is not a positive number."""
    if not (math.isfinite(value) and value > 0):
        message = (
            f"{name} must be a positive number of {unit}; got {value}. "
            f"Give {name} in {unit}, for instance {name}=2.0."
        )
        raise OptionError(message, name)


def check_kernel(kernel: FloatArray) -> None:
    """Refuse a response that nothing can be convolved with."""
    if kernel.ndim != 1 or kernel.size == 0 or not np.isfinite(kernel).all():
        message = (
            f"a kernel must be 1-D, not empty and finite; got shape {kernel.shape}"
            f"{'' if np.isfinite(kernel).all() else ' with NaN or infinity'}. "
            "Sample the response at steps of dt_s from time 0."
        )
        raise OptionError(message)


def some(indices: NDArray[np.intp]) -> str:
    """Write the first few indices, and how many more there are."""
    shown = ", ".join(str(index) for index in indices[:5])
    return shown if len(indices) <= 5 else f"{shown} and {len(indices) - 5} more"

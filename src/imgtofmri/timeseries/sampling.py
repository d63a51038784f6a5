"""When volumes sample the response, and bringing time courses there."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError, choice_message
from imgtofmri.timeseries.checks import (
    FloatArray,
    check_axes,
    check_positive,
    floating,
    time_courses,
)

Resampling: TypeAlias = Literal["interp", "nearest", "original"]
"""How frames are brought to volumes."""

RESAMPLINGS: tuple[str, ...] = get_args(Resampling)
"""The ways of bringing frames to volumes, by their names."""


def volume_times(
    n_volumes: int, tr_s: float, *, slice_time_ref: float = 0.0
) -> NDArray[np.float64]:
    """Return the times at which volumes sample the response.

    Parameters
    ----------
    n_volumes : int
        Number of volumes.
    tr_s : float
        Repetition time, in seconds.
    slice_time_ref : float
        Where within a volume it is sampled, as a fraction of ``tr_s`` from 0 (its start) to 1;
        0.5 is the middle, to which fMRIPrep corrects slice timing by default.

    Returns
    -------
    times_s : array of shape (n_volumes,), float64
        Seconds from the start of the first volume.

    Raises
    ------
    OptionError
        If a number is outside what is valid.

    Examples
    --------
    >>> volume_times(3, 2.0, slice_time_ref=0.5).tolist()
    [1.0, 3.0, 5.0]
    """
    check_positive("tr_s", tr_s, "seconds")
    if n_volumes < 1:
        message = (
            f"n_volumes must be 1 or more; got {n_volumes}. Ask for a longer run or a shorter TR."
        )
        raise OptionError(message, "n_volumes")
    if not 0.0 <= slice_time_ref <= 1.0:
        message = (
            "slice_time_ref must be a fraction of the TR from 0 to 1; "
            f"got {slice_time_ref}. Use 0 for the start of a volume, 0.5 for its middle."
        )
        raise OptionError(message)
    starts = np.arange(n_volumes, dtype=np.float64)
    times_s: NDArray[np.float64] = (starts + slice_time_ref) * tr_s
    return times_s


def sample_to_volumes(
    responses: ArrayLike,
    times_s: ArrayLike,
    tr_s: float,
    *,
    n_volumes: int | None = None,
    resample: Resampling = "interp",
    slice_time_ref: float = 0.0,
) -> FloatArray:
    """Bring time courses to a scanner's volumes.

    Parameters
    ----------
    responses : array of shape (n_time, n_voxels) or (n_time,)
        Time courses, already convolved.
    times_s : array of shape (n_time,)
        When each was sampled, rising, in seconds from the start of the first volume.
    tr_s : float
        Repetition time, in seconds.
    n_volumes : int, optional
        Number of volumes; by default as many as are sampled no later than ``times_s[-1]``.
        ``"original"`` needs it.
    resample : {"interp", "nearest", "original"}
        ``"interp"`` interpolates linearly. ``"nearest"`` takes the nearest sample in time, the
        earlier of two that are equally near. ``"original"`` is what the published analysis of
        movies did: ``n_volumes`` points equally far apart from the first sample to one step
        **after** the last, linear interpolation, the last value held. The film is stretched over
        the run whatever ``tr_s`` is: 691 frames at 2 Hz come to 168 volumes 2.07 s apart, and the
        last lies past the last frame. Kept to reproduce that analysis, and for nothing else.
    slice_time_ref : float
        As in `volume_times`.

    Returns
    -------
    volumes : array of shape (n_volumes, n_voxels) or (n_volumes,)
        float32 for float32 responses, float64 otherwise.

    Raises
    ------
    OptionError
        If an option is not valid, or a volume lies more than one sampling step outside ``times_s``
        (within that step the end's value holds).
    ShapeError, DataError
        If the arrays do not fit each other, or hold values that are not finite.

    Examples
    --------
    >>> sample_to_volumes([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 1.0, 1.5, 2.0], 0.75).tolist()
    [0.0, 1.5, 3.0]
    """
    check_positive("tr_s", tr_s, "seconds")
    if resample not in RESAMPLINGS:
        raise OptionError(choice_message("", "resample", resample, RESAMPLINGS))
    if resample == "original" and slice_time_ref != 0.0:
        message = (
            "`resample` original samples at the start of each volume; got `slice_time_ref` "
            f"{slice_time_ref}. Use 0, or `resample` interp."
        )
        raise OptionError(message)
    if resample == "original" and (n_volumes is None or n_volumes < 2):
        message = (
            "`resample` original spreads a film over `n_volumes`, 2 or more; got "
            f"{n_volumes}. Give the number of volumes of the run, or use `resample` interp."
        )
        raise OptionError(message)
    values = time_courses(responses, min_times=2)
    times = np.asarray(times_s, dtype=np.float64)
    if times.shape != (len(values),):
        message = (
            f"times_s must have one time for each of the {len(values)} samples; "
            f"got shape {times.shape}. Give the time of every row of responses."
        )
        raise ShapeError(message)
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        message = (
            "times_s must be finite and rise from one sample to the next; "
            "got times that do not. Sort the samples and drop repeated times."
        )
        raise DataError(message)
    step_s = float(np.diff(times).max())
    rounding_s = 1e-6 * step_s
    if resample == "original":
        assert n_volumes is not None
        places = np.arange(len(values), dtype=np.float64)
        return _interpolated(values, places, np.linspace(0.0, len(values), n_volumes))
    if n_volumes is None:
        reach = (times[-1] + rounding_s) / tr_s - slice_time_ref
        n_volumes = max(1, math.floor(reach) + 1)
    wanted = volume_times(n_volumes, tr_s, slice_time_ref=slice_time_ref)
    if wanted[0] < times[0] - step_s - rounding_s or wanted[-1] > times[-1] + step_s + rounding_s:
        message = (
            f"volumes must lie within the samples, {times[0]:g} to {times[-1]:g} s; "
            f"got volumes from {wanted[0]:g} to {wanted[-1]:g} s. Ask for fewer volumes or give "
            "longer time courses."
        )
        raise OptionError(message)
    if resample == "nearest":
        lower, upper, weight = _neighbours(times, wanted)
        # Rounding in k * tr_s must not decide which of two equally near samples is taken.
        return values[np.where(weight > 0.5 + 1e-6, upper, lower)]
    return _interpolated(values, times, wanted)


def _neighbours(
    times: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the samples before and after each time wanted, and its way between them, 0 to 1."""
    upper = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    lower = upper - 1
    weight = np.clip((wanted - times[lower]) / (times[upper] - times[lower]), 0.0, 1.0)
    return lower, upper, weight


def _interpolated(
    values: FloatArray, times: NDArray[np.float64], wanted: NDArray[np.float64]
) -> FloatArray:
    """Interpolate linearly between samples, holding the ends' values beyond them."""
    lower, upper, weight = _neighbours(times, wanted)
    share = weight.astype(values.dtype).reshape((-1,) + (1,) * (values.ndim - 1))
    return cast("FloatArray", values[lower] * (1 - share) + values[upper] * share)


def trim(responses: ArrayLike, *, n_start: int = 0, n_end: int = 0) -> FloatArray:
    """Drop volumes at the start and the end.

    Parameters
    ----------
    responses : array of shape (n_time, n_voxels) or (n_time,)
        Time courses.
    n_start, n_end : int
        How many volumes to drop at each end.

    Returns
    -------
    kept : array of shape (n_time - n_start - n_end, n_voxels)
        A view where ``responses`` is a floating array.

    Raises
    ------
    OptionError
        If a number is negative or nothing would be left.

    Examples
    --------
    >>> trim([1.0, 2.0, 3.0, 4.0], n_start=1, n_end=2).tolist()
    [2.0]
    """
    values = floating(responses)
    check_axes("responses", values)
    if min(n_start, n_end) < 0 or n_start + n_end >= len(values):
        message = (
            "n_start and n_end must be 0 or more and leave a volume of "
            f"the {len(values)}; got {n_start} and {n_end}. Trim less."
        )
        raise OptionError(message)
    return values[n_start : len(values) - n_end]

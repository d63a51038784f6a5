"""What a fit refuses, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.regression.folds import Labels, group_codes

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]


def check_penalties(alphas: npt.ArrayLike) -> FloatArray:
    """Return the penalties as an array, or refuse them."""
    penalties = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    valid = penalties.ndim == 1 and penalties.size > 0
    if not valid or not (np.isfinite(penalties) & (penalties > 0)).all():
        message = (
            f"alphas must be a list of numbers above 0; got {alphas!r}. "
            "Use numpy.logspace(1, 5, 10), for example."
        )
        raise OptionError(message)
    return penalties


def check_bands(
    bands: Labels | None, band_scales: npt.ArrayLike | None, n_features: int
) -> tuple[list[FloatArray | None], FloatArray | None]:
    """Return for each candidate the factor of every feature, and the candidates as an array."""
    if bands is None and band_scales is None:
        return [None], None
    if bands is None or band_scales is None or len(bands) != n_features:
        got = "none" if bands is None else str(len(bands))
        message = (
            f"banded ridge needs a band for each of the {n_features} features, and "
            f"band_scales; got {got} bands. Give both, or neither for plain ridge."
        )
        raise ShapeError(message)
    code, n_bands = group_codes(bands)
    scales = np.asarray(band_scales, dtype=np.float64)
    if scales.ndim != 2 or scales.shape[1] != n_bands:
        message = (
            f"band_scales must have shape (n_candidates, {n_bands}); "
            f"got {scales.shape}. See sample_band_scales."
        )
        raise ShapeError(message)
    if not (np.isfinite(scales) & (scales >= 0)).all() or not scales.any(axis=1).all():
        message = (
            "band_scales must be finite, not below 0 and not all 0 in a candidate; "
            f"got {scales.tolist()}. See sample_band_scales."
        )
        raise OptionError(message)
    return [np.sqrt(row)[code] for row in scales], scales


def units_of(share: Labels | None, n_voxels: int) -> tuple[IndexArray, tuple[Any, ...]]:
    """Return the unit of each voxel, and the units' names."""
    if share is None:
        return np.arange(n_voxels), tuple(range(n_voxels))
    if len(share) != n_voxels:
        message = (
            f"share must have one label for each of the {n_voxels} voxels; "
            f"got {len(share)}. Give the ROI of every voxel, or None for a penalty per voxel."
        )
        raise ShapeError(message)
    return group_codes(share)[0], tuple(dict.fromkeys(share))


def check_responses(responses: npt.NDArray[Any], n_rows: int, where: str = "") -> None:
    """Refuse responses that cannot be fitted.

    Parameters
    ----------
    responses : array of shape (n_rows, n_voxels)
        Measured responses.
    n_rows : int
        How many rows there must be.
    where : str
        What to begin the message with, such as a subject and ROI.

    Raises
    ------
    ShapeError
        If the shape is wrong.
    DataError
        If a voxel is not finite or does not vary.
    """
    place = f"{where}: " if where else ""
    if responses.ndim != 2 or len(responses) != n_rows or responses.shape[1] == 0:
        message = (
            f"{place}responses must have shape (n_stimuli, n_voxels) with {n_rows} rows and at "
            f"least one voxel; got {responses.shape}. Give rows in the order of the stimuli; "
            "transpose if voxels come first."
        )
        raise ShapeError(message)
    not_finite, constant = invalid_voxels(responses)
    for bad, what in ((not_finite, "are not finite"), (constant, "never vary")):
        if bad.size:
            some = ", ".join(str(i) for i in bad[:5]) + (", ..." if bad.size > 5 else "")
            message = (
                f"{place}every voxel must be finite and vary; {bad.size} of {responses.shape[1]} "
                f"{what} (voxels {some}). Leave them out of the mask, or set "
                'invalid_voxels = "drop" in the study.'
            )
            raise DataError(message)


def invalid_voxels(responses: npt.NDArray[Any]) -> tuple[IndexArray, IndexArray]:
    """Return the voxels that hold NaN or infinity, and those that are constant."""
    low, high = responses.min(axis=0), responses.max(axis=0)
    finite = np.isfinite(low) & np.isfinite(high)
    return np.flatnonzero(~finite), np.flatnonzero(finite & (low == high))

"""Taking means, slow drifts and confounds out of time courses."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import OptionError, ShapeError
from imgtofmri.timeseries.checks import (
    MIN_TIMES,
    FloatArray,
    check_n_times,
    check_positive,
    mean_over_time,
    time_courses,
)


def remove_mean(responses: ArrayLike) -> FloatArray:
    """Subtract each voxel's mean over time.

    Parameters
    ----------
    responses : array of shape (n_time, n_voxels) or (n_time,)
        Time courses.

    Returns
    -------
    centred : array of the shape of ``responses``
        float32 for float32 responses, float64 otherwise.

    Raises
    ------
    ShapeError, DataError
        If there are no time points, or a value is not finite.

    Examples
    --------
    >>> remove_mean([1.0, 2.0, 6.0]).tolist()
    [-2.0, -1.0, 3.0]
    """
    values = time_courses(responses, min_times=1)
    return cast("FloatArray", values - mean_over_time(values))


def cosine_basis(n_volumes: int, tr_s: float, *, cutoff_s: float = 128.0) -> NDArray[np.float64]:
    """Return the discrete cosine basis of slow drifts.

    Parameters
    ----------
    n_volumes : int
        Number of volumes, 3 or more.
    tr_s : float
        Repetition time, in seconds.
    cutoff_s : float
        Shortest period that counts as drift, in seconds; longer than ``2 * tr_s``.

    Returns
    -------
    basis : array of shape (n_volumes, n_cosines), float64
        Orthonormal columns, none of them constant; no column for a run shorter than half the
        cutoff. Equal to nilearn's cosine drift model without its constant.

    Raises
    ------
    OptionError
        If a number is outside what is valid.
    DataError
        If there are fewer than 3 volumes.

    Examples
    --------
    >>> cosine_basis(150, 2.0, cutoff_s=120.0).shape
    (150, 5)
    """
    check_positive("tr_s", tr_s, "seconds")
    check_positive("cutoff_s", cutoff_s, "seconds")
    check_n_times(n_volumes, MIN_TIMES)
    if cutoff_s <= 2.0 * tr_s:
        message = (
            f"cutoff_s must be longer than two volumes ({2.0 * tr_s:g} s), or "
            f"nothing but drift would be left; got {cutoff_s:g}. The usual cutoff is 128 s."
        )
        raise OptionError(message, "cutoff_s")
    return cosines(np.arange(n_volumes) * tr_s, 1.0 / cutoff_s)


def cosines(times_s: ArrayLike, high_pass_hz: float) -> NDArray[np.float64]:
    """Return the discrete cosines slower than a frequency, as `cosine_basis` does, unchecked.

    Parameters
    ----------
    times_s : array of shape (n_volumes,)
        When each volume was measured, in seconds.
    high_pass_hz : float
        Fastest frequency that counts as drift.

    Returns
    -------
    cosines : array of shape (n_volumes, n_cosines), float64
    """
    from nilearn.glm.first_level.design_matrix import create_cosine_drift

    drift = create_cosine_drift(high_pass_hz, np.asarray(times_s))
    return cast("NDArray[np.float64]", np.asarray(drift[:, :-1], dtype=np.float64))


def remove_drift(
    responses: ArrayLike, tr_s: float, *, cutoff_s: float = 128.0, keep_mean: bool = False
) -> FloatArray:
    """Regress a discrete cosine basis, and by default the mean, out of time courses.

    Parameters
    ----------
    responses : array of shape (n_time, n_voxels) or (n_time,)
        Time courses, one row a volume.
    tr_s, cutoff_s : float
        As in `cosine_basis`.
    keep_mean : bool
        Leave each voxel's mean as it was.

    Returns
    -------
    residuals : array of the shape of ``responses``
        float32 for float32 responses, float64 otherwise.

    Raises
    ------
    OptionError, ShapeError, DataError
        As `cosine_basis` and `remove_mean` do.
    """
    values = time_courses(responses, min_times=MIN_TIMES)
    basis = cosine_basis(len(values), tr_s, cutoff_s=cutoff_s)
    mean = mean_over_time(values)
    centred = values - mean
    # The columns are orthonormal and orthogonal to a constant: regression is a projection.
    residuals = centred - (basis @ (basis.T @ centred)).astype(values.dtype)
    return cast("FloatArray", residuals + mean if keep_mean else residuals)


def regress_out(responses: ArrayLike, regressors: ArrayLike) -> FloatArray:
    """Return the residuals of time courses on regressors and a constant.

    Parameters
    ----------
    responses : array of shape (n_time, n_voxels) or (n_time,)
        Time courses.
    regressors : array of shape (n_time, n_regressors) or (n_time,)
        Confounds; they may depend on each other linearly.

    Returns
    -------
    residuals : array of the shape of ``responses``
        float32 for float32 responses, float64 otherwise.

    Raises
    ------
    ShapeError
        If the two differ in length.
    DataError
        If a value is not finite, or there are fewer than 3 time points.
    """
    values = time_courses(responses, min_times=MIN_TIMES)
    confounds = time_courses(regressors, min_times=MIN_TIMES, name="regressors")
    if len(confounds) != len(values):
        message = (
            f"regressors must have the {len(values)} rows of responses; "
            f"got {len(confounds)}. Trim both alike."
        )
        raise ShapeError(message)
    design = confounds.reshape(len(values), -1).astype(np.float64)
    design = design - design.mean(axis=0)
    scale = np.sqrt((design**2).sum(axis=0))
    design = design[:, scale > 0] / scale[scale > 0]
    left, singular, _ = np.linalg.svd(design, full_matrices=False)
    tolerance = max(design.shape) * np.finfo(np.float64).eps
    basis = left[:, singular > tolerance * singular.max(initial=0.0)]
    centred = values - mean_over_time(values)
    return cast("FloatArray", centred - (basis @ (basis.T @ centred)).astype(values.dtype))

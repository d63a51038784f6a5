"""A course of values averaged around event boundaries, with its uncertainty.

Where a window reaches into the neighbourhood of another boundary, its volumes are left out, so that
the average at a lag speaks of one boundary only.

The bootstrap resamples two things: measured subjects (whoever calls gives one course for each
sample of subjects) and boundaries. A sample of boundaries is a count of how often each was drawn,
so all averages are two matrix products, one of the windows and one of which volumes are valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.events.separation import check_boundaries
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import bootstrap_counts
from imgtofmri.stats.bootstrap import enough_draws

__all__ = [
    "BoundaryAverage",
    "average_around_boundaries",
    "bootstrap_p",
    "boundary_windows",
    "limits_of_samples",
    "mean_around_boundaries",
]

Array = NDArray[np.float64]

LEAST_WINDOWS = 4
"""Resampling one boundary says nothing of others; intervals of two or three hold too little."""


@dataclass(frozen=True, eq=False)
class BoundaryAverage:
    """Averages around boundaries for any number of courses, with bootstrap bands.

    Attributes
    ----------
    lags : array of int, shape (n_lags,)
        Volumes from the boundary; negative before it.
    mean : array of shape (..., n_lags)
        The average over boundaries of the course as it is, without resampling.
    lower, upper : array of shape (..., n_lags)
        The bootstrap's 95 % interval, or as asked for, about ``mean``: `limits_of_samples`. NaN at
        lags of fewer than four boundaries.
    samples : array of shape (..., n_brains * n_resamples, n_lags)
        The bootstrap's averages; NaN where a sample has no valid volume.
    n_windows : array of int, shape (n_lags,)
        Boundaries that have a valid volume at each lag.
    """

    lags: NDArray[np.intp]
    mean: Array
    lower: Array
    upper: Array
    samples: Array
    n_windows: NDArray[np.intp]


def boundary_windows(
    n_timepoints: int,
    boundaries: ArrayLike,
    *,
    window: tuple[int, int] = (-5, 10),
    exclusion: int = 2,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Return which volumes lie around each boundary and which of them are used.

    Parameters
    ----------
    n_timepoints : int
        Volumes in the run.
    boundaries : array of int, shape (n_boundaries,)
        As `check_boundaries` asks.
    window : (int, int), default (-5, 10)
        First and last lag, in volumes, both included.
    exclusion : int, default 2
        A volume at most this far from another boundary is not used. -1 uses all.

    Returns
    -------
    lags : array of int, shape (n_lags,)
        Volumes from the boundary.
    volumes : array of int, shape (n_boundaries, n_lags)
        The volume at each lag; 0 where it would lie outside the run.
    valid : array of bool, shape (n_boundaries, n_lags)
        Whether it is inside the run and not too near another boundary.

    Raises
    ------
    OptionError
        If the window's ends are out of order, or ``exclusion`` is less than -1.
    DataError, ShapeError
        If boundaries are not as they should be.

    Examples
    --------
    >>> lags, volumes, valid = boundary_windows(20, [4, 9], window=(0, 3))
    >>> valid.tolist()
    [[True, True, True, False], [True, True, True, True]]
    """
    bounds = check_boundaries(boundaries, n_timepoints)
    first, last = window
    if first > last:
        message = (
            f"window must be (first lag, last lag) in order; got {window}. Use for example "
            "(-5, 10)."
        )
        raise OptionError(message, "window")
    if exclusion < -1:
        message = (
            f"exclusion must be 0 volumes or more, or -1 for none; got {exclusion}. The published "
            "analysis used 2."
        )
        raise OptionError(message, "exclusion")
    lags = np.arange(first, last + 1)
    volumes = bounds[:, None] + lags
    near = np.abs(volumes[:, :, None] - bounds) <= exclusion
    near &= ~np.eye(len(bounds), dtype=bool)[:, None, :]
    valid = (volumes >= 0) & (volumes < n_timepoints) & ~near.any(axis=2)
    return lags, np.where(valid, volumes, 0), valid


def average_around_boundaries(
    values: ArrayLike,
    boundaries: ArrayLike,
    *,
    brains: ArrayLike | None = None,
    window: tuple[int, int] = (-5, 10),
    exclusion: int = 2,
    n_resamples: int = 10,
    interval: float = 0.95,
    seed: int | Sequence[int] = 0,
) -> BoundaryAverage:
    """Average courses around event boundaries and bootstrap the averages.

    Courses on leading axes (models, say) see the same draws, so that their samples can be
    subtracted.

    Parameters
    ----------
    values : array of shape (..., n_timepoints)
        What is averaged, for all measured subjects together. NaN where it is not defined.
    boundaries : array of int, shape (n_boundaries,)
        As `check_boundaries` asks.
    brains : array of shape (..., n_brains, n_timepoints), optional
        The same course for each bootstrap sample of measured subjects. Default: ``values`` alone,
        so that boundaries alone are resampled.
    window : (int, int), default (-5, 10)
        First and last lag, in volumes.
    exclusion : int, default 2
        A volume at most this far from another boundary is left out.
    n_resamples : int, default 10
        Samples of boundaries for each sample of subjects; sample ``s`` goes with sample
        ``s % n_brains`` of subjects.
    interval : float, default 0.95
        Part of the samples between ``lower`` and ``upper``.
    seed : int or sequence of int
        Of the draws of boundaries.

    Returns
    -------
    BoundaryAverage
        With ``n_brains * n_resamples`` samples.

    Raises
    ------
    ShapeError
        If ``brains`` does not match ``values``.
    DataError
        If values are infinite, or boundaries are not as they should be.
    OptionError
        If a setting is out of range.

    Notes
    -----
    Another boundary means any other of the given ones, drawn or not: which volumes are used does
    not change from sample to sample.
    """
    course = _courses(values)
    samples_of = course[..., None, :] if brains is None else _courses(brains)
    if samples_of.shape != (*course.shape[:-1], samples_of.shape[-2], course.shape[-1]):
        message = (
            "brains must have shape (..., n_brains, n_timepoints) with the other axes of values, "
            f"{course.shape}; got {samples_of.shape}. Compute both alike."
        )
        raise ShapeError(message)
    if n_resamples < 1 or not 0 < interval < 1:
        message = (
            f"n_resamples must be 1 or more and interval between 0 and 1; got {n_resamples} and "
            f"{interval}. Use 10 and 0.95."
        )
        raise OptionError(message)
    n_timepoints = course.shape[-1]
    lags, volumes, valid = boundary_windows(
        n_timepoints, boundaries, window=window, exclusion=exclusion
    )
    n_brains, n_boundaries = samples_of.shape[-2], len(valid)
    counts = bootstrap_counts(n_boundaries, n_brains * n_resamples, seed=seed)
    weights = counts.reshape(n_resamples, n_brains, n_boundaries).swapaxes(0, 1)
    samples = _weighted_mean(weights, samples_of, volumes, valid).swapaxes(-3, -2)
    samples = samples.reshape(*course.shape[:-1], n_brains * n_resamples, len(lags))
    mean = _plain_mean(course, volumes, valid)
    n_windows = valid.sum(axis=0)
    few = n_windows < LEAST_WINDOWS
    limits = limits_of_samples(samples, interval, around=mean)
    lower, upper = (np.where(few, np.nan, limit) for limit in limits)
    return BoundaryAverage(lags, mean, lower, upper, samples, n_windows)


def mean_around_boundaries(
    values: ArrayLike,
    boundaries: ArrayLike,
    *,
    window: tuple[int, int] = (-5, 10),
    exclusion: int = 2,
) -> Array:
    """Average courses around event boundaries, each boundary once.

    Parameters
    ----------
    values : array of shape (..., n_timepoints)
        NaN where it is not defined.
    boundaries, window, exclusion
        As in `average_around_boundaries`.

    Returns
    -------
    array of shape (..., n_lags)
        NaN where no boundary has a valid volume.

    Raises
    ------
    DataError, ShapeError, OptionError
        As `average_around_boundaries`.
    """
    course = _courses(values)
    _, volumes, valid = boundary_windows(
        course.shape[-1], boundaries, window=window, exclusion=exclusion
    )
    return _plain_mean(course, volumes, valid)


def _plain_mean(course: Array, volumes: NDArray[np.intp], valid: NDArray[np.bool_]) -> Array:
    mean: Array = _weighted_mean(np.ones((1, len(valid))), course, volumes, valid)[..., 0, :]
    return mean


def bootstrap_p(samples: ArrayLike) -> Array:
    """Return the share of bootstrap samples below zero, which published analyses call p.

    It is none: samples of people lie about what was found, not about what chance gives. Kept to
    reproduce these analyses.

    Parameters
    ----------
    samples : array of shape (..., n_samples, n_lags)
        Bootstrap samples; those that are NaN are left out.

    Returns
    -------
    p : array of shape (..., n_lags)
        ``(n below zero + 1) / (n + 1)`` of the n valid samples; NaN where there is none.

    Examples
    --------
    >>> bootstrap_p([[0.2], [0.3], [-0.1]])
    array([0.5])
    """
    array = np.asarray(samples, dtype=np.float64)
    n_valid = np.sum(~np.isnan(array), axis=-2)
    below = np.sum(array < 0, axis=-2)
    return np.where(n_valid > 0, (below + 1) / (n_valid + 1), np.nan)


def _courses(values: ArrayLike) -> Array:
    """Return courses as float64, or say what is wrong with them."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or np.isinf(array).any():
        message = (
            "values must be courses over time, finite or NaN; got "
            f"{'a single number' if array.ndim == 0 else 'infinite values'}. Set what is not "
            "defined to NaN."
        )
        raise DataError(message)
    return array


def _weighted_mean(
    weights: Array, course: Array, volumes: NDArray[np.intp], valid: NDArray[np.bool_]
) -> Array:
    """Average windows of courses with each boundary's weight, leaving out what is not valid."""
    windows = course[..., volumes]
    used = valid & ~np.isnan(windows)
    total = weights @ np.where(used, windows, 0.0)
    number = weights @ used
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def limits_of_samples(
    samples: Array, interval: float = 0.95, around: Array | None = None
) -> tuple[Array, Array]:
    """Return percentiles over the last axis but one, without invalid samples.

    A sample of people holds fewer different ones than there are, so that its mean is noisier and
    agrees less with anything: samples lie about a value lower than the estimate, and their
    percentiles may leave it out. They are moved to lie about it.

    Parameters
    ----------
    samples : array of shape (..., n_samples, n_lags)
    interval : float
        Part of the samples between the two.
    around : array of shape (..., n_lags), optional
        The estimate that the samples' mean is moved to. Default: they stay.

    Returns
    -------
    lower, upper : arrays of shape (..., n_lags)
        NaN where too few samples are valid, see `imgtofmri.stats.bootstrap.enough_draws`.

    Raises
    ------
    OptionError
        If ``interval`` is not between 0 and 1.
    """
    if not 0 < interval < 1:
        message = f"interval must be between 0 and 1; got {interval}. Use 0.95."
        raise OptionError(message, "interval")
    tails = 50 * (1 - interval)
    q = (tails, 100 - tails)
    if samples.shape[-2] == 0:
        nothing = np.full(np.delete(samples.shape, -2), np.nan)
        return nothing, nothing.copy()
    enough = enough_draws(samples, -2, interval)
    # nanpercentile warns of empty slices, and zeros stand in for them here.
    filled = np.where(enough[..., None, :], samples, 0.0)
    if np.isnan(filled).any():
        low, high = np.nanpercentile(filled, q, axis=-2)
    else:
        low, high = np.percentile(filled, q, axis=-2)
    shift = 0.0 if around is None else around - np.nanmean(filled, axis=-2)
    return np.where(enough, low + shift, np.nan), np.where(enough, high + shift, np.nan)

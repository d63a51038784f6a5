"""Runs and boundaries as data, and how well boundaries separate a run into events."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.timeseries.checks import MIN_TIMES, time_courses

__all__ = ["check_boundaries", "check_run", "event_labels", "t_distance"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


def check_run(data: ArrayLike) -> Array:
    """Return one run, shape (n_timepoints, n_voxels), as float64, or say what is wrong with it.

    Raises
    ------
    ShapeError
        If the data have not two axes, or no voxel.
    DataError
        If there are fewer than 3 volumes, or values that are not finite.
    """
    run = time_courses(data, name="data", axes=(2,), min_times=MIN_TIMES, min_voxels=1)
    return run.astype(np.float64, copy=False)


def check_boundaries(boundaries: ArrayLike, n_timepoints: int) -> Indices:
    """Return event boundaries as an array of volumes, or say what is wrong with them.

    A boundary is the index of the first volume of a new event. The first event begins at volume 0,
    which is therefore not a boundary.

    Parameters
    ----------
    boundaries : array of int, shape (n_boundaries,)
        Volumes, counted from 0 after trimming, in increasing order.
    n_timepoints : int
        Volumes in the run.

    Returns
    -------
    array of int, shape (n_boundaries,)

    Raises
    ------
    ShapeError
        If they are not one list.
    DataError
        If they are none, not whole numbers, out of range, out of order or given twice.

    Examples
    --------
    >>> check_boundaries([12, 26], 40)
    array([12, 26])
    """
    given = np.asarray(boundaries)
    if given.ndim != 1:
        message = (
            f"`boundaries` must be one list of volumes; got an array of shape "
            f"{given.shape}. Give the first volume of each event after the first."
        )
        raise ShapeError(message)
    if not len(given):
        message = (
            "`boundaries` must be one volume or more; got none. "
            "Give the first volume of each event after the first, or have them found."
        )
        raise DataError(message)
    if given.dtype.kind not in "iuf" or not np.array_equal(given, np.round(given)):
        message = (
            f"`boundaries` must be whole numbers, volumes counted from 0; got "
            f"{given.tolist()}. Divide times in seconds by the TR and round them."
        )
        raise DataError(message)
    volumes = given.astype(np.intp)
    outside = volumes[(volumes < 1) | (volumes >= n_timepoints)]
    if len(outside):
        message = (
            f"`boundaries` must lie between 1 and {n_timepoints - 1}, the run's last volume "
            f"(volume 0 begins the first event and is no boundary); got {outside.tolist()}. Leave "
            "those out, and count volumes after trimming."
        )
        raise DataError(message)
    steps = np.diff(volumes)
    if (steps == 0).any():
        twice = sorted(set(volumes[1:][steps == 0].tolist()))
        message = f"`boundaries` must be given once each; got {twice} twice. Leave out one of each."
        raise DataError(message)
    if (steps < 0).any():
        place = int(np.argmax(steps < 0))
        message = (
            f"`boundaries` must be in increasing order; got {volumes[place + 1]} after "
            f"{volumes[place]}. Sort them, and see that they count one run's volumes."
        )
        raise DataError(message)
    return volumes


def event_labels(boundaries: ArrayLike, n_timepoints: int) -> Indices:
    """Return the number, from 0, of the event that each volume belongs to.

    Parameters
    ----------
    boundaries : array of int, shape (n_boundaries,)
        As `check_boundaries` asks.
    n_timepoints : int
        Volumes in the run.

    Returns
    -------
    array of int, shape (n_timepoints,)

    Examples
    --------
    >>> event_labels([2, 3], 5)
    array([0, 0, 1, 2, 2])
    """
    volumes = check_boundaries(boundaries, n_timepoints)
    return np.searchsorted(volumes, np.arange(n_timepoints), side="right")


def t_distance(similarity: ArrayLike, boundaries: ArrayLike) -> float:
    """Compare similarity within events with similarity across neighbouring events.

    Too many boundaries make neighbours alike, too few make an event unlike itself: the number that
    makes this largest is a good number of events.

    Parameters
    ----------
    similarity : array of shape (n_timepoints, n_timepoints)
        Correlation of each volume's pattern with each other's.
    boundaries : array of int, shape (n_boundaries,)
        As `check_boundaries` asks.

    Returns
    -------
    float
        Two-sample t of pairs within an event against pairs in consecutive events (Welch's);
        0 where either has fewer than 2 pairs. Infinite where neither varies and they differ, as
        without noise.

    Raises
    ------
    ShapeError, DataError
        If the similarity is not square and finite, or boundaries are not as they should be.

    References
    ----------
    Geerligs L. et al. (2021). NeuroImage 236, 118085. doi:10.1016/j.neuroimage.2021.118085
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        message = (
            "similarity must have shape (n_timepoints, n_timepoints); "
            f"got {matrix.shape}. Correlate the patterns of all pairs of volumes."
        )
        raise ShapeError(message)
    if not np.isfinite(matrix).all():
        message = (
            f"similarity must be finite; got {int((~np.isfinite(matrix)).sum())} "
            "values that are NaN or infinite. Leave out volumes that are constant over voxels."
        )
        raise DataError(message)
    labels = event_labels(boundaries, len(matrix))
    first, second = np.triu_indices(len(matrix), k=1)
    apart = labels[second] - labels[first]
    values = matrix[first, second]
    within, across = values[apart == 0], values[apart == 1]
    if len(within) < 2 or len(across) < 2:
        return 0.0
    spread = np.sqrt(within.var(ddof=1) / len(within) + across.var(ddof=1) / len(across))
    difference = float(within.mean() - across.mean())
    if spread > 0:
        return difference / float(spread)
    return math.copysign(math.inf, difference) if difference else 0.0

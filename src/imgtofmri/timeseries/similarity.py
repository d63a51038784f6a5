"""Similarity of brain states over time, and how far two of them agree."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.timeseries.checks import (
    MIN_TIMES,
    blocks,
    check_n_times,
    some,
    time_courses,
)

_MIN_PAIRS = 3


def similarity_matrix(responses: ArrayLike) -> NDArray[np.float64]:
    """Correlate every volume's pattern with every other's.

    Parameters
    ----------
    responses : array of shape (n_time, n_voxels)
        One pattern a volume; 3 volumes and 2 voxels or more.

    Returns
    -------
    similarity : array of shape (n_time, n_time), float64
        Pearson's r over voxels; exactly symmetric, 1 on the diagonal.

    Raises
    ------
    ShapeError
        If ``responses`` is not 2-D or has fewer than 2 voxels.
    DataError
        If there are fewer than 3 volumes, a value is not finite, or a volume has the same value in
        every voxel, so that its correlation is undefined (the first volumes of a convolved series
        do before the mean is removed).

    Notes
    -----
    Cross-products of centred patterns are summed over blocks of voxels, so that the working memory
    is one block and the result, however many voxels there are.

    Examples
    --------
    >>> similarity_matrix([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 4.0, 6.0]])[0].round(9).tolist()
    [1.0, -1.0, 1.0]
    """
    # One voxel alone has no pattern to correlate.
    values = time_courses(responses, axes=(2,), min_times=MIN_TIMES, min_voxels=2)
    n_time, n_voxels = values.shape
    means = values.mean(axis=1, dtype=np.float64, keepdims=True)
    products = np.zeros((n_time, n_time))
    for voxels in blocks(n_voxels, n_time):
        centred = values[:, voxels] - means
        products += centred @ centred.T
    norms = np.sqrt(np.diag(products))
    # A constant row leaves only the rounding of its mean, whose size is that of the values.
    scale = np.maximum(np.abs(values).max(axis=1), np.finfo(np.float64).tiny)
    flat = np.flatnonzero(norms <= 1e-12 * scale * math.sqrt(n_voxels))
    if flat.size:
        message = (
            f"each volume must vary over voxels; volumes {some(flat)} hold one value "
            "throughout. Remove the mean over time first, or trim those volumes."
        )
        raise DataError(message)
    similarity = products / norms[:, None] / norms
    similarity = np.clip((similarity + similarity.T) / 2, -1.0, 1.0)
    np.fill_diagonal(similarity, 1.0)
    return similarity


def row_agreement(
    model: ArrayLike, measured: ArrayLike, *, band: int | None = None, min_lag: int = 1
) -> NDArray[np.float64]:
    """Correlate two similarity matrices row by row.

    Parameters
    ----------
    model, measured : array of shape (..., n_time, n_time)
        Similarity matrices; leading axes (subjects, bootstrap samples) broadcast.
    band : int, optional
        Compare a volume only with those at most this many volumes away, 3 or more; by default with
        all others. The diagonal itself never counts.
    min_lag : int
        Leave out those nearer than this many volumes, which the slow haemodynamic response makes
        alike whatever is shown.

    Returns
    -------
    agreement : array of shape (..., n_time), float64
        Pearson's r over a row's entries; NaN where a row of either matrix is constant.

    Raises
    ------
    ShapeError
        If a matrix is not square or the two differ in size.
    DataError
        If an entry that counts is not finite, or there are fewer than 4 volumes.
    OptionError
        If ``min_lag`` is less than 1, or the two leave some row fewer than 3 entries.

    Examples
    --------
    >>> lags = abs(np.subtract.outer(np.arange(6), np.arange(6)))
    >>> row_agreement(-lags, -2 * lags, band=3).round(12).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    pair = [np.asarray(matrix, dtype=np.float64) for matrix in (model, measured)]
    shapes = [matrix.shape for matrix in pair]
    if any(len(shape) < 2 or shape[-1] != shape[-2] for shape in shapes) or (
        shapes[0][-1] != shapes[1][-1]
    ):
        message = (
            f"both matrices must be square and of one size; got {shapes[0]} and "
            f"{shapes[1]}. Bring both to the same volumes, trimmed alike."
        )
        raise ShapeError(message)
    n_time = shapes[0][-1]
    counted = _counted(n_time, band, min_lag)
    first, second = (_centred_rows(matrix, counted) for matrix in pair)
    products = np.einsum("...ij,...ij->...i", first, second)
    norms = np.sqrt((first**2).sum(axis=-1)) * np.sqrt((second**2).sum(axis=-1))
    undefined = norms == 0
    agreement = products / np.where(undefined, 1.0, norms)
    return np.where(undefined, np.nan, np.clip(agreement, -1.0, 1.0))


def check_lags(n_time: int, band: int | None, min_lag: int) -> None:
    """Refuse lags that leave some volume too few others to compare it with."""
    _counted(n_time, band, min_lag)


def _counted(n_time: int, band: int | None, min_lag: int) -> NDArray[np.bool_]:
    """Return which pairs of volumes count."""
    check_n_times(n_time, _MIN_PAIRS + 1)
    if band is not None and band < _MIN_PAIRS:
        message = (
            f"band must be {_MIN_PAIRS} volumes or more, as the first row has only that "
            f"many entries; got {band}. Use a wider band or none."
        )
        raise OptionError(message, "band")
    if min_lag < 1:
        message = (
            f"min_lag must be 1 volume or more; got {min_lag}. Use 1 to leave out the diagonal "
            "alone."
        )
        raise OptionError(message, "min_lag")
    lags = np.abs(np.subtract.outer(np.arange(n_time), np.arange(n_time)))
    counted: NDArray[np.bool_] = (lags >= min_lag) & (lags <= (n_time if band is None else band))
    fewest = int(counted.sum(axis=1).min())
    if fewest < _MIN_PAIRS:
        message = (
            f"each volume must be compared with {_MIN_PAIRS} others or more; got {fewest} for some "
            f"of {n_time} volumes without those nearer than {min_lag}"
            f"{'' if band is None else f' or farther than {band}'}. Leave out fewer."
        )
        raise OptionError(message)
    return counted


def remove_lag_means(similarity: ArrayLike) -> NDArray[np.float64]:
    """Take the mean over all pairs of volumes equally far apart out of similarity matrices.

    Volumes near each other are alike in whatever passed through a haemodynamic response, and any
    two such matrices therefore agree. What is left says which moments are more alike than others
    that are as far apart.

    Parameters
    ----------
    similarity : array of shape (..., n_time, n_time)
        Symmetric matrices.

    Returns
    -------
    array of the same shape, float64
        Every diagonal has mean 0.

    Raises
    ------
    ShapeError
        If a matrix is not square.

    Examples
    --------
    >>> lags = abs(np.subtract.outer(np.arange(4), np.arange(4)))
    >>> remove_lag_means(np.exp(-lags)).round(12).any()
    np.False_
    """
    matrices = np.asarray(similarity, dtype=np.float64)
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        message = (
            f"similarity must have shape (..., n_time, n_time); got {matrices.shape}. Give square "
            "matrices."
        )
        raise ShapeError(message)
    n_time = matrices.shape[-1]
    times = np.arange(n_time)
    lags = np.abs(np.subtract.outer(times, times)).ravel()
    order = np.argsort(lags, kind="stable")
    starts = np.searchsorted(lags[order], times)
    flat = matrices.reshape(-1, n_time**2)
    means = np.add.reduceat(flat[:, order], starts, axis=1) / np.bincount(lags)
    return (flat - means[:, lags]).reshape(matrices.shape)


def _centred_rows(matrix: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Centre each row over the entries that count; the others, and constant rows, become 0."""
    rows = np.where(counted, matrix, 0.0)
    if not np.isfinite(rows).all():
        message = (
            "similarities must be finite; got NaN or infinity. "
            "Remove volumes or voxels without data before the similarity is computed."
        )
        raise DataError(message)
    n_counted = counted.sum(axis=1)
    means = rows.sum(axis=-1, keepdims=True) / n_counted[:, None]
    centred = np.where(counted, rows - means, 0.0)
    spread = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    rounding = 1e-12 * np.abs(rows).max(axis=-1, keepdims=True) * np.sqrt(n_counted)[:, None]
    return np.where(spread > rounding, centred, 0.0)

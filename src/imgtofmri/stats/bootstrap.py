"""Bootstrap over images: how far an estimate may be from what other images would have given.

For correlations over images the percentiles of the bootstrap are too narrow; see
`imgtofmri.stats.pearson_interval`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.stats.checks import Array, check_level
from imgtofmri.stats.permutation import check_count


def bootstrap_counts(
    n_items: int, n_bootstraps: int, seed: int | Sequence[int] | None = 0
) -> Array:
    """Draw resamples with replacement, as how often each item is in them.

    Parameters
    ----------
    n_items : int
        How many items (images, subjects, boundaries) there are; each resample has as many.
    n_bootstraps : int
        How many resamples.
    seed : int, sequence of int, or None
        The same seed gives the same resamples.

    Returns
    -------
    counts : array of shape (n_bootstraps, n_items), float64
        Rows sum to ``n_items``. A product with them sums each resample's items.

    Examples
    --------
    >>> counts = bootstrap_counts(5, 3, seed=0)
    >>> counts.shape, counts.sum(axis=1).tolist()
    ((3, 5), [5.0, 5.0, 5.0])
    """
    check_count("n_items", n_items)
    check_count("n_bootstraps", n_bootstraps)
    drawn = np.random.default_rng(seed).integers(0, n_items, (n_bootstraps, n_items))
    drawn += np.arange(n_bootstraps)[:, None] * n_items
    counts = np.bincount(drawn.ravel(), minlength=n_bootstraps * n_items)
    return counts.reshape(n_bootstraps, n_items).astype(np.float64)


def bootstrap_interval(draws: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
    """Give a percentile confidence interval from bootstrap draws.

    Parameters
    ----------
    draws : array of shape (n_bootstraps, ...)
        The statistic in each resample. NaN draws (a resample without variation) are passed over.
    level : float
        Coverage, between 0 and 1.

    Returns
    -------
    lower, upper : array of shape (...)
        Bounds; NaN where there are too few draws, see `enough_draws`.

    Raises
    ------
    OptionError
        If ``level`` is not between 0 and 1.
    """
    check_level(level)
    limits = [(1 - level) / 2, (1 + level) / 2]
    values = np.asarray(draws, dtype=np.float64)
    enough = enough_draws(values, 0, level)
    lower, upper = np.nanquantile(np.where(enough, values, 0.0), limits, axis=0)
    return np.where(enough, lower, np.nan), np.where(enough, upper, np.nan)


def enough_draws(draws: Array, axis: int, level: float) -> NDArray[np.bool_]:
    """Tell where there are draws enough for percentiles: 39 for 95 %.

    Of fewer, even the smallest and the largest one lie nearer to each other than that.

    Parameters
    ----------
    draws : array
        NaN are passed over.
    axis : int
        That of the draws.
    level : float
        Coverage, between 0 and 1.

    Returns
    -------
    array of bool, of the shape of ``draws`` without the axis
    """
    n_draws = np.count_nonzero(~np.isnan(draws), axis=axis)
    return np.asarray((n_draws + 1) * (1 - level) >= 2 - 1e-9)


def bootstrap_diagonal(correlations: ArrayLike, counts: Array) -> Array:
    """Give the matched-pattern statistic of a correlation matrix in resamples of its images.

    An image that is drawn twice is not its own mismatch: only pairs of different images count as
    off the diagonal.

    Parameters
    ----------
    correlations : array of shape (n_images, n_images)
        Predicted patterns along rows, measured ones along columns.
    counts : array of shape (n_bootstraps, n_images)
        From `bootstrap_counts`.

    Returns
    -------
    draws : array of shape (n_bootstraps,)
        NaN where a resample holds only one image.
    """
    matrix = np.asarray(correlations, dtype=np.float64)
    diagonal = np.diagonal(matrix)
    matched = counts @ diagonal / counts.sum(axis=1)
    squared = counts**2
    pairs = counts.sum(axis=1) ** 2 - squared.sum(axis=1)
    mismatched = np.einsum("bi,bi->b", counts @ matrix, counts) - squared @ diagonal
    draws = np.full(counts.shape[0], np.nan)
    valid = pairs > 0
    draws[valid] = matched[valid] - mismatched[valid] / pairs[valid]
    return draws

"""Bootstrap over images: how far an estimate may be from what other images would have given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats.checks import Array, paired
from imgtofmri.stats.permutation import check_count
from imgtofmri.stats.scaling import centred

#: Voxels worked on at once, so that memory stays bounded and within the processor's cache.
VOXEL_BLOCK = 512


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
        Bounds.

    Raises
    ------
    OptionError
        If ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        message = f"level must lie between 0 and 1; got {level}. Give 0.95 for 95 percent."
        raise OptionError(message)
    limits = [(1 - level) / 2, (1 + level) / 2]
    lower, upper = np.nanquantile(np.asarray(draws, dtype=np.float64), limits, axis=0)
    return np.asarray(lower), np.asarray(upper)


def weighted_pearson(counts: Array, predicted: Array, measured: Array) -> Array:
    """Correlate columns under weights for the rows: all resamples of all voxels in five products.

    Parameters
    ----------
    counts : array of shape (n_resamples, n_images)
        How often each image is in each resample.
    predicted, measured : array of shape (n_images, n_voxels)
        Responses, best centred over images (it keeps the sums free of cancellation).

    Returns
    -------
    r : array of shape (n_resamples, n_voxels)
        NaN where a resample has no variation.
    """
    n = counts.sum(axis=1, keepdims=True)
    mean_p, mean_m = counts @ predicted / n, counts @ measured / n
    covariance = counts @ (predicted * measured) / n - mean_p * mean_m
    variance_p = counts @ predicted**2 / n - mean_p**2
    variance_m = counts @ measured**2 / n - mean_m**2
    product = variance_p * variance_m
    # What is left of exact cancellation is not variation.
    floor = (1e-12 * np.mean(predicted**2, axis=0)) * np.mean(measured**2, axis=0)
    valid = (product > floor) & (variance_p > 0) & (variance_m > 0)
    r = np.full(product.shape, np.nan)
    np.divide(
        covariance, np.sqrt(product, where=valid, out=np.ones_like(product)), out=r, where=valid
    )
    return np.clip(r, -1.0, 1.0)


def bootstrap_pearson(
    predicted: ArrayLike,
    measured: ArrayLike,
    n_bootstraps: int = 1000,
    level: float = 0.95,
    seed: int | None = 0,
    regions: NDArray[np.bool_] | None = None,
) -> tuple[Array, Array]:
    """Give percentile intervals for each voxel's correlation, or for regions' mean correlation.

    Resampled: images, with replacement, the same ones in all voxels.

    Parameters
    ----------
    predicted, measured : array of shape (n_images, n_voxels)
        Responses to the same images in the same voxels.
    n_bootstraps : int
        How many resamples.
    level : float
        Coverage, between 0 and 1.
    seed : int or None
        The same seed gives the same intervals.
    regions : bool array of shape (n_regions, n_voxels), optional
        Give intervals for the mean over each region's voxels instead. Voxels without variation are
        passed over.

    Returns
    -------
    lower, upper : array of shape (n_voxels,) or (n_regions,)
        Bounds. NaN where there is no variation.

    Raises
    ------
    ShapeError, DataError, OptionError
        If the arrays do not belong together, hold NaN, or have fewer than 3 images.
    """
    first, second = paired(predicted, measured, least=3)
    n_images, n_voxels = first.shape
    if regions is not None and (regions.ndim != 2 or regions.shape[1] != n_voxels):
        message = (
            f"regions must have shape (n_regions, {n_voxels}); got "
            f"{regions.shape}. Give one mask over the voxels for each region."
        )
        raise ShapeError(message)
    counts = bootstrap_counts(n_images, n_bootstraps, seed)
    n_rows = n_voxels if regions is None else len(regions)
    lower, upper = np.full(n_rows, np.nan), np.full(n_rows, np.nan)
    sums, sizes = np.zeros((n_bootstraps, n_rows)), np.zeros((n_bootstraps, n_rows))
    for start in range(0, n_voxels, VOXEL_BLOCK):
        block = slice(start, start + VOXEL_BLOCK)
        r = weighted_pearson(counts, centred(first[:, block], 0), centred(second[:, block], 0))
        if regions is None:
            varies = ~np.isnan(r).all(axis=0)
            if varies.any():
                bounds = bootstrap_interval(r[:, varies], level)
                lower[block][varies], upper[block][varies] = bounds
        else:
            inside = regions[:, block].T.astype(np.float64)
            sums += np.nan_to_num(r) @ inside
            sizes += (~np.isnan(r)).astype(np.float64) @ inside
    if regions is None:
        return lower, upper
    if np.any(sizes.max(axis=0) == 0):
        region = int(np.flatnonzero(sizes.max(axis=0) == 0)[0])
        message = (
            f"every region needs a voxel that varies over images; region "
            f"{region} has none. Leave the region out."
        )
        raise DataError(message)
    means = np.divide(sums, sizes, out=np.full_like(sums, np.nan), where=sizes > 0)
    return bootstrap_interval(means, level)


def bootstrap_diagonal(correlations: ArrayLike, counts: Array) -> Array:
    """Give the matched-pattern statistic of a correlation matrix in resamples of its images.

    An image that is drawn twice is not its own mismatch: only pairs of different images count as
    off the diagonal.

    Parameters
    ----------
    correlations : array of shape (n_images, n_images)
        Predicted patterns along rows, measured ones along columns.
    counts : array of shape (n_bootstraps, n_images)
        From :func:`bootstrap_counts`.

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

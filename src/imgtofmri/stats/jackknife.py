"""The jackknife over images: intervals from what an estimate becomes without each of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError
from imgtofmri.stats.checks import Array, check_level, check_regions, paired
from imgtofmri.stats.scaling import centred

LEAST_IMAGES = 4
"""Of three images, each pair that is left correlates with 1 or -1."""

#: Voxels worked on at once, so that memory stays bounded and within the processor's cache.
VOXEL_BLOCK = 512

# Keeps Fisher's z of a correlation of 1 finite.
_LARGEST_R = 1 - 1e-12


def jackknife_interval(
    estimate: ArrayLike, left_out: ArrayLike, level: float = 0.95
) -> tuple[Array, Array]:
    """Give Tukey's confidence interval from an estimate and its values without each item.

    Parameters
    ----------
    estimate : array of shape (...)
        From all items.
    left_out : array of shape (n_items, ...)
        The same estimate from all items but one.
    level : float
        Coverage, between 0 and 1.

    Returns
    -------
    lower, upper : array of shape (...)
        The mean of the pseudo-values, which is free of bias of the order of 1 / n, give or take
        their standard error times the quantile of Student's t with n - 1 degrees of freedom.

    Raises
    ------
    OptionError
        If ``level`` is not between 0 and 1.

    References
    ----------
    Miller RG (1974), doi:10.1093/biomet/61.1.1.
    """
    pseudo = pseudo_values(estimate, left_out)
    half = t_quantile(len(pseudo), level) * pseudo.std(axis=0, ddof=1) / np.sqrt(len(pseudo))
    middle = pseudo.mean(axis=0)
    return np.asarray(middle - half), np.asarray(middle + half)


def pseudo_values(estimate: ArrayLike, left_out: ArrayLike) -> Array:
    """Return ``n estimate - (n - 1) left_out``, shape (n_items, ...)."""
    without = np.asarray(left_out, dtype=np.float64)
    n = len(without)
    return np.asarray(n * np.asarray(estimate, dtype=np.float64) - (n - 1) * without)


def t_quantile(n_items: int, level: float) -> float:
    """Return how many standard errors an interval of a mean of some items reaches.

    Raises
    ------
    OptionError
        If ``level`` is not between 0 and 1.
    """
    from scipy.stats import t

    check_level(level)
    return float(t.ppf((1 + level) / 2, n_items - 1))


def left_out_products(first: Array, second: Array) -> tuple[Array, Array]:
    """Sum products of deviations from the mean over images, of all and of all but each.

    Parameters
    ----------
    first, second : array of shape (n_images, n_voxels)
        Centred over images.

    Returns
    -------
    products : array of shape (n_voxels,)
    left_out : array of shape (n_images, n_voxels)
        About the means of the images that are left.
    """
    n = len(first)
    each = first * second
    products = each.sum(axis=0)
    return products, products - n / (n - 1) * each


def pearson_interval(
    predicted: ArrayLike,
    measured: ArrayLike,
    level: float = 0.95,
    regions: NDArray[np.bool_] | None = None,
) -> tuple[Array, Array]:
    """Give confidence intervals for each voxel's correlation, or for regions' mean correlation.

    Images are the random factor. The interval is the jackknife's of Fisher's z (of the mean r of a
    region, brought to z), turned back to r.

    Parameters
    ----------
    predicted, measured : array of shape (n_images, n_voxels)
        Responses to the same images in the same voxels.
    level : float
        Coverage, between 0 and 1.
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
        If the arrays do not belong together, hold NaN, or have fewer than 4 images, or a region has
        no voxel that varies.

    Notes
    -----
    At 10 images the interval of level .95 held the true correlation in 95 to 97 % of 20,000
    simulations, for true r from 0 to 0.8, with normal, log-normal and heavy-tailed responses; at 20
    and 50 in 95 % with normal ones and 92 to 94 % with the others; at 5 in 98 %. The mean over 40
    voxels was covered as well (`benchmarks/inference.py`). The percentiles of the bootstrap held it
    in 89 to 92 % at 10 images, its BCa interval in 91 to 95 %, Fisher's interval, which takes
    responses to be normal, in 89 to 96 %.

    Without an image a voxel can be left without variation; its r counts as 0 there.
    """
    first, second = paired(predicted, measured, least=LEAST_IMAGES)
    n_images, n_voxels = first.shape
    n_rows = n_voxels if regions is None else len(regions)
    r, without = np.full(n_rows, np.nan), np.full((n_images, n_rows), np.nan)
    if regions is not None:
        check_regions(regions, n_voxels)
        r[:], without[:] = 0.0, 0.0
        sizes = np.zeros(n_rows)
    for start in range(0, n_voxels, VOXEL_BLOCK):
        block = slice(start, start + VOXEL_BLOCK)
        own, left = _correlations(first[:, block], second[:, block])
        if regions is None:
            r[block], without[:, block] = own, left
            continue
        varies = ~np.isnan(own)
        inside = (regions[:, block] & varies).T.astype(np.float64)
        r += np.where(varies, own, 0.0) @ inside
        without += np.where(varies, left, 0.0) @ inside
        sizes += inside.sum(axis=0)
    if regions is not None:
        if np.any(sizes == 0):
            message = (
                f"every region needs a voxel that varies over images; region "
                f"{np.flatnonzero(sizes == 0)[0]} has none. Leave the region out."
            )
            raise DataError(message)
        r, without = r / sizes, without / sizes
    lower, upper = jackknife_interval(fisher_z(r), fisher_z(without), level)
    return np.tanh(lower), np.tanh(upper)


def fisher_z(r: ArrayLike) -> Array:
    """Return Fisher's z of correlations; that of 1 and -1 is large, not infinite."""
    return np.asarray(np.arctanh(np.clip(r, -_LARGEST_R, _LARGEST_R)))


def _correlations(first: Array, second: Array) -> tuple[Array, Array]:
    """Correlate columns over all images, (n_voxels,), and without each, (n_images, n_voxels)."""
    x, y = centred(first, 0), centred(second, 0)
    xy, xy_left = left_out_products(x, y)
    xx, xx_left = left_out_products(x, x)
    yy, yy_left = left_out_products(y, y)
    # What is left of exact cancellation is not variation.
    varies = (xx > 1e-24 * np.sum(first**2, axis=0)) & (yy > 1e-24 * np.sum(second**2, axis=0))
    lengths = np.sqrt(np.where(varies, xx * yy, 1.0))
    left = (xx_left > 1e-12 * xx) & (yy_left > 1e-12 * yy) & varies
    lengths_left = np.sqrt(np.where(left, xx_left * yy_left, 1.0))
    return np.where(varies, xy / lengths, np.nan), np.where(
        varies, np.where(left, xy_left / lengths_left, 0.0), np.nan
    )

"""Encoding accuracy: how well each voxel's responses are predicted over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.stats.checks import Array, check_names, check_regions, paired
from imgtofmri.stats.jackknife import fisher_z
from imgtofmri.stats.multiple import fdr
from imgtofmri.stats.permutation import NullSummary, least_p, permutations
from imgtofmri.stats.scaling import centred, correlatable
from imgtofmri.stats.tails import exponential_tail_p, n_exceedances

#: Voxels permuted at once: 155 images of them fit a core's cache, where gathering rows is fast.
VOXEL_BLOCK = 256


def pearson_r(predicted: ArrayLike, measured: ArrayLike) -> Array:
    """Correlate predicted and measured responses over images, in each voxel.

    Parameters
    ----------
    predicted, measured : array of shape (n_images, n_voxels)
        Responses to the same images in the same voxels.

    Returns
    -------
    r : array of shape (n_voxels,)
        Pearson's r; NaN where either is constant over images.

    Raises
    ------
    ShapeError, DataError
        If the arrays do not belong together, hold NaN, or have fewer than 2 images.

    Examples
    --------
    >>> predicted = [[1.0, 1.0], [2.0, 0.0], [3.0, 2.0]]
    >>> pearson_r(predicted, [[2.0, 7.0], [4.0, 7.0], [7.0, 7.0]]).round(3).tolist()
    [0.993, nan]
    """
    first, second = paired(predicted, measured)
    unit_first, unit_second = correlatable(first, 0), correlatable(second, 0)
    return np.asarray(np.clip(np.einsum("ij,ij->j", unit_first, unit_second), -1.0, 1.0))


def r_squared(predicted: ArrayLike, measured: ArrayLike) -> Array:
    """Give the share of each voxel's variance over images that the prediction explains.

    The coefficient of determination, 1 - SS_residual / SS_total: it asks for the right units and
    offset, not only the right shape, and is negative where the voxel's mean would do better.

    Parameters
    ----------
    predicted, measured : array of shape (n_images, n_voxels)
        Responses in the same units to the same images in the same voxels.

    Returns
    -------
    r2 : array of shape (n_voxels,)
        At most 1; NaN where the measured responses are constant.

    Raises
    ------
    ShapeError, DataError
        If the arrays do not belong together, hold NaN, or have fewer than 2 images.

    Examples
    --------
    >>> r_squared([[1.0], [2.0], [3.0]], [[1.0], [2.0], [4.0]]).round(3).tolist()
    [0.786]
    """
    first, second = paired(predicted, measured)
    residual = np.sum((second - first) ** 2, axis=0)
    total = np.sum(centred(second, 0) ** 2, axis=0)
    varies = total > (1e-12**2) * np.sum(second**2, axis=0)
    return np.asarray(1 - np.divide(residual, total, out=np.full_like(total, np.nan), where=varies))


@dataclass(frozen=True)
class VoxelTest:
    """Each voxel's correlation with its permutation p values, arrays of shape (n_voxels,).

    Attributes
    ----------
    r : array
        Pearson's r over images; NaN where there is no variation.
    p : array
        One-sided (greater) permutation p value. Where fewer than 10 of 200 permutations or more
        reach r, that of a tail fitted to the largest, so that p can lie below one over their
        number, but not below one over that of all orders of the images; see
        `imgtofmri.stats.tails.exponential_tail_p`.
    p_fdr : array
        ``p`` adjusted over the voxels (Benjamini and Hochberg).
    p_max : array
        P value corrected over the voxels by the maximum statistic.
    null_mean, null_sd : array
        Moments of the voxel's null distribution.
    regions : VoxelTest or None
        The same for the mean r over each region's voxels that vary, arrays of shape (n_regions,);
        NaN where none varies. Their p are counted, never fitted.
    """

    r: Array
    p: Array
    p_fdr: Array
    p_max: Array
    null_mean: Array
    null_sd: Array
    regions: VoxelTest | None = None


def permutation_pearson(
    predicted: ArrayLike,
    measured: ArrayLike,
    n_permutations: int = 1000,
    seed: int | None = 0,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    regions: NDArray[np.bool_] | None = None,
) -> VoxelTest:
    """Test each voxel's correlation by permuting which prediction belongs to which image.

    Exchanged under the null: images of the prediction (with ``groups``, only images of the same
    label), the same way in all voxels, so that the maximum statistic accounts for the voxels'
    dependence. The null hypothesis is that the predictions are unrelated to the image.

    Parameters
    ----------
    predicted, measured : array of shape (n_images, n_voxels)
        Responses to the same images in the same voxels.
    n_permutations : int
        How many permutations to draw.
    seed : int or None
        The same seed gives the same result.
    groups : sequence of length n_images, optional
        Labels; images are exchanged only within a label.
    regions : bool array of shape (n_regions, n_voxels), optional
        Also test the mean r over each region's voxels, under the same permutations.

    Returns
    -------
    VoxelTest
        Correlations and p values.

    Raises
    ------
    ShapeError, DataError, OptionError
        If the arrays do not belong together, hold NaN, or have fewer than 2 images.
    """
    first, second = paired(predicted, measured)
    n_images, n_voxels = first.shape
    check_names(None if groups is None else list(groups), n_images, "group")
    if regions is not None:
        check_regions(regions, n_voxels)
    unit_first, unit_second = correlatable(first, 0), correlatable(second, 0)
    r = np.clip(np.einsum("ij,ij->j", unit_first, unit_second), -1.0, 1.0)
    n_fitted = n_exceedances(n_permutations)
    summary = NullSummary(r, n_kept=n_fitted + 1 if n_fitted else 0)
    varies = ~np.isnan(r)
    averaging = np.zeros((n_voxels, 0)) if regions is None else _averaging(regions & varies)
    means = np.where(averaging.any(axis=0), np.where(varies, r, 0.0) @ averaging, np.nan)
    summary_of_regions = NullSummary(means)
    blocks = [
        # Copied, so that a block's rows lie together.
        (
            np.ascontiguousarray(unit_first[:, part]),
            np.ascontiguousarray(unit_second[:, part]),
            part,
        )
        for part in (slice(at, at + VOXEL_BLOCK) for at in range(0, n_voxels, VOXEL_BLOCK))
    ]
    # A chunk of null statistics holds at most some 64 MB however many voxels there are.
    chunk_size = max(1, min(256, (1 << 23) // n_voxels))
    for chunk in permutations(n_images, n_permutations, seed, groups, chunk_size):
        orders = chunk.astype(np.intp)
        null = np.empty((len(orders), n_voxels))
        for rows, columns, part in blocks:
            gathered = np.empty_like(rows)
            for draw, order in enumerate(orders):
                # mode="clip" writes into `out` without a copy; the indices are always valid.
                np.take(rows, order, axis=0, out=gathered, mode="clip")
                null[draw, part] = np.einsum("ij,ij->j", gathered, columns)
        summary.update(null)
        summary_of_regions.update(np.where(varies, null, 0.0) @ averaging)
    p = summary.p
    if n_fitted:
        z, extremes = fisher_z(r), fisher_z(summary.extremes)
        p = exponential_tail_p(z, extremes, n_permutations, p, least_p(n_images, groups))
    of_regions = None
    if regions is not None:
        of_regions = _test(means, summary_of_regions, summary_of_regions.p)
    return _test(r, summary, p, of_regions)


def _averaging(regions: NDArray[np.bool_]) -> Array:
    """Return the matrix that takes voxels' values to regions' means; an empty region's is 0."""
    sizes = regions.sum(axis=1, keepdims=True)
    return np.asarray((regions / np.maximum(sizes, 1)).T)


def _test(r: Array, null: NullSummary, p: Array, regions: VoxelTest | None = None) -> VoxelTest:
    return VoxelTest(
        r=r,
        p=p,
        p_fdr=fdr(p),
        p_max=null.p_max,
        null_mean=null.mean,
        null_sd=null.sd,
        regions=regions,
    )

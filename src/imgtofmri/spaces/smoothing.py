"""Gaussian smoothing on a voxel grid, as a kernel and as a sparse matrix, and the group mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse

from imgtofmri.exceptions import OptionError
from imgtofmri.spaces.grids import BoolArray, FloatArray, Grid, IntArray

OVERLAP_SIGMA_MM = 1.0
OVERLAP_FRACTION = 0.15
"""The published model's group mask: a voxel belongs to an ROI where the ROI's mask, smoothed by
``OVERLAP_SIGMA_MM``, exceeds this fraction of its maximum."""


def gaussian_kernel(sigma_mm: float, voxel_mm: float) -> npt.NDArray[np.float64]:
    """Return the weights of a Gaussian along one axis, as ``fslmaths -s`` uses them.

    Parameters
    ----------
    sigma_mm, voxel_mm : float
        Standard deviation and voxel edge, in millimetres.

    Returns
    -------
    array of shape (n_taps,), float64
        ``n_taps = 2 * ceil(4 * sigma_mm / voxel_mm) + 1``; the weights sum to 1.

    Raises
    ------
    OptionError
        If ``sigma_mm`` is not a positive number.

    Examples
    --------
    >>> len(gaussian_kernel(1.0, 2.0)), len(gaussian_kernel(1.25, 2.0))
    (5, 7)
    """
    if not (np.isfinite(sigma_mm) and sigma_mm > 0):
        message = (
            f"sigma_mm must be a positive number of millimetres; got {sigma_mm}. "
            "The published model uses 1.0."
        )
        raise OptionError(message)
    radius = int(np.ceil(4 * sigma_mm / voxel_mm))
    offsets = np.arange(-radius, radius + 1) * voxel_mm
    weights: npt.NDArray[np.float64] = np.exp(-0.5 * (offsets / sigma_mm) ** 2)
    weights /= weights.sum()
    return weights


def smoothing_matrix(sources: IntArray, grid: Grid, sigma_mm: float) -> scipy.sparse.csr_array:
    """Return the matrix that smooths an image which is zero outside some voxels.

    Parameters
    ----------
    sources : array of shape (n_sources,)
        Flat indices of the voxels that may differ from zero.
    grid : Grid
    sigma_mm : float
        Standard deviation of the Gaussian in millimetres.

    Returns
    -------
    sparse array of shape (grid.n_voxels, n_sources), float64
        Values beyond the grid's edge count as zero.
    """
    rows, weights, counts = _spread(sources, grid, sigma_mm)
    starts = np.concatenate([[0], np.cumsum(counts)])
    # Rows lie in order within each column, so that nothing needs to be sorted.
    columns = scipy.sparse.csc_array((weights, rows, starts), shape=(grid.n_voxels, len(sources)))
    return columns.tocsr()


def _spread(
    sources: IntArray, grid: Grid, sigma_mm: float
) -> tuple[IntArray, npt.NDArray[np.float64], IntArray]:
    """Return which voxels each source reaches, in order, with which weights; and how many."""
    kernels = [gaussian_kernel(sigma_mm, float(edge)) for edge in grid.voxel_mm]
    weights = np.einsum("i,j,k->ijk", *kernels)
    # One axis after the other: by source, and along the three axes of the kernel.
    rows, inside = np.zeros((1, 1, 1, 1), np.intp), np.ones((1, 1, 1, 1), bool)
    places = np.unravel_index(sources, grid.shape)
    for axis, (place, kernel, size) in enumerate(zip(places, kernels, grid.shape, strict=True)):
        shape = [len(place), 1, 1, 1]
        shape[1 + axis] = len(kernel)
        targets = (place[:, None] + np.arange(len(kernel)) - len(kernel) // 2).reshape(shape)
        rows = rows * size + targets
        inside = inside & (targets >= 0) & (targets < size)
    return rows[inside], np.broadcast_to(weights, inside.shape)[inside], inside.sum(axis=(1, 2, 3))


def smoothed_mask(template_mask: FloatArray, grid: Grid) -> npt.NDArray[np.float64]:
    """Smooth an ROI mask as group masks are made: by 1 mm.

    Parameters
    ----------
    template_mask : array of shape (grid.n_voxels,)
        The mask after its move to the template, in C order.

    Returns
    -------
    array of shape (grid.n_voxels,), float64
    """
    sources = np.flatnonzero(template_mask != 0)  # NumPy finds truth values ten times as fast.
    rows, weights, counts = _spread(sources, grid, OVERLAP_SIGMA_MM)
    given = weights * np.repeat(template_mask[sources], counts)
    return np.asarray(np.bincount(rows, given, minlength=grid.n_voxels), np.float64)


def roi_overlap(
    template_mask: FloatArray, grid: Grid, fraction: float = OVERLAP_FRACTION
) -> BoolArray:
    """Return where a moved ROI mask, smoothed, exceeds a fraction of its maximum.

    Parameters
    ----------
    template_mask : array of shape (grid.n_voxels,)
        As for `smoothed_mask`.
    fraction : float

    Returns
    -------
    array of shape (grid.n_voxels,), bool
    """
    smoothed = smoothed_mask(template_mask, grid)
    above: BoolArray = smoothed > fraction * smoothed.max()
    return above

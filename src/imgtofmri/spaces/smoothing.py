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
    kernels = [gaussian_kernel(sigma_mm, float(edge)) for edge in grid.voxel_mm]
    offsets = np.stack(
        np.meshgrid(*(np.arange(len(k)) - len(k) // 2 for k in kernels), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    weights = np.einsum("i,j,k->ijk", *kernels).ravel()
    positions = np.stack(np.unravel_index(sources, grid.shape), axis=1)
    targets = positions[:, None, :] + offsets[None, :, :]
    inside = ((targets >= 0) & (targets < grid.shape)).all(axis=2)
    source, offset = np.nonzero(inside)
    rows = np.ravel_multi_index(tuple(targets[inside].T), grid.shape)
    return scipy.sparse.csr_array(
        (weights[offset], (rows, source)), shape=(grid.n_voxels, len(sources))
    )


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
    sources = np.flatnonzero(template_mask)
    if not len(sources):
        return np.zeros(grid.n_voxels)
    smoothed: npt.NDArray[np.float64]
    smoothed = smoothing_matrix(sources, grid, OVERLAP_SIGMA_MM) @ template_mask[sources]
    return smoothed


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

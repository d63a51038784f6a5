"""Masks on another grid, and the brain's."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import OptionError
from imgtofmri.spaces.grids import BoolArray, Grid, nearest_voxels, transform, voxel_coordinates

# Samples along each edge of a voxel when the part of it inside an ROI is measured.
_SAMPLES_PER_EDGE = 4


def resample_mask(mask: BoolArray, affine: ArrayLike, grid: Grid) -> BoolArray:
    """Bring a mask to another grid: a voxel belongs to it where half of its volume does.

    Unlike nearest neighbour this keeps an ROI's volume when voxels become larger.

    Parameters
    ----------
    mask : array of shape (x, y, z), bool
        The mask.
    affine : array of shape (4, 4)
        Its voxel indices to millimetres.
    grid : Grid
        Where to bring it.

    Returns
    -------
    array of shape ``grid.shape``, bool
    """
    source = Grid(mask.shape, np.asarray(affine, dtype=np.float64))
    to_source = np.linalg.inv(source.affine) @ grid.affine
    # Only voxels near the mask can hold any of it: sample those, not the whole grid.
    reach = _box(mask, source, grid)
    centres = voxel_coordinates(grid).reshape(*grid.shape, 3)[reach].reshape(-1, 3)
    edge = (np.arange(_SAMPLES_PER_EDGE) + 0.5) / _SAMPLES_PER_EDGE - 0.5
    offsets = np.stack(np.meshgrid(edge, edge, edge, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = np.zeros(len(centres), dtype=np.intp)
    for offset in offsets:
        voxels = nearest_voxels(transform(to_source, centres + offset), source)
        inside += (voxels >= 0) & mask.ravel()[np.maximum(voxels, 0)]
    result = np.zeros(grid.shape, dtype=bool)
    result[reach] = (2 * inside >= len(offsets)).reshape(result[reach].shape)
    return result


def _box(mask: BoolArray, source: Grid, grid: Grid) -> tuple[slice, slice, slice]:
    """Return the part of a grid that a mask on another can reach."""
    voxels = np.argwhere(mask)
    if not len(voxels):
        return slice(0, 0), slice(0, 0), slice(0, 0)
    low, high = voxels.min(axis=0) - 0.5, voxels.max(axis=0) + 0.5
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    reached = transform(np.linalg.inv(grid.affine) @ source.affine, corners)
    start = np.clip(np.floor(reached.min(axis=0)), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(reached.max(axis=0)) + 1, 0, grid.shape).astype(int)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return x, y, z


def brain_mask(
    shape: tuple[int, ...], affine: NDArray[np.float64], space: str = "MNI152NLin6Asym"
) -> BoolArray:
    """Return the brain of the MNI152 template on a grid.

    Parameters
    ----------
    shape : tuple of int
        The grid.
    affine : array of shape (4, 4)
        Voxel to millimetres of the space, RAS+.
    space : str
        The template's name, of MNI152.

    Returns
    -------
    brain : array of the given shape, bool
        The mask that nilearn carries, of ICBM 152 (2009, symmetric), at the nearest voxel. Its
        outline differs from that of MNI152NLin6Asym by a few millimetres in places.

    Raises
    ------
    OptionError
        If the space is another than MNI152.
    """
    from nilearn.datasets import load_mni152_brain_mask
    from nilearn.image import resample_img

    if not space.startswith("MNI152"):
        message = (
            f"space must be one of MNI152, for which there is a brain mask; got {space}. Give a "
            "mask of that template, or take the predicted voxels alone."
        )
        raise OptionError(message, "space")
    resampled = resample_img(
        load_mni152_brain_mask(resolution=2),
        target_affine=affine,
        target_shape=shape,
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    )
    return np.asarray(resampled.dataobj) > 0

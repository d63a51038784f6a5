"""Voxel grids, and the sparse matrices that move responses between them and smooth them.

Two conventions hold throughout. A voxel is named by its flat index in C order. A matrix that moves
values has one row for each voxel of the grid it moves to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
"""An array of real numbers."""

IntArray = npt.NDArray[np.integer[Any]]
"""An array of whole numbers."""

BoolArray = npt.NDArray[np.bool_]
"""An array of truth values."""


MOST_MM = 1e6
"""How far from the origin a voxel can be."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A regular grid of voxels.

    Attributes
    ----------
    shape : tuple of three ints
        Number of voxels along each axis.
    affine : array of shape (4, 4), float64
        Voxel indices to millimetres, RAS+.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    @property
    def n_voxels(self) -> int:
        """Number of voxels in the grid."""
        return int(np.prod(self.shape))

    @property
    def voxel_mm(self) -> npt.NDArray[np.float64]:
        """Edge lengths of a voxel in millimetres, shape (3,)."""
        lengths: npt.NDArray[np.float64] = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return lengths

    @property
    def fault(self) -> str:
        """What an affine of unknown origin should do and does not: empty if nothing is wrong.

        Examples
        --------
        >>> Grid((2, 2, 2), np.zeros((4, 4))).fault
        'be invertible'
        """
        affine = self.affine
        if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 1e-9:
            return "be invertible"
        if affine[3].tolist() != [0, 0, 0, 1]:
            return "end in 0, 0, 0, 1"
        if np.abs(affine).max() > MOST_MM:
            return f"lead to less than {MOST_MM:g} mm"
        return ""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and self.shape == other.shape
            and np.allclose(self.affine, other.affine, atol=1e-4)
        )

    def __hash__(self) -> int:
        return hash(self.shape)


MNI152_2MM = Grid(
    (91, 109, 91),
    np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]),
)
"""The 2 mm grid of MNI152NLin6Asym, as FSL distributes it."""


@dataclass(frozen=True, slots=True)
class VoxelMap:
    """Where each template voxel's value comes from: a sparse matrix as three arrays.

    Attributes
    ----------
    template, native : arrays of shape (n_entries,), int32
        Flat indices of voxels in the two grids.
    weight : array of shape (n_entries,), float32
        The share of the native voxel's value in the template voxel's. Nearest neighbour is all 1.
    """

    template: npt.NDArray[np.int32]
    native: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]

    def restrict(self, native_voxels: IntArray) -> VoxelMap:
        """Keep the entries whose native voxel is one of ``native_voxels``."""
        kept = np.isin(self.native, native_voxels)
        return VoxelMap(self.template[kept], self.native[kept], self.weight[kept])


def transform(affine: FloatArray, points: FloatArray) -> npt.NDArray[np.float64]:
    """Apply an affine to points.

    Parameters
    ----------
    affine : array of shape (4, 4)
    points : array of shape (n, 3)

    Returns
    -------
    array of shape (n, 3), float64
    """
    moved: npt.NDArray[np.float64] = points @ affine[:3, :3].T + affine[:3, 3]
    return moved


def nearest_voxels(points: FloatArray, grid: Grid) -> npt.NDArray[np.int64]:
    """Return the voxel nearest to each point, or -1 outside the grid.

    Parameters
    ----------
    points : array of shape (n, 3)
        Voxel coordinates of ``grid``, not rounded. Half-way, the higher index wins.

    Returns
    -------
    array of shape (n,), int64
        Flat indices.
    """
    # Coordinates that come out of an affine product carry rounding noise, which must not decide
    # on which side of a half a point falls; a millionth of a voxel is far above the noise.
    index = np.floor(points + 0.5 + 1e-6).astype(np.int64)
    inside = ((index >= 0) & (index < grid.shape)).all(axis=1)
    flat = np.ravel_multi_index(tuple(np.where(inside[:, None], index, 0).T), grid.shape)
    return np.where(inside, flat, -1)


def voxel_coordinates(grid: Grid) -> npt.NDArray[np.float64]:
    """Return the indices of every voxel in C order, shape (n_voxels, 3)."""
    return np.stack(np.unravel_index(np.arange(grid.n_voxels), grid.shape), axis=1).astype(float)

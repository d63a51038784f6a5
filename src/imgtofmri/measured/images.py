"""Masks, regions and response images in NIfTI files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.spaces import (
    Grid,
    grid_of,
    image_volumes,
    open_series,
    place,
    read_image,
    reading_values,
)
from imgtofmri.stats.checks import whole_mask

# Affines that differ by less, in millimetres, are of one grid.
_SAME_MM = 1e-3
# How far from a whole number a stored one may lie by its scaling alone.
_WHOLE = 1e-3
# Splines take a mask of 0 and 1 a little beyond 1.
_MOST_OF_ONE = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Some voxels of a grid.

    Attributes
    ----------
    inside : array of shape (X, Y, Z), bool
        Which.
    affine : array of shape (4, 4)
        Voxel indices to millimetres, RAS+.
    """

    inside: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "inside", whole_mask(self.inside, "inside"))

    @property
    def n_voxels(self) -> int:
        """How many voxels are inside."""
        return int(np.count_nonzero(self.inside))

    @property
    def voxels(self) -> npt.NDArray[np.intp]:
        """The voxels inside, as flat indices in C order, shape (n_voxels,)."""
        return np.flatnonzero(self.inside)

    @property
    def grid(self) -> Grid:
        """The grid."""
        x, y, z = self.inside.shape
        return Grid((x, y, z), self.affine)

    def take(
        self, volume: npt.NDArray[Any], grid: Grid, path: str | Path, *, resample: bool = False
    ) -> npt.NDArray[np.float32]:
        """Return the values of a volume inside the mask.

        Parameters
        ----------
        volume : array of shape (x, y, z)
            Values on a grid, the mask's or another.
        grid : Grid
            That grid.
        path : path
            The volume's file, for messages.
        resample : bool
            Whether to resample from another grid, linearly, with NaN outside of it.

        Returns
        -------
        values : array of shape (n_voxels,), float32

        Raises
        ------
        ShapeError
            If the grid is another and may not be resampled.
        """
        shape = self.inside.shape
        if volume.shape == shape and np.allclose(grid.affine, self.affine, atol=_SAME_MM):
            return np.asarray(volume[self.inside])
        if not resample:
            where = f"{path}, against the mask"
            check_same_grid(where, volume.shape, grid.affine, shape, self.affine)
        from scipy import ndimage

        to_source = np.linalg.inv(grid.affine) @ self.affine
        points = to_source[:3, :3] @ np.array(np.nonzero(self.inside)) + to_source[:3, 3:]
        values = ndimage.map_coordinates(volume, points, order=1, cval=np.nan)
        return np.asarray(values, dtype=np.float32)


def read_mask(
    path: str | Path,
    value: int | None = None,
    where: str = "",
    *,
    threshold: float | None = None,
    unoriented: Grid | None = None,
) -> Mask:
    """Read a mask image, or one region of an atlas.

    Parameters
    ----------
    path : path
        A 3-D image of 0 and 1, unless ``value`` or ``threshold`` says what else it is.
    value : int, optional
        The label to take from an atlas, an image of whole numbers.
    where : str
        What a message begins with, before the path.
    threshold : float, optional
        Voxels above it are inside, for an image of probabilities, or a mask that was moved by
        splines. What is NaN is outside.
    unoriented : Grid, optional
        The grid of an image whose header gives no orientation.

    Returns
    -------
    Mask

    Raises
    ------
    DataError
        If the file is not a 3-D image, holds other values, or no voxel is inside.
    """
    values, grid = read_image(path, where, unoriented=unoriented)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        message = (
            f"{place(path, where)} must be a 3-D mask image; got shape {values.shape}. Split it."
        )
        raise DataError(message)
    if threshold is not None:
        inside, wanted = values > threshold, f"voxels above {threshold:g}"
    else:
        _check_whole(values, value, place(path, where))
        inside = np.round(values) == (1 if value is None else value)
        wanted = "voxels above 0" if value is None else f"voxels of the label {value}"
    if not inside.any():
        got = "0 everywhere"
        if value is not None:
            got = f"labels {np.unique(values)[:10]}"
        if threshold is not None:
            got = f"at most {np.nanmax(values.astype(np.float64), initial=-np.inf):g}"
        message = (
            f"{place(path, where)} must be a 3-D mask image with {wanted}; got {got}. Check the "
            "file and the label."
        )
        raise DataError(message)
    return Mask(inside, grid.affine)


def _check_whole(values: npt.NDArray[Any], value: int | None, what: str) -> None:
    """Refuse a mask of other values than 0 and 1, and an atlas of others than whole numbers."""
    whole = np.round(values)
    # A comparison with NaN is false, and so is its negation here.
    fits = np.abs(values - whole) <= _WHOLE
    if value is None:
        fits &= (whole == 0) | (whole == 1)
    if fits.all():
        return
    odd = values[~fits]
    shown = ", ".join(f"{item:g}" for item in np.unique(odd)[:3])
    # Some atlases have probabilities in percent, of which 0.5 would take nearly all.
    most = float(np.max(odd[np.isfinite(odd)], initial=0))
    half = most / 2 if most > _MOST_OF_ONE else 0.5
    wanted = "0 and 1" if value is None else "whole numbers, its labels"
    message = (
        f"{what} must hold {wanted}; got {odd.size} voxels of other values, such as {shown}. Save "
        f"it as 0 and 1, or, in a study, say which values are inside: threshold = {half:g} for "
        "what is above, value = 3 for a label of an atlas."
    )
    raise DataError(message)


def read_region(path: str | Path, mask: Mask, resample: bool = False) -> npt.NDArray[np.bool_]:
    """Read a region's mask image as a mask over the voxels of another.

    Parameters
    ----------
    path : path
        A 3-D image of 0 and 1; the region is where it is 1 (above 0.5 after resampling).
    mask : Mask
        The voxels.
    resample : bool
        Whether to resample an image on another grid.

    Returns
    -------
    region : array of shape (n_voxels,), bool

    Raises
    ------
    DataError
        If the file cannot be read, or has no voxel inside the mask.
    ShapeError
        If it lies on another grid and may not be resampled.
    """
    region = read_mask(path)
    values = mask.take(region.inside.astype(np.float32), region.grid, path, resample=resample)
    inside = values > (0.5 if resample else 0)
    if not inside.any():
        message = (
            f"{path} must share voxels with the mask; it shares none of {mask.n_voxels}. Look "
            "whether both are in the same space."
        )
        raise DataError(message)
    return np.asarray(inside)


def check_same_grid(
    where: str,
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64] | None,
    other_shape: tuple[int, ...],
    other_affine: npt.NDArray[np.float64] | None,
) -> None:
    """Refuse two grids that are not the same, to a thousandth of a millimetre."""
    if shape != other_shape:
        message = (
            f"{where}: both must lie on one grid; got shapes {shape} and {other_shape}. "
            "Resample (`resample`), or give data on the same grid."
        )
        raise ShapeError(message)
    if affine is None or other_affine is None:
        return
    if not np.allclose(affine, other_affine, atol=_SAME_MM):
        difference = np.abs(np.asarray(affine) - other_affine).max()
        message = (
            f"{where}: both must lie on one grid; shapes agree ({shape}) but affines differ by up "
            f"to {difference:.3g} mm. Resample (`resample`), or look which affine "
            "is right."
        )
        raise ShapeError(message)


def read_image_rows(
    path: Path,
    voxels: npt.NDArray[np.intp],
    grid: Grid,
    where: str = "",
    *,
    unoriented: Grid | None = None,
) -> npt.NDArray[np.float32]:
    """Return the values of some voxels in each volume of a 4-D image.

    Volumes are read one after another, so that a large image is never held whole.

    Parameters
    ----------
    path : Path
        A 4-D image; volume i is row i.
    voxels : array of shape (n_voxels,), int
        Flat indices, C order.
    grid : Grid
        The grid that the image must have.
    where : str
        What a message begins with, before the path.
    unoriented : Grid, optional
        The grid of an image whose header gives no orientation.

    Returns
    -------
    array of shape (n_volumes, n_voxels), float32
        One row for each volume.

    Raises
    ------
    DataError
        If the image is not 4-D or lies on another grid.
    """
    image = open_series_on(grid, path, where, unoriented=unoriented)
    with reading_values(path, where):
        rows = np.empty((image.shape[3], len(voxels)), dtype=np.float32)
        for row, volume in zip(rows, image_volumes(image, path), strict=True):
            row[:] = volume.reshape(-1)[voxels]
    return rows


def check_volumes(rows: npt.NDArray[Any], where: str) -> None:
    """Refuse a run of which some volumes are 0 in all voxels, as where a scan broke off.

    Parameters
    ----------
    rows : array of shape (n_volumes, n_voxels)
    where : str
        What the message begins with.
    """
    empty = ~rows.any(axis=1)
    if empty.any() and not empty.all():
        message = (
            f"{where} must have values in each volume; got 0 in all voxels in {int(empty.sum())} "
            f"of {len(rows)}, first in volume {int(np.flatnonzero(empty)[0])}. Cut the run to the "
            "volumes that were measured."
        )
        raise DataError(message)


def open_series_on(
    grid: Grid, path: Path, where: str = "", *, unoriented: Grid | None = None
) -> Any:
    """Open a 4-D image on a grid; its values are not read yet. See `read_image_rows`."""
    image = open_series(path, where)
    if grid_of(image, where, unoriented=unoriented) != grid:
        message = (
            f"{place(path, where)} must lie on the grid of the masks, {grid.shape}; it has shape "
            f"{image.shape[:3]} or another affine. Resample one of them to the other."
        )
        raise DataError(message)
    return image

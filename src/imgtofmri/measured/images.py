"""ROI masks and response images in NIfTI files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError
from imgtofmri.spaces import Grid, grid_of, open_image, read_image, reading_values


def read_mask(
    path: Path, value: int | None = None, where: str = "read_mask"
) -> tuple[npt.NDArray[np.intp], Grid]:
    """Return the voxels of a mask.

    Parameters
    ----------
    path : Path
        A 3-D image.
    value : int, optional
        The label to take from an atlas. Default: every voxel above 0.
    where : str
        What a message begins with.

    Returns
    -------
    voxels : array of shape (n_voxels,), int
        Flat indices, C order.
    grid : Grid
        The image's.

    Raises
    ------
    DataError
        If the file is not a 3-D image, or the mask is empty.
    """
    values, grid = read_image(path, where)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        message = f"{where}: a mask is a 3-D image; {path} has shape {values.shape}. Split it."
        raise DataError(message)
    inside = values > 0 if value is None else np.round(values) == value
    voxels = np.flatnonzero(inside)
    if not voxels.size:
        labels = "" if value is None else f" = {value}; labels there: {np.unique(values)[:10]}"
        message = (
            f"{where}: no voxel of {path} is inside the mask{labels}. Check the file and the label."
        )
        raise DataError(message)
    return voxels, grid


def read_image_rows(
    path: Path, voxels: npt.NDArray[np.intp], grid: Grid, where: str = "read_image_rows"
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
        What a message begins with.

    Returns
    -------
    array of shape (n_volumes, n_voxels), float32
        One row for each volume.

    Raises
    ------
    DataError
        If the image is not 4-D or lies on another grid.
    """
    image = open_image(path, where)
    if len(image.shape) != 4:
        message = (
            f"{where}: responses in an image are 4-D, a volume for each row; {path} has shape "
            f"{image.shape}. Join the volumes into one image."
        )
        raise DataError(message)
    if grid_of(image) != grid:
        message = (
            f"{where}: {path} must lie on the grid of the masks, {grid.shape}; it has shape "
            f"{image.shape[:3]} or another affine. Resample one of them to the other."
        )
        raise DataError(message)
    with reading_values(path, where):
        rows = np.empty((image.shape[3], len(voxels)), dtype=np.float32)
        for row, volume in zip(rows, _volumes(image, path), strict=True):
            row[:] = volume.reshape(-1)[voxels]
    return rows


def _volumes(image: Any, path: Path) -> Iterator[npt.NDArray[Any]]:
    """Yield a 4-D image's volumes; a compressed file is read once, from its beginning to its end.

    Slices of a compressed image through nibabel would start from its beginning each time.
    """
    from isal import igzip
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.volumeutils import apply_read_scaling, array_from_file

    proxy, n_volumes = image.dataobj, image.shape[3]
    if not (path.name.endswith(".gz") and isinstance(proxy, ArrayProxy)):
        for number in range(n_volumes):
            yield np.asarray(proxy[..., number])
        return
    shape = image.shape[:3]
    n_bytes = int(np.prod(shape)) * proxy.dtype.itemsize
    with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
        for number in range(n_volumes):
            raw = array_from_file(shape, proxy.dtype, file, proxy.offset + number * n_bytes)
            yield np.asarray(apply_read_scaling(raw, proxy.slope, proxy.inter))

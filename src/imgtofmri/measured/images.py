"""ROI masks and response images in NIfTI files."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError
from imgtofmri.spaces import Grid


def read_grid(path: Path, where: str = "read_grid") -> Grid:
    """Return the grid of an image, its first three axes.

    Parameters
    ----------
    path : Path
        An image that nibabel reads.
    where : str
        What a message begins with.

    Returns
    -------
    Grid
        Shape and affine.

    Raises
    ------
    DataError
        If it is not an image.
    """
    image = _load(path, where)
    x, y, z = (int(size) for size in image.shape[:3])
    return Grid((x, y, z), np.asarray(image.affine, dtype=float))


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
    image = _load(path, where)
    with _whole(path, where):
        values = np.asarray(image.dataobj)
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
    return voxels, read_grid(path, where)


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
    image = _load(path, where)
    if len(image.shape) != 4:
        message = (
            f"{where}: responses in an image are 4-D, a volume for each row; {path} has shape "
            f"{image.shape}. Join the volumes into one image."
        )
        raise DataError(message)
    if read_grid(path, where) != grid:
        message = (
            f"{where}: {path} must lie on the grid of the masks, {grid.shape}; it has shape "
            f"{image.shape[:3]} or another affine. Resample one of them to the other."
        )
        raise DataError(message)
    with _whole(path, where):
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


@contextmanager
def _whole(path: Path, where: str) -> Iterator[None]:
    """Turn what a truncated or damaged file raises when its values are read into one message."""
    from isal.igzip_lib import IsalError

    kinds: Any = (OSError, EOFError, ValueError, zlib.error, IsalError)
    try:
        yield
    except kinds as error:
        said = " ".join(str(error).split())
        message = (
            f"{where}: the values of {path} cannot be read ({said}). The file is truncated or "
            "damaged; copy it from its source."
        )
        raise DataError(message) from error


def _load(path: Path, where: str) -> Any:
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nib.load(path)
    except (ImageFileError, OSError) as error:
        message = f"{where}: {path} cannot be read as an image ({error}). Give a NIfTI file."
        raise DataError(message) from error
    if len(image.shape) < 3:
        message = f"{where}: {path} must have three axes or more; its shape is {image.shape}."
        raise DataError(message)
    return image

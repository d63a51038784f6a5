"""Open NIfTI images, or say which file is at fault."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError
from imgtofmri.spaces.grids import Grid


def place(path: str | Path, where: str = "") -> str:
    """Return what a message about a file begins with: who names it, if that is known, and the file.

    Examples
    --------
    >>> place("mask.nii", "study.toml, line 8"), place("mask.nii")
    ('study.toml, line 8: mask.nii', 'mask.nii')
    """
    return f"{where}: {path}" if where else str(path)


def open_image(path: str | Path, where: str = "") -> Any:
    """Open an image of three axes or more; its values are not read yet.

    Parameters
    ----------
    path : path
        An image that nibabel reads.
    where : str
        What messages begin with, before the path.

    Returns
    -------
    nibabel image

    Raises
    ------
    DataError
        If it is not such an image.
    """
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image: Any = nib.load(path)
    except (OSError, EOFError, ValueError, ImageFileError, HeaderDataError) as error:
        what = "there is no file" if isinstance(error, FileNotFoundError) else error
        message = (
            f"{place(path, where)} must be a NIfTI image; got one that cannot be read ({what}). "
            "See that the path is right and the file is whole."
        )
        raise DataError(message) from error
    if len(image.shape) < 3:
        message = (
            f"{place(path, where)} must have three axes or more; got shape {image.shape}. Give an "
            "image of voxels."
        )
        raise DataError(message)
    return image


@contextmanager
def reading_values(path: str | Path, where: str = "") -> Iterator[None]:
    """Turn what a truncated or damaged image raises when its values are read into one message.

    Parameters
    ----------
    path, where
        As in `open_image`.

    Raises
    ------
    DataError
        If values cannot be read inside the block.
    """
    from isal.igzip_lib import IsalError

    kinds: Any = (OSError, EOFError, ValueError, zlib.error, IsalError)
    try:
        yield
    except kinds as error:
        said = " ".join(str(error).split())
        message = (
            f"{place(path, where)} must be a whole NIfTI image; its values cannot be read "
            f"({said}). It is cut short or damaged: copy it from its source."
        )
        raise DataError(message) from error


def read_image(
    path: str | Path, where: str = "", dtype: npt.DTypeLike | None = None
) -> tuple[npt.NDArray[Any], Grid]:
    """Read an image.

    Parameters
    ----------
    path, where
        As in `open_image`.
    dtype : dtype, optional
        Of the values. Default: as stored and scaled.

    Returns
    -------
    values : array of shape (X, Y, Z, ...)
        All of them.
    grid : Grid
        Of the first three axes.

    Raises
    ------
    DataError
        If it is not an image, or not whole.
    """
    image = open_image(path, where)
    with reading_values(path, where):
        values = np.asarray(image.dataobj, dtype=dtype)
    return values, grid_of(image)


def read_grid(path: str | Path, where: str = "") -> Grid:
    """Return the grid of an image, its first three axes; its values are not read.

    Raises
    ------
    DataError
        If it is not an image.
    """
    return grid_of(open_image(path, where))


def grid_of(image: Any) -> Grid:
    """Return the grid of an open image, its first three axes."""
    x, y, z = (int(size) for size in image.shape[:3])
    return Grid((x, y, z), np.asarray(image.affine, dtype=np.float64))

"""Open images of voxels, NIfTI and MGH, or say which file is at fault."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError
from imgtofmri.files import is_file
from imgtofmri.limits import check_limit
from imgtofmri.spaces.grids import Grid

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz")
"""How the names of images of voxels end."""

# What is read as an image so as to be refused as one of a surface: GIFTI, FreeSurfer's, SUMA's.
_SURFACE_SUFFIXES = tuple(
    (
        ".gii .gii.gz .annot .label .curv .thickness .sulc .area .volume .white .pial .inflated "
        ".sphere .reg .smoothwm .orig .niml.dset"
    ).split()
)
# nibabel reads these through HDF5, which may lead it to other files.
_MINC_SUFFIXES = (".mnc", ".mnc.gz", ".mnc.bz2", ".mnc.zst")
# Where FreeSurfer's header says whether it gives an orientation.
_MGH_FLAG = slice(28, 30)
# Vertices of FreeSurfer's icosahedral surfaces, which its volumes of one line are folded from.
_ICOSAHEDRA = tuple(10 * 4**order + 2 for order in range(3, 8))
# A line of so many voxels is no brain, but the vertices of a surface.
_LEAST_VERTICES = 100
# How many times smaller compression can make anything.
_PACKED = {".gz": 1_100, ".mgz": 1_100, ".bz2": 100_000, ".zst": 100_000}
_MILLIMETRES = {"meter": 1e3, "micron": 1e-3}


def place(path: str | Path, where: str = "") -> str:
    """Return what a message about a file begins with: who names it, if that is known, and the file.

    Examples
    --------
    >>> place("mask.nii", "study.toml, line 8"), place("mask.nii")
    ('study.toml, line 8: mask.nii', 'mask.nii')
    """
    return f"{where}: {path}" if where else str(path)


def is_image(path: str | Path) -> bool:
    """Tell whether a file's name is that of an image, of voxels or, to be refused, of a surface.

    Examples
    --------
    >>> [is_image(name) for name in ("a.nii.gz", "A.MGZ", "lh.a.gii", "a.npy")]
    [True, True, True, False]
    """
    return str(path).lower().endswith((*IMAGE_SUFFIXES, *_SURFACE_SUFFIXES))


def open_image(path: str | Path, where: str = "", *, vectors: bool = False) -> Any:
    """Open an image of three axes or more; its values are not read yet.

    Parameters
    ----------
    path : path
        An image of voxels that nibabel reads.
    where : str
        What messages begin with, before the path.
    vectors : bool
        Whether a fifth axis is wanted. Otherwise axes of length 1 among the fourth and later ones
        are left out where there are more than four: AFNI writes volumes that are no time course
        along the fifth.

    Returns
    -------
    nibabel image

    Raises
    ------
    DataError
        If it is not such an image, but a surface, for example.
    """
    import nibabel as nib

    name = str(path).lower()
    surface = next((end for end in _SURFACE_SUFFIXES if name.endswith(end)), "")
    if surface and is_file(path):
        raise _no_volume(path, where, f"a surface ({surface})")
    if name.endswith(_MINC_SUFFIXES) and is_file(path):
        message = (
            f"{place(path, where)} must be an image of voxels (NIfTI or MGH); got MINC, which is "
            "not read. Convert it with mnc2nii."
        )
        raise DataError(message)
    try:
        image: Any = nib.load(path)
    except Exception as error:  # each format has errors of its own for a damaged file
        what = "there is no file" if isinstance(error, FileNotFoundError) else error
        message = (
            f"{place(path, where)} must be a NIfTI image; got one that cannot be read ({what}). "
            "See that the path is right and the file is whole."
        )
        raise DataError(message) from error
    if surface := _surface_kind(image):
        raise _no_volume(path, where, surface)
    _check_size(image, path, where)
    _check_units(image, path, where)
    if len(image.shape) < 3:
        message = (
            f"{place(path, where)} must have three axes or more; got shape {image.shape}. Give an "
            "image of voxels."
        )
        raise DataError(message)
    if image.get_data_dtype().kind not in "fiu":
        message = (
            f"{place(path, where)} must hold real numbers; got {image.get_data_dtype()}. Give "
            "magnitudes, one number for each voxel."
        )
        raise DataError(message)
    return image if vectors else _without_single_axes(image)


def _without_single_axes(image: Any) -> Any:
    """Return an image of more than four axes without those of length 1 after the third."""
    shape = tuple(int(size) for size in image.shape)
    kept = (*shape[:3], *(size for size in shape[3:] if size != 1))
    if len(shape) <= 4 or len(kept) > 4:
        return image
    values = image.dataobj.reshape(kept)
    return type(image)(values, image.affine, image.header, file_map=image.file_map)


def open_series(path: str | Path, where: str = "") -> Any:
    """Open a 4-D image, one volume after another; its values are not read yet.

    Parameters
    ----------
    path, where
        As in `open_image`.

    Returns
    -------
    nibabel image

    Raises
    ------
    DataError
        If it is not an image, or not 4-D.
    """
    image = open_image(path, where)
    if len(image.shape) != 4:
        message = (
            f"{place(path, where)} must be a 4-D image, one volume after another; got shape "
            f"{image.shape}. Give a whole series; single volumes are joined into one image first."
        )
        raise DataError(message)
    return image


def _check_size(image: Any, path: str | Path, where: str) -> None:
    """Refuse a header that says more than is read, or than the file can hold."""
    shape = tuple(int(size) for size in image.shape)
    if min(shape, default=0) < 0:
        message = f"{place(path, where)} must have axes of some length; got shape {shape}. Mend it."
        raise DataError(message)
    check_limit("voxels", math.prod(shape[:3]), place(path, where), "voxels in a volume")
    n_bytes = math.prod(shape) * int(image.get_data_dtype().itemsize)
    # Of a pair of files, the one that holds the values.
    kept = str(image.file_map["image"].filename or path)
    n_there = Path(kept).stat().st_size
    most = n_there * next(
        (times for end, times in _PACKED.items() if kept.lower().endswith(end)), 1
    )
    if n_bytes > most:
        message = (
            f"{place(path, where)} must be a whole NIfTI image; its header promises {n_bytes:,} "
            f"bytes of values, which {n_there:,} bytes cannot hold. It is cut short or damaged: "
            "copy it from its source."
        )
        raise DataError(message)


def _check_units(image: Any, path: str | Path, where: str) -> None:
    """Refuse a header whose units of space and time are none."""
    try:
        getattr(image.header, "get_xyzt_units", lambda: None)()
    except KeyError as error:
        message = (
            f"{place(path, where)} must have units of space and time that NIfTI knows; got "
            f"xyzt_units {int(image.header['xyzt_units'])}. Mend its header."
        )
        raise DataError(message) from error


def _surface_kind(image: Any) -> str:
    """Return what kind of surface data an open image is; empty if it is one of voxels."""
    import nibabel as nib

    if isinstance(image, nib.Cifti2Image):
        return "grayordinates, most of them of a surface (CIFTI)"
    sizes = sorted(image.shape[:3])
    line = len(sizes) == 3 and sizes[1] == 1
    least = 2 if isinstance(image, nib.MGHImage) else _LEAST_VERTICES
    folded = len(sizes) == 3 and sizes[0] == 1 and math.prod(sizes) in _ICOSAHEDRA
    if folded or (line and sizes[2] >= least):
        return f"the {math.prod(sizes)} vertices of a surface (FreeSurfer)"
    return ""


def _no_volume(path: str | Path, where: str, got: str) -> DataError:
    return DataError(
        f"{place(path, where)} must be an image of voxels (NIfTI or MGH); got {got}. Give "
        "responses and masks in a volume, such as fMRIPrep's .nii.gz images."
    )


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
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # each way of compression has errors of its own
        said = " ".join(str(error).split())
        message = (
            f"{place(path, where)} must be a whole NIfTI image; its values cannot be read "
            f"({said}). It is cut short or damaged: copy it from its source."
        )
        raise DataError(message) from error


def read_image(
    path: str | Path,
    where: str = "",
    dtype: npt.DTypeLike | None = None,
    *,
    unoriented: Grid | None = None,
    vectors: bool = False,
) -> tuple[npt.NDArray[Any], Grid]:
    """Read an image.

    Parameters
    ----------
    path, where, vectors
        As in `open_image`.
    dtype : dtype, optional
        Of the values. Default: as stored and scaled.
    unoriented : Grid, optional
        As in `grid_of`.

    Returns
    -------
    values : array of shape (X, Y, Z, ...)
        All of them.
    grid : Grid
        Of the first three axes.

    Raises
    ------
    DataError
        If it is not an image, or not whole, or gives no orientation.
    """
    image = open_image(path, where, vectors=vectors)
    n_bytes = math.prod(image.shape) * np.dtype(dtype or np.float64).itemsize
    check_limit("array_gb", n_bytes / 1e9, place(path, where), "GB in one array")
    with reading_values(path, where):
        values = np.asarray(image.dataobj, dtype=dtype)
    return values, grid_of(image, where, unoriented=unoriented)


def image_volumes(image: Any, path: Path) -> Iterator[npt.NDArray[Any]]:
    """Yield a 4-D image's volumes; a compressed file is read once, from its beginning to its end.

    Slices of a compressed image through nibabel would start from its beginning each time.
    """
    from isal import igzip
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.volumeutils import apply_read_scaling, array_from_file

    proxy, n_volumes = image.dataobj, image.shape[3]
    if not (path.name.endswith(".gz") and type(proxy) is ArrayProxy):
        for number in range(n_volumes):
            yield np.asarray(proxy[..., number])
        return
    shape = image.shape[:3]
    n_bytes = int(np.prod(shape)) * proxy.dtype.itemsize
    with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
        for number in range(n_volumes):
            raw = array_from_file(shape, proxy.dtype, file, proxy.offset + number * n_bytes)
            yield np.asarray(apply_read_scaling(raw, proxy.slope, proxy.inter))


def read_grid(path: str | Path, where: str = "", *, unoriented: Grid | None = None) -> Grid:
    """Return the grid of an image, its first three axes; its values are not read.

    Raises
    ------
    DataError
        If it is not an image, or gives no orientation.
    """
    return grid_of(open_image(path, where), where, unoriented=unoriented)


def grid_of(image: Any, where: str = "", *, unoriented: Grid | None = None) -> Grid:
    """Return the grid of an open image, its first three axes, in millimetres.

    Parameters
    ----------
    image : nibabel image
        As `open_image` returns it.
    where : str
        What a message begins with, before the image's path.
    unoriented : Grid, optional
        The grid of an image of that shape whose header gives no orientation.

    Returns
    -------
    Grid

    Raises
    ------
    DataError
        If the header gives no orientation (both qform and sform code 0, or MGH's goodRASFlag), and
        nobody says which grid it is; or one that cannot be.
    """
    x, y, z = (int(size) for size in image.shape[:3])
    what = place(image.get_filename() or "the image", where)
    if lacks := _lacks_orientation(image):
        if unoriented is not None and unoriented.shape == (x, y, z):
            return unoriented
        message = (
            f"{what} must say how its voxels lie; got a header without an orientation ({lacks}). "
            "Copy the header of the image that it was made from, or, in a study, name an image on "
            "its grid as the subject's grid."
        )
        raise DataError(message)
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine)) > 0:
        message = (
            f"{what} must have an affine that can be inverted; got {affine.tolist()}. Correct its "
            "header."
        )
        raise DataError(message)
    units = getattr(image.header, "get_xyzt_units", lambda: ("mm", ""))()[0]
    if units in _MILLIMETRES:
        affine = np.diag([_MILLIMETRES[units]] * 3 + [1.0]) @ affine
    return Grid((x, y, z), affine)


def _lacks_orientation(image: Any) -> str:
    """Return why a header does not say how voxels lie, where nibabel guesses; empty if it does."""
    import nibabel as nib

    header = image.header
    if isinstance(image, nib.Nifti1Pair):
        said = header["qform_code"] > 0 or header["sform_code"] > 0
        return "" if said else "qform and sform code are 0"
    if isinstance(image, nib.MGHImage):
        # nibabel puts a usual orientation in place of none, and sets the flag.
        with image.file_map["image"].get_prepare_fileobj("rb") as file:
            said = any(file.read(_MGH_FLAG.stop)[_MGH_FLAG])
        return "" if said else "goodRASFlag is 0"
    return "it is an Analyze file" if isinstance(image, nib.AnalyzeImage) else ""

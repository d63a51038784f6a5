"""4-D NIfTI files written a volume at a time, with memory for one volume."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgtofmri.outputs.gzip_pieces import GZIP_LEVEL
from imgtofmri.outputs.volumes import fortran_places, set_template_header

Float32Array: TypeAlias = NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]
DtypeName: TypeAlias = Literal["float32", "int16"]

DTYPES: tuple[str, ...] = ("float32", "int16")
_INT16_MAX = 32767


def write_run(
    path: Path,
    blocks: Iterable[Float32Array],
    *,
    mask: BoolArray,
    affine: NDArray[np.float64],
    n_volumes: int,
    tr_s: float,
    dtype: DtypeName = "float32",
    largest: float = 0.0,
) -> None:
    """Write a run to a compressed NIfTI file as its volumes come.

    Parameters
    ----------
    path : Path
        A new file, ``.nii.gz``.
    blocks : iterable of array of shape (n_block, n_voxels)
        Volumes in order, ``n_volumes`` in all; voxels in C order of the mask.
    mask : array of shape (X, Y, Z), bool
        Where the voxels are; 0 elsewhere.
    affine : array of shape (4, 4)
        Voxel to millimetres, RAS+, written as sform and qform with code 4 (MNI152).
    n_volumes : int
        Number of volumes.
    tr_s : float
        Time step in the header, in seconds.
    dtype : {"float32", "int16"}
        Type of the stored values. int16 is scaled, in steps of ``largest / 32767``.
    largest : float
        The largest magnitude that int16 must hold; beyond it values are clipped.

    Notes
    -----
    The bytes depend on the arguments alone: the gzip header holds neither a time nor a name.
    """
    import nibabel as nib
    from isal import igzip

    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape((*mask.shape, n_volumes))
    set_template_header(header, affine, tr_s)
    step = 1.0
    if dtype == "int16":
        step = largest / _INT16_MAX if largest > 0 else 1.0
        header.set_slope_inter(step, 0.0)
    places = fortran_places(mask)
    volume = np.zeros(mask.size, dtype=dtype)
    opener: Any = igzip.IGzipFile
    with (
        path.open("wb") as raw,
        opener(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=raw, mtime=0) as file,
    ):
        header.write_to(file)
        for block in blocks:
            for values in block:
                volume[places] = _stored(values, dtype, step)
                file.write(volume.data)


def write_mask(path: Path, mask: BoolArray, affine: NDArray[np.float64]) -> None:
    """Write a mask as a compressed NIfTI file of 0 and 1.

    Parameters
    ----------
    path : Path
        A new file, ``.nii.gz``.
    mask : array of shape (X, Y, Z), bool
        The mask.
    affine : array of shape (4, 4)
        Voxel to millimetres, RAS+.
    """
    import nibabel as nib
    from isal import igzip

    image = nib.Nifti1Image(mask.astype(np.uint8), affine)
    set_template_header(image.header, affine)
    path.write_bytes(igzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0))


def _stored(values: Float32Array, dtype: DtypeName, step: float) -> NDArray[Any]:
    """Return the numbers that the file holds for these values."""
    if dtype == "float32":
        return values
    steps: NDArray[np.int16] = np.clip(np.rint(values / step), -_INT16_MAX, _INT16_MAX).astype(
        np.int16
    )
    return steps

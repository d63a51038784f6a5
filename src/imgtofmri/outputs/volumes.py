"""Maps of one mask as NIfTI: in memory, and as compressed files that are written whole."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.files import write_whole
from imgtofmri.outputs.gzip_pieces import GZIP_HEADER, crc32, deflate, join_crc32

if TYPE_CHECKING:
    import nibabel as nib


class VolumeWriter:
    """Writes maps of one mask as .nii.gz files.

    All that is the same in every file is worked out and compressed once.

    Parameters
    ----------
    mask : array of shape (X, Y, Z), bool
    affine : array of shape (4, 4)
        Voxel indices to millimetres of the template.
    outside : float
        The value outside the mask.
    """

    def __init__(
        self,
        mask: npt.NDArray[np.bool_],
        affine: npt.NDArray[np.float64],
        outside: float = 0.0,
    ) -> None:
        header = nifti_header(mask.shape, affine)
        places = len(header) + 4 * fortran_places(mask)
        first, last = int(places.min()), int(places.max()) + 4
        volume = np.zeros(len(header) + 4 * mask.size, dtype=np.uint8)
        volume[: len(header)] = np.frombuffer(header, dtype=np.uint8)
        volume[len(header) :].view(np.float32)[:] = outside
        # Before the first voxel of the mask and after the last, every volume is the same.
        before, after = volume[:first].data, volume[last:].data
        self._before = GZIP_HEADER + deflate(before, last=False)
        self._after = deflate(after, last=True)
        self._checksums = crc32(before), crc32(after)
        self._n_bytes = len(volume), last - first, len(after)
        self._between = np.full((last - first) // 4, outside, dtype=np.float32)
        self._places = (places - first) // 4

    def write(self, path: Path, values: npt.NDArray[np.floating[Any]]) -> str:
        """Write one map.

        Parameters
        ----------
        path : Path
            The file; its folder is made when missing.
        values : array of shape (n_voxels,)
            In C order of the mask.

        Returns
        -------
        str
            SHA-256 of the file.

        Raises
        ------
        OutputError
            If the file cannot be written; what was there stays.
        """
        self._between[self._places] = values
        n_volume, n_between, n_after = self._n_bytes
        before, after = self._checksums
        checksum = join_crc32(before, crc32(self._between.data), n_between)
        checksum = join_crc32(checksum, after, n_after)
        end = struct.pack("<II", checksum, n_volume % 2**32)
        data = self._before + deflate(self._between.data, last=False) + self._after + end
        write_whole(path, data)
        return hashlib.sha256(data).hexdigest()


def nifti_header(
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
    step_s: float | None = None,
    dtype: npt.DTypeLike = np.float32,
    slope: float = 1.0,
) -> bytes:
    """Return the bytes before the data of a single-file NIfTI-1 image.

    Parameters
    ----------
    shape : tuple of int
        Three or four axes.
    affine : array of shape (4, 4)
    step_s : float, optional
        Time between volumes in seconds.
    dtype : dtype
        Of the stored values.
    slope : float
        What a stored value is multiplied with.
    """
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    set_template_header(header, affine, step_s)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    header.set_slope_inter(slope, 0.0)
    return bytes(header.binaryblock) + b"\0\0\0\0"


def fortran_places(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return where the mask's voxels (in C order) lie in NIfTI's order, first axis fastest."""
    return np.asarray(np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F"))


def to_img(
    maps: npt.NDArray[np.floating[Any]],
    mask: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64],
    step_s: float | None = None,
    outside: float = 0.0,
) -> nib.Nifti1Image:
    """Put maps into a NIfTI image on the template's grid.

    Parameters
    ----------
    maps : array of shape (n_maps, n_voxels)
        In C order of the mask.
    mask : array of shape (X, Y, Z), bool
    affine : array of shape (4, 4)
    step_s : float, optional
        Time between maps in seconds, for the header.
    outside : float
        The value outside the mask.

    Returns
    -------
    nibabel.Nifti1Image
        3-D for one map, 4-D for several.
    """
    import nibabel as nib

    data = np.full((*mask.shape, len(maps)), outside, dtype=np.float32)
    data[mask] = maps.T
    image = nib.Nifti1Image(data[..., 0] if len(maps) == 1 else data, affine)
    set_template_header(image.header, affine, step_s)
    return image


def set_template_header(
    header: nib.Nifti1Header, affine: npt.NDArray[np.float64], step_s: float | None = None
) -> None:
    """Mark a header as MNI152 (qform and sform code 4), in millimetres and seconds."""
    header.set_qform(affine, code=4)
    header.set_sform(affine, code=4)
    header.set_xyzt_units("mm", "sec")
    if step_s is not None and header["dim"][0] == 4:
        header["pixdim"][4] = step_s

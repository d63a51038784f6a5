"""NIfTI volumes, compressed and written whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.assets import atomic_path
from imgtofmri.exceptions import OutputError
from imgtofmri.prediction import set_template_header

# On a mostly empty volume, level 2 is as small as zlib's default and some forty times faster.
GZIP_LEVEL = 2
GZIP_WINDOW = 31  # 15 bits of window, plus 16 for a gzip header (with no time in it)


class VolumeWriter:
    """Writes maps of one mask as .nii.gz files.

    The header and the place of each voxel are worked out once.

    Parameters
    ----------
    mask : array of shape (X, Y, Z), bool
    affine : array of shape (4, 4)
        Voxel indices to millimetres of the template.
    """

    def __init__(self, mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> None:
        header = nifti_header(mask.shape, affine)
        self._buffer = np.zeros(len(header) // 4 + mask.size, dtype=np.float32)
        self._buffer[: len(header) // 4] = np.frombuffer(header, dtype=np.float32)
        self._places = len(header) // 4 + fortran_places(mask)

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
        from isal import isal_zlib

        self._buffer[self._places] = values
        data = isal_zlib.compress(self._buffer.data, GZIP_LEVEL, GZIP_WINDOW)
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        except OutputError:
            raise
        except OSError as error:
            reason = error.strerror or error
            message = f"cannot write {path}: {reason}. Make room or choose another folder."
            raise OutputError(message) from error
        return hashlib.sha256(data).hexdigest()


def nifti_header(
    shape: tuple[int, ...], affine: npt.NDArray[np.float64], step_s: float | None = None
) -> bytes:
    """Return the bytes before the data of a float32 single-file NIfTI-1 image.

    Parameters
    ----------
    shape : tuple of int
        Three or four axes.
    affine : array of shape (4, 4)
    step_s : float, optional
        Time between volumes in seconds.
    """
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    set_template_header(header, affine, step_s)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    header["scl_slope"] = 1
    return bytes(header.binaryblock) + b"\0\0\0\0"


def fortran_places(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return where the mask's voxels (in C order) lie in NIfTI's order, first axis fastest."""
    return np.asarray(np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F"))

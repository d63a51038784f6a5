"""Four-dimensional NIfTI files, written volume by volume while the number of volumes is unknown."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import OutputError
from imgtofmri.outputs.gzip_pieces import (
    GZIP_HEADER,
    BrainDeflater,
    crc32,
    deflate,
    join_crc32,
    stored_block,
)
from imgtofmri.outputs.literals import LiteralDeflater
from imgtofmri.outputs.volumes import fortran_places, nifti_header

MAX_VOLUMES = 32_767
"""NIfTI-1 counts volumes with a signed 16-bit number."""

DtypeName: TypeAlias = Literal["float32", "int16"]
DTYPES: tuple[DtypeName, ...] = ("float32", "int16")

_INT16_MAX = 32_767
_BRAIN_VOXELS = 100_000


class SeriesWriter:
    """Writes maps of one mask as a 4-D .nii.gz file, one after the other.

    Use it in a ``with`` block, on a path that `imgtofmri.files.atomic_path` gives: a block that
    fails leaves an unfinished file.

    The NIfTI header says how many volumes follow, and comes first. It is stored in the gzip stream
    as a block of its own that is not compressed, so that its number can be put in when all volumes
    are written; the file stays one plain gzip member, which every reader opens.

    Parameters
    ----------
    path : Path
        Where to write.
    mask : array of shape (X, Y, Z), bool
    affine : array of shape (4, 4)
        Voxel indices to millimetres of the template.
    step_s : float
        Time between volumes in seconds, for the header.
    dtype : {"float32", "int16"}
        Type of the stored values. int16 is scaled, in steps of ``largest / 32767``.
    largest : float
        The largest magnitude that int16 must hold; beyond it values are clipped.

    Attributes
    ----------
    n_volumes : int
        How many were written.
    """

    def __init__(
        self,
        path: Path,
        mask: npt.NDArray[np.bool_],
        affine: npt.NDArray[np.float64],
        step_s: float,
        dtype: DtypeName = "float32",
        largest: float = 0.0,
    ) -> None:
        self.n_volumes = 0
        self._path, self._shape, self._affine, self._step_s = path, mask.shape, affine, step_s
        self._slope = largest / _INT16_MAX if dtype == "int16" and largest > 0 else 1.0
        self._volume = np.zeros(mask.size, dtype=dtype)
        self._places = fortran_places(mask)
        is_brain = len(self._places) > _BRAIN_VOXELS
        self._deflate = (BrainDeflater if is_brain else LiteralDeflater)(self._volume, self._places)
        self._crc32 = 0
        self._file = path.open("wb")
        self._file.write(GZIP_HEADER + stored_block(self._header(1)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()

    def append(self, maps: npt.NDArray[np.floating[Any]]) -> None:
        """Write further maps.

        Parameters
        ----------
        maps : array of shape (n_maps, n_voxels)
            In C order of the mask.

        Raises
        ------
        OutputError
            If there are more maps than a NIfTI-1 file can hold, or no room on the disk.
        """
        if self.n_volumes + len(maps) > MAX_VOLUMES:
            message = (
                f"{self._path.name}: expected at most {MAX_VOLUMES} volumes, the most a NIfTI-1 "
                "file can hold; there are more. Take fewer frames a second, or cut the movie."
            )
            raise OutputError(message)
        try:
            for values in maps:
                self._volume[self._places] = self._stored(values)
                self._crc32 = crc32(self._volume.data, self._crc32)
                self._file.write(self._deflate(self._volume))
                self.n_volumes += 1
        except OSError as error:
            message = f"cannot write {self._path}: {error.strerror}. Make room on the disk."
            raise OutputError(message) from error

    def _stored(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
        """Return the numbers that the file holds for these values."""
        if self._volume.dtype == np.float32:
            return values
        steps: npt.NDArray[Any] = np.rint(values / self._slope)
        np.clip(steps, -_INT16_MAX, _INT16_MAX, out=steps)
        return steps

    def _finish(self) -> None:
        header = self._header(self.n_volumes)
        n_bytes = self.n_volumes * self._volume.nbytes
        checksum = join_crc32(crc32(header), self._crc32, n_bytes)
        size = (len(header) + n_bytes) % 2**32
        self._file.write(deflate(b"", last=True) + struct.pack("<II", checksum, size))
        self._file.seek(len(GZIP_HEADER))
        self._file.write(stored_block(header))

    def _header(self, n_volumes: int) -> bytes:
        shape, dtype = (*self._shape, n_volumes), self._volume.dtype
        return nifti_header(shape, self._affine, self._step_s, dtype, self._slope)

"""Maps of one mask as NIfTI: in memory, and as compressed files that are written whole."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.files import write_whole
from imgtofmri.outputs.gzip_pieces import GZIP_HEADER, crc32, deflate, join_crc32
from imgtofmri.outputs.literals import LiteralDeflater

if TYPE_CHECKING:
    import nibabel as nib


LEAST_COMPRESSED = 0.8
"""The part of its voxels' bytes that a compressed map takes at least: real ones take more."""

DESCRIPTION_BYTES = 79
"""How long a description in a NIfTI-1 header can be."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """What a map's values are, as its header says it to other software.

    Parameters
    ----------
    intent : str
        NIfTI's code by nibabel's name, such as "t test", "p value", "correlation" or "estimate".
    description : str
        A line of ASCII; what does not fit into a header is cut off.
    parameters : tuple of float
        Those of the intent: degrees of freedom of "t test" and "correlation".
    name : str
        A short name of the intent, at most 15 bytes.
    limits : (float, float), optional
        Where a viewer's colours begin and end (cal_min, cal_max). By default as figures have them:
        the 99th percentile of absolute values, and its negative, or 0 where nothing is negative.
    """

    intent: str
    description: str
    parameters: tuple[float, ...] = ()
    name: str = ""
    limits: tuple[float, float] | None = None

    def of(self, values: npt.NDArray[np.floating[Any]]) -> Statistic:
        """Return it with the limits for some values, where it has none yet."""
        if self.limits is not None:
            return self
        finite = values[np.isfinite(values)]
        shown = np.abs(finite[finite != 0])
        end = float(np.percentile(shown, 99)) if shown.size else 1.0
        return replace(self, limits=(-end if (finite < 0).any() else 0.0, end))

    def mark(self, header: nib.Nifti1Header) -> None:
        """Write it into a header."""
        header.set_intent(self.intent, self.parameters, name=self.name)
        header["descrip"] = self.description.encode("ascii", "replace")[:DESCRIPTION_BYTES]
        header["cal_min"], header["cal_max"] = self.limits or (0.0, 0.0)


def least_bytes(n_maps: int, n_voxels: int) -> int:
    """Return how many bytes so many maps take at least as compressed files."""
    return int(LEAST_COMPRESSED * 4 * n_voxels) * n_maps


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
    as_series : bool
        Whether a file is a series of one volume, with four axes.
    """

    def __init__(
        self,
        mask: npt.NDArray[np.bool_],
        affine: npt.NDArray[np.float64],
        outside: float = 0.0,
        as_series: bool = False,
    ) -> None:
        self._shape = (*mask.shape, 1) if as_series else mask.shape
        self._affine = affine
        header = nifti_header(self._shape, affine)
        places = len(header) + 4 * fortran_places(mask)
        first, last = int(places.min()), int(places.max()) + 4
        volume = np.zeros(len(header) + 4 * mask.size, dtype=np.uint8)
        volume[: len(header)] = np.frombuffer(header, dtype=np.uint8)
        volume[len(header) :].view(np.float32)[:] = outside
        # Before the first voxel of the mask and after the last, every volume is the same.
        before, after = volume[:first].tobytes(), volume[last:].data
        self._empty = before[len(header) :]
        self._before, self._checksum = _compressed_start(before)
        self._after, self._checksum_after = deflate(after, last=True), crc32(after)
        self._n_bytes = len(volume), len(after)
        self._between = np.full((last - first) // 4, outside, dtype=np.float32)
        self._places = (places - first) // 4
        self._deflate = LiteralDeflater(self._between, self._places)

    def write(
        self,
        path: Path,
        values: npt.NDArray[np.floating[Any]],
        statistic: Statistic | None = None,
    ) -> str:
        """Write one map.

        Parameters
        ----------
        path : Path
            The file; its folder is made when missing.
        values : array of shape (n_voxels,)
            In C order of the mask.
        statistic : Statistic, optional
            What the values are, for the header.

        Returns
        -------
        str
            SHA-256 of the file.

        Raises
        ------
        OutputError
            If the file cannot be written; what was there stays.
        """
        data = self.encode(values, statistic)
        write_whole(path, data)
        return hashlib.sha256(data).hexdigest()

    def encode(
        self, values: npt.NDArray[np.floating[Any]], statistic: Statistic | None = None
    ) -> bytes:
        """Return the file of one map, as `write` writes it."""
        self._between[self._places] = values
        n_volume, n_after = self._n_bytes
        before, checksum = self._before, self._checksum
        if statistic is not None:
            header = nifti_header(self._shape, self._affine, statistic=statistic.of(values))
            before, checksum = _compressed_start(header + self._empty)
        checksum = crc32(self._between.data, checksum)
        checksum = join_crc32(checksum, self._checksum_after, n_after)
        end = struct.pack("<II", checksum, n_volume % 2**32)
        return b"".join((before, self._deflate(self._between), self._after, end))


def _compressed_start(before: bytes) -> tuple[bytes, int]:
    """Return the start of a gzip member of some first bytes, and their CRC-32."""
    return GZIP_HEADER + deflate(before, last=False), crc32(before)


def nifti_header(
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
    step_s: float | None = None,
    dtype: npt.DTypeLike = np.float32,
    slope: float = 1.0,
    statistic: Statistic | None = None,
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
    statistic : Statistic, optional
        What the values are.
    """
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    set_template_header(header, affine, step_s)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    header.set_slope_inter(slope, 0.0)
    if statistic is not None:
        statistic.mark(header)
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
    statistic: Statistic | None = None,
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
    statistic : Statistic, optional
        What the values are, for the header.

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
    if statistic is not None:
        statistic.of(maps).mark(image.header)
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

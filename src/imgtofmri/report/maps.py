"""Maps of one mask as 16-bit integers, gathered while a run goes on or read from its volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError
from imgtofmri.report.pictures import thumbnail_of
from imgtofmri.spaces import image_volumes, open_series, reading_values
from imgtofmri.stimuli import Frame

if TYPE_CHECKING:
    import nibabel as nib

LARGEST = 32_767
UNKNOWN = -32_768
"""What stands for NaN."""

MOST_MAPS = 2000
"""How many maps a page holds at most: with more, a browser would need too much memory."""

ROUNDING = 1e-6
"""A sum of squares about the mean below this is a constant's: the largest magnitude is 1."""

TOGETHER = 1024
"""Voxels whose products are summed at once."""

SAMPLED = 64
"""From how many maps the colour scale is found."""


class MapRows:
    """Maps as rows of int16, each in steps of its own largest magnitude / 32767.

    Parameters
    ----------
    mask : array of shape (X, Y, Z), bool
        The voxels; maps are in its C order.
    affine : array of shape (4, 4)
    capacity : int
        How many maps may come; no more than `MOST_MAPS` are kept.

    Attributes
    ----------
    names : list of str
        The maps'.
    thumbs : dict of str to str
        Thumbnails of stimuli by their names, as far as a run has seen them.
    """

    def __init__(
        self, mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64], capacity: int
    ) -> None:
        self.mask, self.affine = mask, affine
        rows = min(capacity, MOST_MAPS)
        self._values = np.empty((rows, int(mask.sum())), np.int16)
        self._steps = np.empty(rows, np.float32)
        self.names: list[str] = []
        self.thumbs: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_full(self) -> bool:
        """Whether no more maps are kept."""
        return len(self) == len(self._values)

    @property
    def values(self) -> npt.NDArray[np.int16]:
        """The rows, shape (n_maps, n_voxels)."""
        return self._values[: len(self)]

    @property
    def steps(self) -> npt.NDArray[np.float32]:
        """What each row is multiplied with, shape (n_maps,)."""
        return self._steps[: len(self)]

    def add(self, name: str, values: npt.NDArray[np.floating[Any]]) -> None:
        """Keep a map of shape (n_voxels,), unless as many as are kept have come."""
        if not self.is_full:
            self._values[len(self)], self._steps[len(self)] = quantised(values)
            self.names.append(name)

    def look(self, frame: Frame) -> None:
        """Keep a thumbnail of a stimulus, unless there are as many as maps are kept."""
        if len(self.thumbs) < len(self._values):
            self.thumbs[frame.name] = thumbnail_of(frame.pixels, frame.aspect)

    def unseen(self, names: Sequence[str]) -> list[str]:
        """Return those of the first stimuli, as many as maps are kept, that have no thumbnail."""
        return [name for name in names[: len(self._values)] if name not in self.thumbs]

    def take(self, other: MapRows, row: int) -> None:
        """Keep a map of others, as it is."""
        self._values[len(self)], self._steps[len(self)] = other.values[row], other.steps[row]
        self.names.append(other.names[row])

    def row(self, index: int) -> npt.NDArray[np.float32]:
        """Return a map as numbers again, NaN where it has none."""
        return restored(self.values[index], self.steps[index])

    def in_order(self, names: list[str]) -> MapRows:
        """Return the maps of these names, in their order; those that are missing are left out."""
        place = {name: index for index, name in enumerate(self.names)}
        rows = [place[name] for name in names if name in place]
        if rows == list(range(len(self))):
            return self
        chosen = MapRows(self.mask, self.affine, 0)
        chosen._values, chosen._steps = self._values[rows], self._steps[rows]
        chosen.names = [self.names[row] for row in rows]
        return chosen

    def limit(self) -> float:
        """Return where the colours of all maps end: what 99 of 100 magnitudes do not exceed."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(len(self), SAMPLED)).astype(int))
        found = [np.abs(self.row(row)) for row in rows]
        values = np.concatenate(found) if found else np.empty(0)
        values = values[np.isfinite(values) & (values > 0)]
        return rounded_up(float(np.percentile(values, 99))) if len(values) else 1.0

    def mean(self) -> npt.NDArray[np.float32]:
        """Return the mean map."""
        total = np.zeros(self.values.shape[1])
        for index in range(len(self)):
            total += self.row(index)
        return (total / max(len(self), 1)).astype(np.float32)

    def similarity(self) -> npt.NDArray[np.int16]:
        """Return the correlations of all pairs of maps, over the voxels that all know.

        Returns
        -------
        array of shape (n_maps * (n_maps - 1) / 2,), int16
            In steps of 1 / 32767, the upper triangle row by row; `UNKNOWN` where a map does not
            vary.
        """
        from scipy.linalg.blas import ssyrk

        n_maps = len(self)
        known = np.ones(self.values.shape[1], bool)
        for row in self.values:
            known &= row != UNKNOWN
        if not known.any():
            return np.full(n_maps * (n_maps - 1) // 2, UNKNOWN, np.int16)
        blocks = [slice(start, start + TOGETHER) for start in range(0, len(known), TOGETHER)]
        means = np.zeros(n_maps, np.float32)
        for some in blocks:
            means += self.values[:, some].astype(np.float32) @ known[some].astype(np.float32)
        means /= known.sum() * np.float32(LARGEST)
        # Half a matrix product, as the upper triangle is all that is asked for; some voxels at a
        # time, as all of them as float32 would be twice what the maps are.
        products = np.zeros((n_maps, n_maps), np.float32, order="F")
        for some in blocks:
            scaled = self.values[:, some].astype(np.float32)
            scaled /= LARGEST
            scaled -= means[:, None]
            if not known[some].all():
                scaled[:, ~known[some]] = 0
            products = ssyrk(1.0, scaled.T, 1.0, products, trans=1, overwrite_c=True)
        squares = products.diagonal()
        spread = np.sqrt(np.where(squares > ROUNDING, squares, np.nan))
        found = [
            products[row, row + 1 :] / spread[row] / spread[row + 1 :] for row in range(n_maps)
        ]
        steps = np.rint(np.clip(np.concatenate(found), -1, 1) * LARGEST)
        return np.where(np.isfinite(steps), steps, UNKNOWN).astype(np.int16)


def quantised(
    values: npt.NDArray[np.floating[Any]],
) -> tuple[npt.NDArray[np.int16], np.float32]:
    """Return a map as int16, and the step that it is in."""
    known = np.isfinite(values)
    largest = float(np.abs(values, where=known, out=np.zeros(values.shape)).max(initial=0.0))
    step = np.float32(largest / LARGEST or 1.0)
    steps = np.clip(np.rint(np.where(known, values, 0) / step), -LARGEST, LARGEST)
    return np.where(known, steps, UNKNOWN).astype(np.int16), step


def restored(values: npt.NDArray[np.int16], step: float | np.float32) -> npt.NDArray[np.float32]:
    """Return quantised values as numbers, NaN where there are none."""
    numbers = values * np.float32(step)
    numbers[values == UNKNOWN] = np.nan
    return numbers


def rounded_up(value: float) -> float:
    """Return the next number of two digits, for a scale.

    Examples
    --------
    >>> rounded_up(2.314), rounded_up(0.0567)
    (2.4, 0.057)
    """
    size = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{np.ceil(value / size - 1e-9) * size:.2g}")


def read_volume(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Read a NIfTI file as `read_image` does.

    Returns
    -------
    data : array of shape (X, Y, Z) or (X, Y, Z, n)
    affine : array of shape (4, 4)
    """
    image = read_image(path)
    return np.asarray(image.dataobj, dtype=np.float32), image.affine


def read_series(path: Path) -> tuple[npt.NDArray[np.float64], Iterator[npt.NDArray[np.float32]]]:
    """Open a 4-D NIfTI file, which may be larger than memory, and read one volume after another.

    Returns
    -------
    affine : array of shape (4, 4)
    volumes : iterator of arrays of shape (X, Y, Z)

    Raises
    ------
    DataError
        If it cannot be read, at once or on the way.
    """
    image = open_series(path)

    def volumes() -> Iterator[npt.NDArray[np.float32]]:
        with reading_values(path):
            for volume in image_volumes(image, path):
                yield np.asarray(volume, dtype=np.float32)

    return image.affine, volumes()


def read_image(path: Path) -> nib.Nifti1Image:
    """Read a NIfTI file, whole.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    import nibabel as nib
    from isal import igzip

    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = igzip.decompress(content)  # type: ignore[no-untyped-call]
        image = nib.Nifti1Image.from_bytes(content)
        image.get_fdata(dtype=np.float32, caching="unchanged")
        return image
    # Damaged files make readers raise nearly anything.
    except Exception as error:
        message = (
            f"{path}: expected a NIfTI volume; it cannot be read ({type(error).__name__}: {error})."
            " Run the command again with `overwrite`."
        )
        raise DataError(message) from error

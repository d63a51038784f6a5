"""Four-dimensional files that are written volume by volume."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from imgtofmri.exceptions import OutputError
from imgtofmri.outputs import SeriesWriter, to_img
from imgtofmri.outputs.gzip_pieces import join_crc32

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])


@pytest.fixture
def mask(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return a mask with a few voxels."""
    return rng.random((7, 9, 5)) < 0.3


@pytest.mark.parametrize("sizes", [[1], [3, 1, 4], [16, 16, 7]])
def test_series_writer_equals_nibabel(
    tmp_path: Path, rng: np.random.Generator, mask: npt.NDArray[np.bool_], sizes: list[int]
) -> None:
    """The file that grew by parts holds what nibabel makes of all maps at once, header included."""
    maps = rng.standard_normal((sum(sizes), int(mask.sum()))).astype(np.float32)
    path = tmp_path / "series.nii.gz"
    with SeriesWriter(path, mask, AFFINE, 0.5) as writer:
        for part in np.split(maps, np.cumsum(sizes)[:-1]):
            writer.append(part)
    image = nib.load(path)
    assert image.shape == (*mask.shape, len(maps))
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj)[mask].T, maps)
    if len(maps) > 1:
        expected = to_img(maps, mask, AFFINE, 0.5)
        np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_array_equal(image.affine, expected.affine)
    assert image.header.get_zooms() == (2, 2, 2, 0.5)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (4, 4)


def test_series_writer_int16_equals_nibabel_within_half_a_step(
    tmp_path: Path, rng: np.random.Generator, mask: npt.NDArray[np.bool_]
) -> None:
    """Values are rounded to steps of the largest / 32767, and clipped beyond it."""
    maps = rng.standard_normal((6, int(mask.sum()))).astype(np.float32)
    path = tmp_path / "series.nii.gz"
    with SeriesWriter(path, mask, AFFINE, 0.5, "int16", largest=2.0) as writer:
        writer.append(maps)
    image = nib.load(path)
    step = 2.0 / 32767
    assert image.get_data_dtype() == np.int16
    assert float(image.dataobj.slope) == pytest.approx(step)
    np.testing.assert_allclose(
        image.get_fdata()[mask].T, np.clip(maps, -2.0, 2.0), rtol=0, atol=0.51 * step
    )


def test_series_writer_is_one_valid_gzip_member(
    tmp_path: Path, rng: np.random.Generator, mask: npt.NDArray[np.bool_]
) -> None:
    """One member, whose checksum and length hold: readers that stop at the first see it all."""
    path = tmp_path / "series.nii.gz"
    with SeriesWriter(path, mask, AFFINE, 2.0) as writer:
        writer.append(rng.standard_normal((20, int(mask.sum()))))
    data = path.read_bytes()
    decoder = zlib.decompressobj(31)
    content = decoder.decompress(data)
    assert decoder.eof
    assert decoder.unused_data == b""
    assert content == gzip.decompress(data)
    assert len(content) == 352 + 20 * mask.size * 4


def test_series_writer_too_many_volumes_is_refused(
    tmp_path: Path, mask: npt.NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More volumes than the header can count are refused, with what to do."""
    monkeypatch.setattr("imgtofmri.outputs.series.MAX_VOLUMES", 5)
    maps = np.zeros((4, int(mask.sum())))
    with (
        pytest.raises(OutputError, match="at most 5 volumes.*fewer frames a second"),
        SeriesWriter(tmp_path / "long.nii.gz", mask, AFFINE, 0.5) as writer,
    ):
        writer.append(maps)
        writer.append(maps)


@pytest.mark.parametrize("lengths", [(0, 0), (352, 0), (0, 9), (352, 1), (1, 352), (77, 100_003)])
def test_join_crc32_equals_zlib_of_joined_data(
    rng: np.random.Generator, lengths: tuple[int, int]
) -> None:
    """The checksum of two pieces from their checksums is that of the whole."""
    first, second = (rng.bytes(length) for length in lengths)
    joined = join_crc32(zlib.crc32(first), zlib.crc32(second), len(second))
    assert joined == zlib.crc32(first + second)

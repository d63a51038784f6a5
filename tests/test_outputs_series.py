"""Four-dimensional files that are written volume by volume."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from imgtofmri.exceptions import OutputError
from imgtofmri.outputs import SeriesWriter, VolumeWriter, to_img
from imgtofmri.outputs.gzip_pieces import BrainDeflater, deflate, join_crc32
from imgtofmri.outputs.literals import LiteralDeflater

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


def test_isal_has_no_part_in_the_bytes_of_pictures_and_films(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """ISA-L, whose bytes are not a function of the content alone, has no part in them."""
    from isal import isal_zlib

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(isal_zlib, "compressobj", refuse)
    mask = rng.random((20, 21, 22)) < 0.3
    mask[:, :, 5:15] = False  # A gap that is a piece of its own.
    maps = rng.normal(size=(3, int(mask.sum()))).astype(np.float32)
    maps[:, :50] = 0
    writer = VolumeWriter(mask, np.eye(4))
    for number, values in enumerate(maps):
        writer.write(tmp_path / f"{number}.nii.gz", values)
        found = nib.Nifti1Image.from_filename(tmp_path / f"{number}.nii.gz").get_fdata()
        np.testing.assert_array_equal(found[mask], values)
        assert not found[~mask].any()
    with SeriesWriter(tmp_path / "all.nii.gz", mask, np.eye(4), 1.0) as series:
        series.append(maps)
    with SeriesWriter(tmp_path / "one.nii.gz", mask, np.eye(4), 1.0) as series:
        for values in maps:
            series.append(values[None])
    assert (tmp_path / "all.nii.gz").read_bytes() == (tmp_path / "one.nii.gz").read_bytes()


@pytest.mark.parametrize("deflater", [LiteralDeflater, BrainDeflater])
@pytest.mark.parametrize("number", [np.float32(0), np.float32(np.nan), np.int16(3), np.int16(-1)])
def test_deflaters_join_what_zlib_reads(
    deflater: type[LiteralDeflater | BrainDeflater], number: np.generic, rng: np.random.Generator
) -> None:
    """Wherever the places are: at either end, side by side, far apart, in any order."""
    for places in ([0], [4999], [0, 4999], [7, 3, 2, 1, 4000, 2500], list(range(5000))):
        background = np.full(5000, number)
        deflate_array = deflater(background, np.array(places))
        values = background.copy()
        values[places] = rng.integers(0, 99, len(places))
        data = deflate_array(values) + deflate(b"", last=True)
        assert zlib.decompress(data, wbits=-15) == values.tobytes()
        assert deflate_array(values.copy()) == deflate_array(values)


@pytest.mark.parametrize("number", [np.float32(0), np.float32(2.5), np.int16(0), np.int16(259)])
def test_literal_deflater_gaps_of_any_length_are_read_by_zlib(number: np.generic) -> None:
    """Whatever is left over of a gap when repetitions of 258 bytes are taken from it."""
    background = np.full(70_000, number)
    places = np.cumsum(np.arange(300))
    values = background.copy()
    values[places] = np.arange(len(places)) - 7
    data = LiteralDeflater(background, places)(values) + deflate(b"", last=True)
    assert zlib.decompress(data, wbits=-15) == values.tobytes()


def test_literal_deflater_bytes_are_of_one_length_whatever_the_values(
    rng: np.random.Generator,
) -> None:
    """Each byte can take all its values, and none of them moves another."""
    places = np.sort(rng.choice(3000, 1000, replace=False))
    background = np.zeros(3000, "<i2")
    deflate_array = LiteralDeflater(background, places)
    pieces = []
    for start in range(0, 65536, 1000):
        values = background.copy()
        values[places] = np.arange(start, start + 1000, dtype=np.int64).astype("<i2")
        pieces.append(deflate_array(values))
        read = zlib.decompress(pieces[-1] + deflate(b"", last=True), wbits=-15)
        assert read == values.tobytes()
    assert len({len(piece) for piece in pieces}) == 1


def test_literal_deflater_bytes_are_what_they_were() -> None:
    """The same bytes on every machine, with every zlib: as they were first written."""
    values = np.zeros(2000, np.float32)
    places = np.arange(7, 1500, 3)
    values[places] = places / 8
    piece = LiteralDeflater(np.zeros(2000, np.float32), places)(values)
    assert hashlib.sha256(piece).hexdigest()[:16] == "fa8421c174cb4e06"


def test_whole_brains_in_a_series_are_written_as_they_are(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Where ISA-L compresses, readers find the same numbers."""
    mask = np.ones((50, 50, 41), bool)
    maps = rng.normal(1000, 10, (1, mask.size)).astype(np.float32)
    with SeriesWriter(tmp_path / "x.nii.gz", mask, np.eye(4), 1.0) as series:
        series.append(maps)
    found = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "x.nii.gz").dataobj)
    np.testing.assert_array_equal(found[mask][:, 0], maps[0])

"""Resizing, cropping and converting pictures."""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imgtofmri.exceptions import OptionError, StimulusError
from imgtofmri.limits import limit
from imgtofmri.stimuli import prepare_image
from imgtofmri.stimuli.images import open_image
from imgtofmri.stimuli.pixels import crop_geometry

ODD_SIZES = [
    pytest.param((500, 375), id="landscape"),
    pytest.param((333, 517), id="portrait"),
    pytest.param((1, 7), id="one-wide"),
    pytest.param((9, 1), id="one-high"),
    pytest.param((1, 1), id="one-pixel"),
    pytest.param((224, 224), id="same"),
    pytest.param((225, 223), id="one-off"),
    pytest.param((4000, 31), id="4000-wide", marks=pytest.mark.slow),
    pytest.param((53, 4000), id="4000-high", marks=pytest.mark.slow),
]


def triangle_resize(
    pixels: npt.NDArray[np.uint8], length: int, axis: int, start: int = 0, stop: int | None = None
) -> npt.NDArray[np.uint8]:
    """Resize one axis with an antialiased triangle filter in 22-bit fixed point, by its definition.

    Each output pixel is the sum of the input pixels within the filter's reach, weighted by the
    triangle and divided by the weights' sum; weights are rounded to multiples of 2**-22, and the
    sum to the nearest level, halves up. Only the outputs from start to stop are computed.
    """
    source = np.moveaxis(pixels, axis, 0).astype(np.int64)
    scale = len(source) / length
    stretch = max(scale, 1.0)
    stop = length if stop is None else stop
    out = np.empty((stop - start, *source.shape[1:]), np.uint8)
    for i in range(start, stop):
        center = (i + 0.5) * scale
        first = max(int(center - stretch + 0.5), 0)
        last = min(int(center + stretch + 0.5), len(source))
        distances = np.abs(np.arange(first, last) + 0.5 - center) / stretch
        weights = np.clip(1 - distances, 0, None)
        fixed = np.floor(weights / weights.sum() * 2**22 + 0.5).astype(np.int64)
        total = np.tensordot(fixed, source[first:last], axes=(0, 0)) + 2**21
        out[i - start] = np.clip(total >> 22, 0, 255)
    return np.moveaxis(out, 0, axis)


def resized(pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Resize both axes, rows first, as independently as one axis."""
    return triangle_resize(triangle_resize(pixels, width, 1), height, 0)


@pytest.mark.parametrize("size", ODD_SIZES)
def test_prepare_image_odd_size_equals_triangle_filter(
    size: tuple[int, int], rng: np.random.Generator
) -> None:
    """The whole picture is resized as an antialiased triangle filter in fixed point says."""
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    np.testing.assert_array_equal(prepare_image(pixels), resized(pixels, 224, 224))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # By hand: the long side is cut to whole pixels, (side - 224) / 2 rounds halves to even.
        ((500, 375), (298, 224, 37, 0)),  # 298.67 is cut; 74 / 2 = 37
        ((375, 500), (224, 298, 0, 37)),
        ((640, 427), (335, 224, 56, 0)),  # 335.7; 111 / 2 = 55.5 goes to the even 56
        ((333, 517), (224, 347, 0, 62)),  # 347.8; 123 / 2 = 61.5 goes to the even 62
        ((640, 424), (338, 224, 57, 0)),  # 338.1; 114 / 2 = 57
        ((227, 224), (227, 224, 2, 0)),  # 3 / 2 = 1.5 goes to the even 2
        ((225, 224), (225, 224, 0, 0)),  # 1 / 2 = 0.5 goes to the even 0
        ((229, 224), (229, 224, 2, 0)),  # 5 / 2 = 2.5 goes to the even 2
        ((224, 224), (224, 224, 0, 0)),
        ((1, 7), (224, 1568, 0, 672)),
        ((1, 4000), (224, 896000, 0, 447888)),
    ],
)
def test_crop_geometry_equals_torchvision_rules(
    size: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    """The long side is cut to whole pixels and the crop's beginning rounds halves to even."""
    assert crop_geometry(*size, 224) == expected


@pytest.mark.parametrize("size", ODD_SIZES)
def test_prepare_image_center_crop_equals_resize_then_cut(
    size: tuple[int, int], rng: np.random.Generator
) -> None:
    """A centre crop is the independent resize, cut by torchvision's rules written out."""
    width, height = size
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    short, long = min(size), max(size)
    cut = int(224 * long / short)
    full = resized(pixels, *((224, cut) if width <= height else (cut, 224)))
    top, left = round((full.shape[0] - 224) / 2), round((full.shape[1] - 224) / 2)
    np.testing.assert_array_equal(
        prepare_image(pixels, center_crop=True), full[top : top + 224, left : left + 224]
    )


@pytest.mark.parametrize("size", [(1, 4000), (3, 1601), (1999, 5)])
def test_prepare_image_center_crop_of_strip_equals_part_of_whole(
    size: tuple[int, int], rng: np.random.Generator
) -> None:
    """A strip whose whole resize would be huge gets the same crop, to one level."""
    width, height = size
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    new_width, new_height, left, top = crop_geometry(width, height, 224)
    rows = triangle_resize(pixels, new_width, 1, left, left + 224)
    expected = triangle_resize(rows, new_height, 0, top, top + 224)
    got = prepare_image(pixels, center_crop=True).astype(float)
    assert np.abs(got - expected).max() <= 1


def test_prepare_image_strip_of_ten_thousand_to_one_needs_no_large_picture() -> None:
    """The centre crop of an extreme strip works; resized whole it would have 450 gigapixels."""
    pixels = np.full((90_000, 1, 3), 77, np.uint8)
    assert np.unique(prepare_image(pixels, center_crop=True)).tolist() == [77]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA", "PA"])
def test_prepare_image_opaque_modes_give_their_colour(mode: str) -> None:
    """White, black and grey keep their values in every mode."""
    levels = [0, 255] if mode == "1" else [0, 102, 255]
    for level in levels:
        picture = Image.new("RGB", (8, 6), (level, level, level))
        picture = picture.convert("L").convert(mode) if mode == "1" else picture.convert(mode)
        assert np.unique(prepare_image(picture)).tolist() == [level]


def test_prepare_image_cmyk_gives_subtractive_colours() -> None:
    """Full cyan ink is RGB (0, 255, 255); ink in the black channel darkens."""
    cyan = prepare_image(Image.new("CMYK", (4, 4), (255, 0, 0, 0)))
    dark = prepare_image(Image.new("CMYK", (4, 4), (0, 0, 0, 200)))
    mixed = prepare_image(Image.new("CMYK", (4, 4), (100, 0, 0, 100)))
    assert cyan[0, 0].tolist() == [0, 255, 255]
    assert abs(int(mixed[0, 0, 0]) - (255 - 100) * (255 - 100) / 255) <= 1
    assert mixed[0, 0, 1:].tolist() == [155, 155]
    assert dark[0, 0].tolist() == [55, 55, 55]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_prepare_image_transparency_is_over_white(mode: str) -> None:
    """A picture of opacity a shows a * colour + (1 - a) * white."""
    opacity = 64
    grey = Image.new("L", (4, 4), 100)
    alpha = Image.new("L", (4, 4), opacity)
    bands = [grey] * (3 if mode == "RGBA" else 1)
    pixels = prepare_image(Image.merge(mode, [*bands, alpha]))
    expected = (100 * opacity + 255 * (255 - opacity)) / 255
    assert np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "I;16"])
def test_prepare_image_transparent_colour_of_png_is_white(mode: str) -> None:
    """A PNG that names one colour as transparent shows white there and the rest as it is."""
    background: int | tuple[int, int, int] = 1
    if mode == "P":
        picture = Image.new("P", (8, 8), 1)
        picture.putpalette([10, 10, 10, 0, 0, 0])
        picture.paste(0, (0, 0, 4, 8))
    elif mode == "I;16":
        values = np.full((8, 8), 1, np.uint16)
        values[:, :4] = 10 * 256
        picture = Image.fromarray(values)
    else:
        background = 0 if mode == "L" else (0, 0, 0)
        picture = Image.new(mode, (8, 8), background)
        picture.paste(10 if mode == "L" else (10, 10, 10), (0, 0, 4, 8))
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=background)
    pixels = prepare_image(Image.open(file))
    assert np.unique(pixels[:, :90]).tolist() == [10]
    assert np.unique(pixels[:, -90:]).tolist() == [255]


def png_of(bits: int, n_colours: int, rows: list[bytes], transparent: bytes) -> bytes:
    """Return a PNG, 8 wide, of one or three values a pixel, with a transparent colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 8, len(rows), bits, 2 if n_colours == 3 else 0, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("bits", "row", "transparent", "shown"),
    [
        # Of eight values the last four are transparent; in 8 bits a value is value * 255 / largest.
        (2, [0, 0, 0, 0, 1, 1, 1, 1], 1, 0),
        (2, [1, 1, 1, 1, 2, 2, 2, 2], 2, 85),
        (4, [5, 5, 5, 5, 9, 9, 9, 9], 9, 85),
        (4, [0, 0, 0, 0, 7, 7, 7, 7], 7, 0),
        (8, [85, 85, 85, 85, 9, 9, 9, 9], 9, 85),
    ],
)
def test_read_images_transparent_grey_of_few_bits_is_white(
    tmp_path: Path, bits: int, row: list[int], transparent: int, shown: int
) -> None:
    """A PNG's transparent grey is one of the file's own values, which may have 2 or 4 bits."""
    packed = int("".join(f"{value:0{bits}b}" for value in row), 2).to_bytes(bits, "big")
    path = tmp_path / "figure.png"
    path.write_bytes(png_of(bits, 1, [packed] * 8, struct.pack(">H", transparent)))
    pixels = np.asarray(open_image(path))
    assert np.unique(pixels[:, :4]).tolist() == [shown]
    assert np.unique(pixels[:, 4:]).tolist() == [255]


def test_read_images_transparent_colour_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    """A PNG's transparent colour has 16 bits where its colours have."""
    figure = struct.pack(">HHH", 25600, 12800, 4096)
    background = struct.pack(">HHH", 2570, 1, 65535)
    path = tmp_path / "figure.png"
    path.write_bytes(png_of(16, 3, [figure * 4 + background * 4] * 8, background))
    pixels = np.asarray(open_image(path))
    assert pixels[5, 3].tolist() == [100, 50, 16]
    assert np.unique(pixels[:, 4:]).tolist() == [255]


@pytest.mark.parametrize(
    ("alpha", "shown"),
    [
        pytest.param([0, 0], [[200, 20, 10], [200, 20, 10]], id="0-everywhere"),
        pytest.param([0, 255], [[255, 255, 255], [200, 20, 10]], id="0-in-half"),
    ],
)
def test_read_images_bitmap_whose_fourth_byte_was_left_0_is_opaque(
    tmp_path: Path, alpha: list[int], shown: list[list[int]]
) -> None:
    """Alpha of 0 everywhere is that of programs that leave the byte alone, as viewers know."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, 8, 2835, 2835, 0, 0)
    pixels = b"".join(bytes([10, 20, 200, one]) for one in alpha)
    path = tmp_path / "screen.bmp"
    start = struct.pack("<2sIHHI", b"BM", 130, 0, 0, 122)
    path.write_bytes(start + header + masks + bytes(52) + pixels)
    assert np.asarray(open_image(path))[0].tolist() == shown


def test_prepare_image_sixteen_bit_keeps_high_byte() -> None:
    """Sixteen-bit grey is scaled to 8 bits by its high byte, and never clipped."""
    values = np.repeat(np.array([[0, 255, 256, 32768, 65280, 65535]], np.uint16), 4, axis=0)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    pixels = prepare_image(Image.open(file))
    assert pixels[100, 0, 0] == 0
    assert pixels[100, -1, 0] == 255
    plain = prepare_image((values >> 8).astype(np.uint8))
    np.testing.assert_array_equal(pixels, plain)


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_prepare_image_sixteen_bit_tiff_of_both_byte_orders(byte_order: str) -> None:
    """The byte order of a 16-bit picture does not matter."""
    mode = "I;16" if byte_order == "<u2" else "I;16B"
    values = np.full((5, 7), 0x4001, byte_order)
    picture = Image.frombytes(mode, (7, 5), values.tobytes())
    assert np.unique(prepare_image(picture)).tolist() == [0x40]


@pytest.mark.parametrize(("mode", "kind"), [("I", "32-bit integers"), ("F", "floating-point")])
def test_prepare_image_unknown_scale_is_refused(mode: str, kind: str) -> None:
    """Values without a known black and white are refused, with what to do."""
    with pytest.raises(StimulusError, match=f"got {kind}.*save them as an 8-bit PNG"):
        prepare_image(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_prepare_image_applies_exif_orientation(orientation: int) -> None:
    """A photograph is shown upright, whatever way the camera was held."""
    upright = np.zeros((12, 20, 3), np.uint8)
    upright[:6, :10] = 250
    upright[6:, :10] = 120
    # What the sensor stored, by the EXIF standard's table: which edges row 0 and column 0 are.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(prepare_image(Image.open(file)), prepare_image(upright))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4)), r"expected a uint8 array.*got float64.*astype\(np.uint8\)"),
        (np.zeros((4, 4, 2), np.uint8), r"got uint8 of shape \(4, 4, 2\).*channels last"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"shape \(2, 3, 4, 4\).*one picture"),
        (np.zeros((0, 4, 3), np.uint8), r"at least 1 x 1.*shape \(0, 4, 3\)"),
    ],
)
def test_prepare_image_bad_array_says_what_is_expected(
    array: npt.NDArray[np.uint8], message: str
) -> None:
    """An array of another kind is refused with its shape or type."""
    with pytest.raises(StimulusError, match=message):
        prepare_image(array)


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_prepare_image_arrays_of_all_channel_counts(channels: int | None) -> None:
    """Grey, RGB and RGBA arrays are taken, and the result belongs to the caller."""
    shape = (6, 5) if channels is None else (6, 5, channels)
    pixels = prepare_image(np.full(shape, 255, np.uint8), size=32)
    assert pixels.shape == (32, 32, 3)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    assert pixels.min() == 255


def test_triangle_resize_constant_picture_stays() -> None:
    """The oracle itself keeps a constant picture constant and its mean under halving."""
    assert np.unique(triangle_resize(np.full((30, 7, 3), 200, np.uint8), 11, 0)).tolist() == [200]
    ramp = np.arange(0, 240, 2, dtype=np.uint8)[:, None, None].repeat(3, 2)
    halved = triangle_resize(ramp, 60, 0)
    assert math.isclose(float(halved.mean()), float(ramp.mean()), abs_tol=0.6)


def tiff(
    bits: int,
    photometric: int,
    order: str,
    values: npt.NDArray[Any],
    compression: int = 1,
    orientation: int = 1,
    sample_format: int = 1,
) -> bytes:
    """Return a greyscale TIFF of two strips, values packed without gaps, rows in whole bytes."""
    height, width = values.shape
    rows = (height + 1) // 2
    if bits == 16:
        packed = [row.astype(f"{order}u2").tobytes() for row in values]
    else:
        places = [
            (int(value) >> bit) & 1
            for row in values
            for value in row
            for bit in range(bits - 1, -1, -1)
        ]
        packed = [np.packbits(row).tobytes() for row in np.reshape(places, (height, -1))]
    strips = [b"".join(packed[:rows]), b"".join(packed[rows:])]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    first = 8 + 12 * 12 + 6 + 16
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, compression),
        (262, 3, 1, photometric),
        (273, 4, 2, 8 + 12 * 12 + 6),
        (274, 3, 1, orientation),
        (277, 3, 1, 1),
        (278, 3, 1, rows),
        (279, 4, 2, 8 + 12 * 12 + 6 + 8),
        (284, 3, 1, 1),
        (339, 3, 1, sample_format),
    ]
    entries = b""
    for tag, kind, count, value in tags:
        short = kind == 3 and order == ">"
        entries += struct.pack(f"{order}HHII", tag, kind, count, value << 16 if short else value)
    sizes = [len(strip) for strip in strips]
    places_of = [first, first + sizes[0]]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    tail = struct.pack(f"{order}I4I", 0, *places_of, *sizes)
    return head + entries + tail + b"".join(strips)


RAMP = np.tile(np.linspace(0, 1, 61), (9, 1))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("compression", [1, 8])
def test_read_images_deep_grey_tiff_is_scaled_by_its_depth(
    tmp_path: Path, order: str, photometric: int, bits: int, compression: int
) -> None:
    """Black to white comes out as black to white, whatever depth, byte order and end 0 is."""
    values = np.round(RAMP * (2**bits - 1)).astype(int)
    stored = values if photometric == 1 else 2**bits - 1 - values
    path = tmp_path / "ramp.tif"
    path.write_bytes(tiff(bits, photometric, order, stored, compression))
    grey = np.asarray(open_image(path))
    assert (grey == grey[..., :1]).all()
    np.testing.assert_array_equal(grey[..., 0], values >> (bits - 8))
    assert (grey[:, 0].max(), grey[:, -1].min()) == (0, 255)


def test_read_images_deep_grey_tiff_is_upright(tmp_path: Path) -> None:
    """The orientation that the file asks for is applied, as to every other picture."""
    path = tmp_path / "turned.tif"
    path.write_bytes(tiff(10, 1, "<", np.round(RAMP * 1023).astype(int), orientation=3))
    grey = np.asarray(open_image(path))[..., 0]
    assert (grey[0, 0], grey[0, -1]) == (255, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            tiff(16, 1, "<", np.zeros((4, 4), int), sample_format=2),
            "8-bit or 16-bit values, whose black and white are known; got .*signed 16-bit integers",
        ),
        (tiff(12, 1, ">", np.zeros((4, 4), int))[:-9], "cannot be decoded .*cut short"),
        (tiff(11, 2, "<", np.zeros((4, 4), int)), "a TIFF whose pixels cannot be read"),
        (tiff(10, 1, "<", np.zeros((4, 4), int), 5), "a TIFF whose pixels cannot be read"),
    ],
)
def test_read_images_tiff_of_unknown_scale_says_what_it_is(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """Signed values are not called 32-bit; what is cut or of a kind not known is refused."""
    path = tmp_path / "one.tif"
    path.write_bytes(content)
    with pytest.raises(StimulusError, match=message):
        open_image(path)


@pytest.mark.parametrize(
    ("usual", "other"),
    [((284, 1), (317, 2)), ((277, 1), (277, 2)), ((339, 1), (339, 2))],
    ids=["differences", "two-samples", "signed"],
)
def test_read_images_deep_grey_tiff_of_another_kind_is_not_read_as_if_it_were_plain(
    tmp_path: Path, usual: tuple[int, int], other: tuple[int, int]
) -> None:
    """One tag that says so is enough: differences of neighbours, say, are no values."""
    content = tiff(12, 1, "<", np.round(RAMP * 4095).astype(int), compression=8)
    before, after = (struct.pack("<HHII", tag, 3, 1, value) for tag, value in (usual, other))
    assert content.count(before) == 1
    path = tmp_path / "a.tif"
    path.write_bytes(content.replace(before, after))
    with pytest.raises(StimulusError, match=r"cannot be (read|decoded)|signed 12-bit"):
        open_image(path)


def tagged(
    values: npt.NDArray[Any],
    *,
    big: bool = False,
    more: dict[int, tuple[int, bytes]] | None = None,
    planes: bool = False,
) -> bytes:
    """Return a little-endian TIFF or BigTIFF of whole bytes in one strip, with further tags."""
    height, width, *colours = values.shape
    n, bits = (colours or [1])[0], 8 * values.dtype.itemsize
    raw = (np.moveaxis(values, -1, 0) if planes else values).tobytes()
    strips = n if planes else 1
    place, size, count = ("<Q", 8, "<HHQ") if big else ("<I", 4, "<HHI")
    kind = 16 if big else 4
    numbers = {256: [width], 257: [height], 258: [bits] * n, 259: [1], 262: [1 + (n > 1)]}
    numbers |= {277: [n], 278: [height], 284: [1 + planes]}
    tags = {tag: (3, struct.pack(f"<{len(x)}H", *x)) for tag, x in numbers.items()}
    tags |= more or {}
    begin = (16 if big else 8) + (8 if big else 2) + (len(tags) + 2) * (12 + 2 * size - 8) + size
    begin += 4 * (len(tags) + 2) * big
    offsets = [begin + 999 + len(raw) // strips * number for number in range(strips)]
    tags[273] = (kind, b"".join(struct.pack(place, offset) for offset in offsets))
    tags[279] = (kind, struct.pack(place, len(raw) // strips) * strips)
    widths = {1: 1, 2: 1, 3: 2, 4: 4, 16: 8}
    entries, extra = b"", b""
    for tag, (of, said) in sorted(tags.items()):
        entries += struct.pack(count, tag, of, len(said) // widths[of])
        if len(said) > size:
            entries += struct.pack(place, begin + len(extra))
            extra += said
        else:
            entries += said.ljust(size, b"\0")
    head = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, len(tags)) if big else b""
    head = head or b"II*\0" + struct.pack("<IH", 8, len(tags))
    table = (head + entries + bytes(size)).ljust(begin, b"\0")
    return (table + extra).ljust(begin + 999, b"\0") + raw


EIGHT, SIXTEEN = np.round(RAMP * 255).astype("u1"), np.round(RAMP * 65535).astype("<u2")
TWELVE = np.round(RAMP * 4095).astype("<u2")


GREY_AND_ALPHA = {262: (3, struct.pack("<H", 1)), 338: (3, struct.pack("<H", 2))}


def in_colour(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return three colours that are alike."""
    return np.stack([values] * 3, axis=-1)


@pytest.mark.parametrize("values", [EIGHT, SIXTEEN, in_colour(EIGHT), in_colour(SIXTEEN)])
@pytest.mark.parametrize("big", [False, True])
def test_read_images_bigtiffs_are_read_as_tiffs_are(
    tmp_path: Path, values: npt.NDArray[Any], big: bool
) -> None:
    """Microscopes write headers for files of any size; what they hold is the same."""
    (tmp_path / "a.tif").write_bytes(tagged(values, big=big))
    grey = np.asarray(open_image(tmp_path / "a.tif"))[..., 0]
    np.testing.assert_array_equal(grey, SIXTEEN >> 8 if values.dtype == "<u2" else EIGHT)


OME = b'<OME><Image><Pixels SignificantBits="12" Type="uint16"/></Image></OME>\0'


@pytest.mark.parametrize(
    "more", [{281: (3, struct.pack("<H", 4095))}, {270: (2, OME)}], ids=["largest", "OME"]
)
def test_read_images_twelve_bits_in_sixteen_are_scaled_where_the_file_says_so(
    tmp_path: Path, more: dict[int, tuple[int, bytes]]
) -> None:
    """A camera's 12 bits are white at 4095, also where they are kept in 16."""
    (tmp_path / "a.tif").write_bytes(tagged(TWELVE, more=more))
    grey = np.asarray(open_image(tmp_path / "a.tif"))[..., 0]
    np.testing.assert_array_equal(grey, TWELVE >> 4)
    # A largest value that is no depth is that of the picture.
    (tmp_path / "b.tif").write_bytes(tagged(SIXTEEN, more={281: (3, struct.pack("<H", 30000))}))
    grey = np.asarray(open_image(tmp_path / "b.tif"))[..., 0]
    np.testing.assert_array_equal(grey, SIXTEEN >> 8)


@pytest.mark.parametrize(("photometric", "shown"), [(1, 255), (0, 0)])
def test_read_images_values_above_the_white_that_the_file_tells_are_its_last(
    tmp_path: Path, photometric: int, shown: int
) -> None:
    """Of 12 bits, 4096 and more are as bright as 4095, or as dark where white is 0."""
    values = np.full((9, 61), 4095, "<u2")
    values[:, ::3], values[:, 1::3] = 4096, 65535
    more = {262: (3, struct.pack("<H", photometric)), 281: (3, struct.pack("<H", 4095))}
    (tmp_path / "a.tif").write_bytes(tagged(values, more=more))
    assert np.unique(np.asarray(open_image(tmp_path / "a.tif"))).tolist() == [shown]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tagged(TWELVE), "16-bit values, of which 65535 is white; got values up to 4095, nearly"),
        (tagged(in_colour(TWELVE)), "got values up to 3840, nearly black, as of a camera of 12 b"),
        (tagged(in_colour(TWELVE), more={270: (2, OME)}), "got colours of 12 bits in 16"),
        (tagged(EIGHT // 2, more={339: (3, b"\2\0")}), "known; got signed 8-bit integers"),
        (tagged(in_colour(SIXTEEN), planes=True), "3 colours of 16 bits, one after another"),
        (
            tagged(np.stack([EIGHT] * 2, axis=-1), more=GREY_AND_ALPHA, planes=True),
            "grey and its transparency, one after the other",
        ),
        (b"MM\0\x2b\0\x08\0\0" + bytes(40), "a BigTIFF whose numbers begin with their highest"),
    ],
)
def test_read_images_tiff_that_would_be_dark_or_wrong_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """What Pillow reads as black, or as bytes of values, is no picture of what was meant."""
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(StimulusError, match=message):
        open_image(tmp_path / "a.tif")


def test_read_images_dark_tiffs_of_eight_bits_and_black_ones_are_read(tmp_path: Path) -> None:
    """Only 16 bits of which the lower are used are in doubt; black is black."""
    for values in (EIGHT // 32, in_colour(EIGHT) // 32, SIXTEEN * 0):
        (tmp_path / "a.tif").write_bytes(tagged(values))
        assert np.asarray(open_image(tmp_path / "a.tif")).max() == values.max()


def test_read_images_pgm_is_scaled_by_its_largest_value(tmp_path: Path) -> None:
    """A PGM says how bright white is: 1023 here."""
    path = tmp_path / "ramp.pgm"
    values = np.round(RAMP * 1023).astype(">u2")
    path.write_bytes(b"P5 61 9 1023\n" + values.tobytes())
    grey = np.asarray(open_image(path))[..., 0]
    np.testing.assert_allclose(grey, RAMP * 255, atol=1)


@pytest.mark.parametrize("shape", [(1, 4_000_000), (4_000_000, 1), (100_001, 3)])
def test_pictures_with_a_side_beyond_the_limit_are_refused(shape: tuple[int, int]) -> None:
    """A thin picture of few bytes would take gigabytes to resize."""
    with pytest.raises(StimulusError, match="sides of at most 100,000 pixels; got .*MAX_SIDE"):
        prepare_image(np.zeros(shape, np.uint8))


def test_limits_can_be_set_and_are_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit has an environment variable; a wrong one is a usage error that names it."""
    wide = np.zeros((2, 300), np.uint8)
    assert prepare_image(wide).shape == (224, 224, 3)
    monkeypatch.setenv("IMGTOFMRI_MAX_SIDE", "299")
    with pytest.raises(StimulusError, match="at most 299 pixels; got the picture of 300 x 2"):
        prepare_image(wide)
    monkeypatch.setenv("IMGTOFMRI_MAX_PIXELS", "600")
    with pytest.raises(StimulusError, match="fewer than 0.0006 million pixels"):
        prepare_image(wide)
    for wrong in ("many", "0", "-5", "1e9"):
        monkeypatch.setenv("IMGTOFMRI_MAX_FRAMES", wrong)
        with pytest.raises(OptionError, match="IMGTOFMRI_MAX_FRAMES must be a whole number above"):
            limit("frames")

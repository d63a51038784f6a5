"""TIFFs of more than 8 bits, as microscopes and cameras write them; Pillow reads few of them."""

from __future__ import annotations

import io
import re
import zlib

import numpy as np
from PIL import Image, TiffImagePlugin

from imgtofmri.stimuli.items import check_dimensions, refuse

# TIFF's numbers of tags (TIFF 6.0, section 8).
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _OFFSETS, _ORIENTATION, _N_SAMPLES, _ROWS, _COUNTS = 266, 273, 274, 277, 278, 279
_PREDICTOR, _EXTRA, SAMPLE_FORMAT = 317, 338, 339
_DESCRIPTION, _LARGEST, _PLANES = 270, 281, 284

WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
_PLAIN, _DEFLATE = 1, frozenset({8, 32946})
_UNSIGNED, _SIGNED = 1, 2
# A header says where the first tags are; BigTIFF's takes more bytes for it.
_HEADER, _BIG_HEADER, _BIG, _BIG_ENDIAN_BIG = 8, 16, 43, b"MM\0\x2b"
# How OME's XML says how many of its 16 bits a camera used.
_OME_BITS = re.compile(r'SignificantBits="(\d{1,2})"')
# Pictures of 16 bits whose largest value is lower are of 12 bits, and nobody says so.
_TWELVE_BITS = 1 << 12


def read_deep_grey(data: bytes, name: str) -> Image.Image | None:
    """Read a greyscale TIFF of 9 to 16 bits, in strips, not compressed or by Deflate.

    Parameters
    ----------
    data : bytes
        A whole file.
    name : str
        For messages.

    Returns
    -------
    PIL.Image.Image or None
        In 8 bits, the highest of each value; black is 0 whatever the file says. None if the file
        is of another kind.

    Raises
    ------
    StimulusError
        If it is too large.
    """
    tags = _tags(data)
    (bits, *more) = _all(tags, BITS, 1)
    if more and _one(tags, _PLANES, 1) != 1:
        if max(bits, *more) > 8:
            # Pillow reads bytes of them as if they were values.
            message = f"{len(more) + 1} colours of {bits} bits, one after another"
            raise SyntaxError(message)
        if len(more) == 1 and _one(tags, _EXTRA, 0):
            # Pillow reads the grey alone, as if it were opaque.
            message = "grey and its transparency, one after the other"
            raise SyntaxError(message)
    unusual = ((_FILL_ORDER, 1), (_N_SAMPLES, 1), (_PREDICTOR, 1), (SAMPLE_FORMAT, 1))
    compression, photometric = _one(tags, COMPRESSION, _PLAIN), _one(tags, PHOTOMETRIC, -1)
    # Values of 16 bits are left to Pillow, but for the one kind that it does not know.
    unknown_16 = bits == 16 and photometric == WHITE_IS_ZERO and tags.prefix == b"MM"
    if (
        more
        or not (8 < bits < 16 or unknown_16)
        or photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO)
        or compression not in (_PLAIN, *_DEFLATE)
        or any(_one(tags, tag, usual) != usual for tag, usual in unusual)
        or _OFFSETS not in tags
    ):
        return None
    width, height = _one(tags, WIDTH, 0), _one(tags, HEIGHT, 0)
    check_dimensions((width, height), f"'{name}'")
    n_rows, row_bytes = min(_one(tags, _ROWS, height), height), (width * bits + 7) // 8
    grey = np.empty((height, width), np.uint8)
    strips = zip(_all(tags, _OFFSETS), _all(tags, _COUNTS), strict=True)
    for first, (offset, count) in zip(range(0, height, n_rows), strips, strict=True):
        rows = grey[first : first + n_rows]
        strip, n_bytes = data[offset : offset + count], len(rows) * row_bytes
        if compression in _DEFLATE:
            strip = zlib.decompressobj().decompress(strip, n_bytes)
        if len(strip) < n_bytes:
            message = f"strip at row {first} is cut short"
            raise ValueError(message)
        packed = np.frombuffer(strip[:n_bytes], np.uint8).reshape(len(rows), row_bytes)
        for row, one in zip(rows, packed, strict=True):
            # The highest eight bits of each value are all that is kept.
            values = np.unpackbits(one)[: width * bits].reshape(width, bits)[:, :8]
            row[:] = np.packbits(values, axis=1)[:, 0]
    picture = Image.fromarray(255 - grey if photometric == WHITE_IS_ZERO else grey)
    exif = Image.Exif()
    exif[_ORIENTATION] = _one(tags, _ORIENTATION, 1)
    picture.info["exif"] = exif.tobytes()
    return picture


def depth_of(picture: Image.Image) -> tuple[int, bool]:
    """Return how many bits the values of an open 16-bit picture have, and if 0 is white.

    Pillow holds values of 12 bits in 16, as they are, and leaves 16 bits whose white is 0 as well.
    So do cameras and microscopes; OME's XML or the largest value then says how many they are.
    """
    tags = getattr(picture, "tag_v2", None)
    if tags is None:
        return 16, False
    bits = _one(tags, BITS, 16)
    if bits == 16:
        told = _OME_BITS.search(str(tags.get(_DESCRIPTION, "")))
        # Any other largest value is that of the picture, not of what holds it.
        largest = int(max(_all(tags, _LARGEST, 0)))
        full = largest.bit_length() if largest & (largest + 1) == 0 else 16
        used = int(told[1]) if told else full
        bits = used if 8 < used < 16 else bits
    return bits, _one(tags, PHOTOMETRIC, BLACK_IS_ZERO) == WHITE_IS_ZERO


def signed_bits(picture: Image.Image) -> int:
    """Return how many bits the signed integers of an open TIFF have; 0 if it holds others."""
    tags = getattr(picture, "tag_v2", None)
    if tags is None or _one(tags, SAMPLE_FORMAT, _UNSIGNED) != _SIGNED:
        return 0
    return _one(tags, BITS, 1)


def check_bright(picture: Image.Image, pixels: Image.Image) -> None:
    """Refuse a TIFF of 16 bits of which only the lower 12 are used, though it does not say so.

    Parameters
    ----------
    picture, pixels : PIL.Image.Image
        As it was opened, and decoded.

    Raises
    ------
    StimulusError
    """
    tags = getattr(picture, "tag_v2", None)
    # Where white is 0, what is unused would be bright.
    if tags is None or depth_of(picture) != (16, False):
        return
    if pixels.mode != "RGB" and not pixels.mode.startswith("I;16"):
        return
    brightest = int(np.asarray(pixels).max(initial=0))
    if pixels.mode == "RGB":
        brightest <<= 8  # Pillow has kept the upper eight bits.
    if not 0 < brightest < _TWELVE_BITS:
        return
    expected = "16-bit values, of which 65535 is white"
    got = f"values up to {brightest}, nearly black, as of a camera of 12 bits or fewer"
    remedy = "Scale the values to 0..255 and save them as an 8-bit PNG."
    raise refuse(expected, got, remedy)


def _tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return the tags of a file's first picture."""
    file = io.BytesIO(data)
    if data[:4] == _BIG_ENDIAN_BIG:
        message = "a BigTIFF whose numbers begin with their highest bytes"
        raise SyntaxError(message)
    size = _BIG_HEADER if data[2] == _BIG else _HEADER
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(size))
    file.seek(tags.next)
    tags.load(file)
    return tags


def _all(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int, *usual: int) -> tuple[int, ...]:
    found = tags.get(tag, usual)
    return found if isinstance(found, tuple) else (found,)


def _one(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int, usual: int) -> int:
    return int(_all(tags, tag, usual)[0])

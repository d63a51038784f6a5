"""Greyscale TIFFs of more than 8 bits, as microscopes and cameras write them; Pillow reads few."""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image, TiffImagePlugin

from imgtofmri.stimuli.items import check_dimensions

# TIFF's numbers of tags (TIFF 6.0, section 8).
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _OFFSETS, _ORIENTATION, _N_SAMPLES, _ROWS, _COUNTS = 266, 273, 274, 277, 278, 279
_PREDICTOR, SAMPLE_FORMAT = 317, 339

WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
_PLAIN, _DEFLATE = 1, frozenset({8, 32946})


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
    """Return how many bits the values of an open 16-bit greyscale picture have, and if 0 is white.

    Pillow holds values of 12 bits in 16, as they are, and leaves 16 bits whose white is 0 as well.
    """
    tags = getattr(picture, "tag_v2", None)
    if tags is None:
        return 16, False
    return _one(tags, BITS, 16), _one(tags, PHOTOMETRIC, BLACK_IS_ZERO) == WHITE_IS_ZERO


def is_signed(picture: Image.Image) -> bool:
    """Tell whether an open picture is a TIFF of signed 16-bit integers."""
    tags = getattr(picture, "tag_v2", None)
    return tags is not None and _one(tags, BITS, 0) == 16 and _one(tags, SAMPLE_FORMAT, 1) == 2


def _tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return the tags of a file's first picture."""
    file = io.BytesIO(data)
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
    file.seek(tags.next)
    tags.load(file)
    return tags


def _all(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int, *usual: int) -> tuple[int, ...]:
    found = tags.get(tag, usual)
    return found if isinstance(found, tuple) else (found,)


def _one(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int, usual: int) -> int:
    return int(_all(tags, tag, usual)[0])

"""Numbers as text that a page can hold: compressed, in base64."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 1
"""Of igzip: maps hardly shrink further, and a page shall not wait for it."""

_PART = 3 * 2**18
"""Bytes that are compressed, or become text, at once."""


def packed(array: npt.NDArray[Any]) -> str:
    """Return an array's bytes (little-endian, C order), compressed, in base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return packed_bytes(little.data)


def packed_parts(array: npt.NDArray[Any]) -> Iterator[bytes]:
    """Yield an array as `packed` does, in parts: a page's maps would else be held several times."""
    from isal import isal_zlib

    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = little.reshape(-1).view(np.uint8).data
    gzip = isal_zlib.compressobj(LEVEL, wbits=31)
    left = b""
    for start in range(0, len(data), _PART):
        left += gzip.compress(data[start : start + _PART])
        whole = len(left) - len(left) % 3  # Texts of threes can be joined.
        yield base64.b64encode(left[:whole])
        left = left[whole:]
    yield base64.b64encode(left + gzip.flush())


def unpacked_bytes(text: str) -> bytes:
    """Return the bytes that `packed_bytes` packed."""
    from isal import igzip

    data: bytes = igzip.decompress(base64.b64decode(text))  # type: ignore[no-untyped-call]
    return data


def packed_bytes(data: bytes | memoryview) -> str:
    """Return bytes, compressed, in base64."""
    return base64.b64encode(_compressed(data)).decode("ascii")


def _compressed(data: bytes | memoryview) -> bytes:
    from isal import igzip

    compressed: bytes = igzip.compress(memoryview(data).cast("B"), LEVEL, mtime=0)
    return compressed

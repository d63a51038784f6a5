"""Numbers as text that a page can hold: compressed, in base64."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 1
"""Of igzip: maps hardly shrink further, and a page shall not wait for it."""


def packed(array: npt.NDArray[Any]) -> str:
    """Return an array's bytes (little-endian, C order), compressed, in base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return packed_bytes(little.data)


def unpacked_bytes(text: str) -> bytes:
    """Return the bytes that `packed_bytes` packed."""
    from isal import igzip

    data: bytes = igzip.decompress(base64.b64decode(text))  # type: ignore[no-untyped-call]
    return data


def packed_bytes(data: bytes | memoryview) -> str:
    """Return bytes, compressed, in base64."""
    from isal import igzip

    return base64.b64encode(igzip.compress(bytes(data), LEVEL, mtime=0)).decode("ascii")

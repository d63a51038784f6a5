"""Zarr's format 3, as far as a store needs it: documents and chunks, always the same bytes.

Any reader of the format opens what is made of these; nothing is needed to make them. The bytes
depend on nothing but the content, so that any process, on any machine and with any release of the
`zarr` package or without it, writes the same file; and a shard is written chunk by chunk.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

DOCUMENT = "zarr.json"
TEXT = "string"
"""Data type of arrays of text, each of any length, in UTF-8."""

_count = struct.Struct("<I").pack
_ABSENT = 2**64 - 1
_FILLS: dict[str, Any] = {"f": "NaN", "u": 0, "b": False}


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """How an array lies in files.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
        A name that NumPy knows, such as ``"float32"``, or `TEXT`.
    dims : tuple of str
        The name of each axis.
    file_shape : tuple of int
        How much of it a file holds: a shard's shape, or a chunk's where there are no shards.
    chunk_rows : int
        How many rows of the last axis but one a chunk of a shard holds; 0 without shards.
    attributes : mapping
        JSON values.
    """

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    file_shape: tuple[int, ...]
    chunk_rows: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Whether it holds text."""
        return self.dtype == TEXT

    @property
    def fill(self) -> Any:
        """The value of what was never written, as JSON has it."""
        return "" if self.is_text else _FILLS[np.dtype(self.dtype).kind]

    def document(self) -> dict[str, Any]:
        """Return the array's metadata."""
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": _named("regular", chunk_shape=list(self.file_shape)),
            "chunk_key_encoding": _named("default", separator="."),
            "fill_value": self.fill,
            "codecs": self._codecs(),
            "attributes": dict(self.attributes),
            "dimension_names": list(self.dims),
            "storage_transformers": [],
        }

    def _codecs(self) -> list[dict[str, Any]]:
        if self.is_text:
            return [{"name": "vlen-utf8", "configuration": {}}]
        endian = _named("bytes", endian="little")
        values = endian if np.dtype(self.dtype).itemsize > 1 else {"name": "bytes"}
        if not self.chunk_rows:
            return [values]
        shape = [1] * (len(self.shape) - 2) + [self.chunk_rows, self.shape[-1]]
        return [
            _named(
                "sharding_indexed",
                chunk_shape=shape,
                codecs=[values],
                index_codecs=[endian, {"name": "crc32c"}],
                index_location="end",
            )
        ]


def _named(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def group_document(
    attributes: Mapping[str, Any], arrays: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a group's metadata, with those of its arrays, which readers then need not look for."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": dict(attributes),
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {name: dict(arrays[name]) for name in sorted(arrays)},
        },
    }


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """Return metadata as a file holds them."""
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def file_key(array: str, *place: int) -> str:
    """Return the file of a chunk or shard, relative to the group.

    All of an array's lie in one folder, as a folder for each would be one more thing to make.

    Examples
    --------
    >>> file_key("group", 3, 0)
    'group/c.3.0'
    """
    return f"{array}/{'.'.join(['c', *map(str, place)])}"


def text_chunk(texts: Sequence[str], n: int) -> bytes:
    """Return a chunk of ``n`` texts; those that are not given are empty."""
    parts = [_count(n)]
    for text in texts:
        data = text.encode("utf-8", "backslashreplace")
        parts += (_count(len(data)), data)
    return b"".join((*parts, bytes(4 * (n - len(texts)))))


def read_text_chunk(data: bytes) -> list[str]:
    """Return the texts of a chunk.

    Raises
    ------
    ValueError
        If it is none.
    """
    n, at = _number(data, 0), 4
    if n > len(data) // 4:
        message = f"it says that it holds {n} texts in {len(data)} bytes"
        raise ValueError(message)
    texts = []
    for _ in range(n):
        size = _number(data, at)
        at += 4 + size
        if at > len(data):
            message = "a text ends beyond the end"
            raise ValueError(message)
        texts.append(data[at - size : at].decode())
    if at != len(data):
        message = "something follows the last text"
        raise ValueError(message)
    return texts


def _number(data: bytes, at: int) -> int:
    if at + 4 > len(data):
        message = "it ends too early"
        raise ValueError(message)
    (number,) = struct.unpack_from("<I", data, at)
    return int(number)


def shard_index(n_filled: int, n_chunks: int, chunk_bytes: int) -> bytes:
    """Return the end of a shard whose first chunks lie one after the other, the others being empty.

    Parameters
    ----------
    n_filled : int
        Chunks that are there.
    n_chunks : int
        All of them.
    chunk_bytes : int
        Of one.
    """
    index = np.full((n_chunks, 2), _ABSENT, "<u8")
    index[:n_filled, 0] = np.arange(n_filled, dtype=np.uint64) * np.uint64(chunk_bytes)
    index[:n_filled, 1] = chunk_bytes
    data = index.tobytes()
    return data + struct.pack("<I", crc32c(data))


def index_bytes(n_chunks: int) -> int:
    """Return the length of a shard's index."""
    return 16 * n_chunks + 4


def padded(n_rows: int, chunk_rows: int) -> int:
    """Return how many rows whole chunks have that hold so many."""
    return chunk_rows * math.ceil(n_rows / chunk_rows)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes, as RFC 3720 has it.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


def little_endian(values: npt.ArrayLike, dtype: str) -> npt.NDArray[Any]:
    """Return values as files hold them: C order, of a type, its lowest byte first."""
    return np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<"))

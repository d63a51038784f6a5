"""One gzip member put together from pieces that were compressed apart.

Most of a volume is the same in every file: the header and what lies between the mask's voxels.
Deflated pieces that end on a byte can be joined, and checksums can be joined too, so that such a
part is compressed once.

The bytes of maps are a function of the content alone; see `imgtofmri.outputs.literals`. ISA-L is as
fast and finds repetitions, but of two that are equally long it takes now one and now the other, so
that one volume in some thousands has other bytes, of the same content. It is left to series of
whole brains, whose numbers repeat.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflated, no name, no time, unknown system."""

RAW_DEFLATE = -15
"""The window of deflate without a header of its own."""

# A gap of so many bytes is a piece of its own: each costs about 20 bytes and 20 microseconds.
_LEAST_GAP = 1024


def deflate(data: bytes | memoryview, last: bool) -> bytes:
    """Compress a piece, so that another can follow; the last one ends the stream."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, RAW_DEFLATE)
    return compressor.compress(data) + compressor.flush(
        zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH
    )


class BrainDeflater:
    """Compresses arrays that are the same but for some places, into pieces that can be joined.

    With ISA-L: the bytes may differ now and then, though never what they hold.

    Parameters
    ----------
    background : array of shape (n,)
        What all arrays hold at other places.
    places : array of int
        Where they differ, each place once.
    """

    def __init__(self, background: npt.NDArray[Any], places: npt.NDArray[np.integer[Any]]) -> None:
        varying = np.sort(places)
        gaps = np.flatnonzero(np.diff(varying) * background.itemsize > _LEAST_GAP)
        starts, stops = varying[[0, *(gaps + 1)]], varying[[*gaps, -1]] + 1
        self._varying = [slice(a, b) for a, b in zip(starts, stops, strict=True)]
        ends = zip([0, *stops], [*starts, len(background)], strict=True)
        self._between = [deflate(background[a:b].data, last=False) for a, b in ends]

    def __call__(self, values: npt.NDArray[Any]) -> bytes:
        """Return the pieces of an array of the background's shape and type, joined."""
        pieces = [self._between[0]]
        for part, gap in zip(self._varying, self._between[1:], strict=True):
            pieces += [_piece(values[part].data), gap]
        return b"".join(pieces)


def _piece(data: memoryview) -> bytes:
    from isal import isal_zlib

    # On volumes level 2 is as small as zlib's default and some forty times faster.
    compressor = isal_zlib.compressobj(2, isal_zlib.DEFLATED, RAW_DEFLATE)
    return bytes(compressor.compress(data) + compressor.flush(isal_zlib.Z_FULL_FLUSH))


def compressed(data: bytes) -> bytes:
    """Return a whole gzip member of some bytes, which depends on nothing else."""
    end = struct.pack("<II", crc32(data), len(data) % 2**32)
    return GZIP_HEADER + deflate(data, last=True) + end


def crc32(data: bytes | memoryview, before: int = 0) -> int:
    """Return the CRC-32 of some bytes, or of those and others before, whose CRC-32 is given."""
    from isal import isal_zlib

    return int(isal_zlib.crc32(data, before))


def join_crc32(first: int, second: int, second_length: int) -> int:
    """Return the CRC-32 of two joined pieces of data from the CRC-32 of each.

    Parameters
    ----------
    first, second : int
        The pieces' checksums.
    second_length : int
        Bytes in the second piece.

    Notes
    -----
    A CRC is the remainder of the message, as a polynomial over GF(2). Appending n bytes multiplies
    the first piece by x^(8n), so the checksum of both is ``first * x^(8n) + second``, modulo the
    polynomial; the power is taken by squaring.

    Examples
    --------
    >>> import zlib
    >>> join_crc32(zlib.crc32(b"brain"), zlib.crc32(b"maps"), 4) == zlib.crc32(b"brainmaps")
    True
    """
    return _multiply(first, _power_of_x(8 * second_length)) ^ second


@cache
def _power_of_x(exponent: int) -> int:
    """Return x to a power, modulo the polynomial."""
    # Bits are reflected: the highest bit of the number is the coefficient of x^0.
    power, square = 1 << 31, 1 << 30
    while exponent:
        if exponent & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        exponent >>= 1
    return power


def _multiply(a: int, b: int) -> int:
    """Multiply two reflected polynomials over GF(2), modulo that of CRC-32."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (0xEDB88320 if b & 1 else 0)
    return product


def stored_block(data: bytes) -> bytes:
    """Return a deflate block that is not compressed and not the last (RFC 1951, 3.2.4)."""
    return struct.pack("<BHH", 0, len(data), len(data) ^ 0xFFFF) + data

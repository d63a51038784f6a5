"""One gzip member put together from pieces that were compressed apart.

Most of a volume is the same in every file: the header and the empty slices around the mask.
Deflated pieces that end on a byte can be joined, and checksums can be joined too, so that such a
part is compressed once.
"""

from __future__ import annotations

import struct
from functools import cache

GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflated, no name, no time, unknown system."""

# On a mostly empty volume, level 2 is as small as zlib's default and some forty times faster.
GZIP_LEVEL = 2
RAW_DEFLATE = -15
"""The window of deflate without a header of its own."""


def deflate(data: bytes | memoryview, last: bool) -> bytes:
    """Compress a piece, so that another can follow; the last one ends the stream."""
    from isal import isal_zlib

    compressor = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, RAW_DEFLATE)
    flush = isal_zlib.Z_FINISH if last else isal_zlib.Z_FULL_FLUSH
    return bytes(compressor.compress(data) + compressor.flush(flush))


def compressed(data: bytes) -> bytes:
    """Return a whole gzip member of some bytes, which depends on nothing else."""
    end = struct.pack("<II", crc32(data), len(data) % 2**32)
    return GZIP_HEADER + deflate(data, last=True) + end


def crc32(data: bytes | memoryview) -> int:
    """Return the CRC-32 of some bytes."""
    from isal import isal_zlib

    return int(isal_zlib.crc32(data))


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

"""Deflate in which every value of a map has its place, whatever the value is.

Compression looks for codes and repetitions anew in every map, and finds hardly any: a map's numbers
are nearly random, and what lies between them is the same in all maps of a mask. Here all 256 bytes
have codes of nine bits, so that values lie at bits which do not depend on them. All else is worked
out once, and a map is then a few gathers and shifts of whole words.

The bytes are a function of the content alone, with every processor and every release of zlib.

References
----------
Deutsch (1996), RFC 1951, sections 3.2.2 (codes from their lengths), 3.2.5 and 3.2.7.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_WORD = 64
_LITERAL_BITS = 9

_END, _FIRST_LENGTH, _LAST_LENGTH = 256, 257, 285
_LONGEST, _SHORTEST = 258, 3

# Bits of the codes. Half of all codes are the literals'. The longest match has a quarter, as most
# of a volume is empty. The others share the rest: those of 3, 7 and 11 bytes, with which gaps of
# one to three voxels are made, have a bit less.
_OF_MATCHES = [6 if symbol in (257, 261, 265) else 7 for symbol in range(256, 285)]
_LENGTHS = (*[9] * 256, *_OF_MATCHES, 2)

# Bits of the codes of these numbers themselves, and the order in which a stream lists them.
_LENGTHS_OF_LENGTHS = {9: 1, 7: 2, 0: 4, 1: 4, 2: 4, 6: 4}
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)


class LiteralDeflater:
    """Deflates arrays that are the same but for some places, into pieces that can be joined.

    Parameters
    ----------
    background : array of shape (n,)
        What all arrays hold at other places: numbers of two or four bytes, all of them the same.
    places : array of shape (n_places,), int
        Where they differ, each place once.

    Examples
    --------
    >>> import zlib
    >>> deflate = LiteralDeflater(np.zeros(6, np.float32), np.array([4, 1]))
    >>> piece = deflate(np.array([0, 3, 0, 0, 2, 0], np.float32))
    >>> np.frombuffer(zlib.decompressobj(-15).decompress(piece), np.float32).tolist()
    [0.0, 3.0, 0.0, 0.0, 2.0, 0.0]
    """

    def __init__(self, background: npt.NDArray[Any], places: npt.NDArray[np.integer[Any]]) -> None:
        self._places = np.sort(places)
        outside = background[:1].tobytes()
        bits, starts = _layout(self._places.tolist(), len(background), outside)
        packed = np.packbits(np.frombuffer(bits.encode(), np.uint8) & 1, bitorder="little")
        self._n_bytes = len(packed)
        words = np.zeros(-(-len(packed) // 8), "<u8")
        words.view(np.uint8)[: len(packed)] = packed
        self._words = words
        width = _LITERAL_BITS * background.itemsize
        begins = _WORD * np.arange(len(words))
        first = np.searchsorted(starts, begins - width, "right")
        after = np.searchsorted(starts, begins + _WORD, "left")
        # Which values reach into each word, one row for the first of them, the second and so on; a
        # value whose code is 0 stands where there is none.
        items = first + np.arange((after - first).max(initial=0))[:, None]
        there = items < after
        shifts = np.where(there, starts[np.where(there, items, 0)] - begins, 0)
        self._left = np.maximum(shifts, 0).astype(np.uint64)
        self._right = np.maximum(-shifts, 0).astype(np.uint64)
        self._items = np.where(there, items, len(starts))

    def __call__(self, values: npt.NDArray[Any]) -> bytes:
        """Return the piece of an array of the background's shape and type."""
        codes = np.zeros(len(self._places) + 1, np.uint64)
        codes[:-1] = _codes(values[self._places])
        parts = codes[self._items]
        parts >>= self._right
        parts <<= self._left
        words: npt.NDArray[np.uint64] = np.bitwise_or.reduce(parts, axis=0)
        words |= self._words
        return words.tobytes()[: self._n_bytes]


def _codes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return the bits of each value's literals, the first to come being the lowest."""
    pairs = _codes_of_pairs()[values.view("<u2").reshape(-1, values.itemsize // 2)]
    codes: npt.NDArray[np.uint64] = pairs[:, 0].astype(np.uint64)
    for number in range(1, pairs.shape[1]):
        codes |= pairs[:, number].astype(np.uint64) << np.uint64(2 * _LITERAL_BITS * number)
    return codes


@cache
def _codes_of_pairs() -> npt.NDArray[np.uint32]:
    """Return the bits of two literals, for each value of a 16-bit number that they are in."""
    # A literal's code is 1 and then its byte, the highest bit first.
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    codes = 1 + bits @ (2 << np.arange(8, dtype=np.uint32))
    pairs: npt.NDArray[np.uint32] = codes | codes[:, None] << np.uint32(_LITERAL_BITS)
    return pairs.ravel()


def _layout(places: list[int], n_items: int, outside: bytes) -> tuple[str, npt.NDArray[np.int64]]:
    """Return a stream's bits, those of values being 0, and where each value's begin.

    The stream ends on a byte with a block of its own, and is not the last one.
    """
    size = len(outside)
    period = 1 if outside == outside[:1] * size else size
    parts = [_head(period)]
    at, done = len(parts[0]), 0
    starts = []
    for place in [*places, n_items]:
        if place > done:
            parts.append(_gap(place - done, outside, period))
            at += len(parts[-1])
        starts.append(at)
        parts.append("100000000" * size)
        at += _LITERAL_BITS * size
        done = place + 1
    parts.pop()
    at = starts.pop()
    # The end of the block, and an empty one that is stored and so ends on a byte.
    end = _codes_from(_LENGTHS)[_END] + "000"
    padding = -(at + len(end)) % 8
    parts.append(end + "0" * padding + "0" * 16 + "1" * 16)
    return "".join(parts), np.array(starts, np.int64)


def _head(period: int) -> str:
    """Return the start of a block: of its own codes, and not the last."""
    distances = [0] * max(period, 2)
    distances[0] = distances[-1] = 1  # Two codes, as some readers want a full set.
    lengths = [*_LENGTHS, *distances]
    codes = _codes_from(tuple(_LENGTHS_OF_LENGTHS.values()))
    code_of = dict(zip(_LENGTHS_OF_LENGTHS, codes, strict=True))
    said = [_number(0, 1), _number(2, 2), _number(len(_LENGTHS) - 257, 5)]
    said += [_number(len(distances) - 1, 5), _number(len(_ORDER) - 4, 4)]
    said += [_number(_LENGTHS_OF_LENGTHS.get(length, 0), 3) for length in _ORDER]
    return "".join(said) + "".join(code_of[length] for length in lengths)


@cache
def _gap(n_items: int, outside: bytes, period: int) -> str:
    """Return the bits of what lies between values: the first bytes, then repetitions of them."""
    n_bytes = n_items * len(outside)
    literals, lengths = _codes_from(_LENGTHS), _length_codes()
    repeated = n_bytes - period
    said = [literals[byte] for byte in outside[:period]]
    distance = "0" if period == 1 else "1"
    n_longest, rest = divmod(repeated, _LONGEST)
    if 0 < rest < _SHORTEST and n_longest:
        n_longest, rest = n_longest - 1, rest + _LONGEST
    said.append((lengths[_LONGEST] + distance) * n_longest)
    if rest > _LONGEST:
        said.append(lengths[rest - _SHORTEST] + distance)
        rest = _SHORTEST
    if rest >= _SHORTEST:
        said.append(lengths[rest] + distance)
    else:
        said += [literals[byte] for byte in outside[:rest]]
    return "".join(said)


@cache
def _length_codes() -> dict[int, str]:
    """Return the code of each length of a match, with the bits that follow it."""
    codes = _codes_from(_LENGTHS)
    found = {_LONGEST: codes[_LAST_LENGTH]}
    length = _SHORTEST
    for symbol in range(_FIRST_LENGTH, _LAST_LENGTH):
        n_extra = max(0, (symbol - 261) // 4)
        for extra in range(1 << n_extra):
            found.setdefault(length, codes[symbol] + _number(extra, n_extra))
            length += 1
    return found


@cache
def _codes_from(lengths: tuple[int, ...]) -> list[str]:
    """Return the codes that their lengths stand for, in bits as they come."""
    codes = [""] * len(lengths)
    code = length = 0
    for symbol in sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[symbol] - length
        length = lengths[symbol]
        codes[symbol] = f"{code:0{length}b}"
        code += 1
    return codes


def _number(value: int, n_bits: int) -> str:
    """Return a number as bits, the lowest first."""
    return "".join(str(value >> bit & 1) for bit in range(n_bits))

"""Which of a movie's pictures can be decoded without any other, as their packets tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

# Kinds of the units that hold parts of pictures, and those of them whose pictures refer to no
# other: instantaneous refreshes of H.264, and all random access points of HEVC. Then the units that
# say how pictures are decoded, which stay in force.
_PARTS = {"h264": range(1, 6), "hevc": range(32)}
_ALONE = {"h264": range(5, 6), "hevc": range(16, 24)}
_SETS = {"h264": (7, 8, 13, 15), "hevc": (32, 33, 34)}

_OWN_LENGTHS = 1
"""The first byte of headers that say how long the lengths before units are."""

# Codecs whose key pictures, if they are keys, take nothing from what was decoded before. Of others
# (AV1, MPEG-4, VP8, Theora, delta codecs of QuickTime) something may stay in force.
_WHOLE = frozenset({"dnxhd", "dvvideo", "ffv1", "jpeg2000", "png", "prores"})

# MPEG-2: what sets back tables that other pictures may have changed.
_SEQUENCE = b"\0\0\1\xb3"

# VP9's first byte: which bits of it say a marker, that no earlier picture is shown, that it is a
# key, and that it is shown itself.
_VP9_BITS, _VP9_KEY, _VP9_PROFILE_3 = 0b11001110, 0b10000010, 0b00110000

# JPEG's segments.
_TABLES, _CODES, _SCAN = 0xDB, 0xC4, 0xDA
_SEQUENTIAL = (0xC0, 0xC1)


class Keys:
    """Tells packets whose pictures stand alone.

    Containers mark where playing can begin. That is not enough: there may be pictures that are
    refreshed bit by bit, and pictures that need tables or headers which an earlier packet brought.
    So the packets themselves are looked at, and where a header changes on the way no later picture
    stands alone. The first packet is taken to be decoded in any case.

    Parameters
    ----------
    stream : VideoStream
        As it was opened; it is not kept.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._codec = stream.codec_context.name
        self._header = stream.codec_context.extradata or b""
        self._length_size = _length_size(self._codec, self._header)
        self._steady, self._is_first = True, True

    def alone(self, packet: Packet[Any]) -> bool:
        """Return whether it is known that a packet's picture can be decoded alone.

        All packets of the stream must be asked about, in their order.
        """
        first, self._is_first = self._is_first, False
        if not first and packet.has_sidedata("new_extradata"):
            self._steady = False
        if self._codec in _PARTS and self._steady:
            return self._is_refresh(bytes(packet), first) and packet.is_keyframe
        if not (self._steady and packet.is_keyframe):
            return False
        if self._codec in _WHOLE:
            return True
        data = bytes(packet)
        match self._codec:
            case "mpeg2video":
                return data.startswith(_SEQUENCE)
            case "vp9":
                is_known = data[0] & _VP9_PROFILE_3 != _VP9_PROFILE_3
                return is_known and data[0] & _VP9_BITS == _VP9_KEY
            case "mjpeg":
                return _has_own_tables(data)
        return False

    def _is_refresh(self, data: bytes, first: bool) -> bool:
        """Return whether a packet of H.264 or HEVC holds nothing but parts that refer to no other.

        Headers on the way that were not there from the beginning end the steadiness.
        """
        if not self._length_size:
            return False  # Units are not told by their lengths.
        units = [*self._units(data)]
        sets = [unit for kind, unit in units if kind in _SETS[self._codec]]
        if first:
            self._header += data
        elif not units or any(unit not in self._header for unit in sets):
            self._steady = False
        parts = [kind for kind, _ in units if kind in _PARTS[self._codec]]
        is_alone = bool(parts) and all(kind in _ALONE[self._codec] for kind in parts)
        return self._steady and is_alone

    def _units(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield a packet's units with their kinds; none where they do not fill it."""
        found, at, size = [], 0, self._length_size
        while at + size < len(data):
            start = at + size
            at = start + int.from_bytes(data[at:start], "big")
            kind = data[start] & 31 if self._codec == "h264" else data[start] >> 1 & 63
            found.append((kind, data[start:at]))
        yield from found if at == len(data) else []


def _length_size(codec: str, header: bytes) -> int:
    """Return how many bytes say a unit's length, 0 where units are not told so."""
    place = {"h264": 4, "hevc": 21}.get(codec)
    if place is None or len(header) <= place or header[0] != _OWN_LENGTHS:
        return 0
    return (header[place] & 3) + 1


def _has_own_tables(data: bytes) -> bool:
    """Return whether a JPEG brings all tables that it refers to, in one scan."""
    defined: set[tuple[int, int]] = set()
    used: set[tuple[int, int]] = set()
    n_parts = 0
    with suppress(IndexError):
        for marker, body in _segments(data):
            at = 0
            while marker == _TABLES and at < len(body):
                defined.add((_TABLES, body[at] & 15))
                at += 129 if body[at] > 15 else 65
            while marker == _CODES and at < len(body):
                defined.add((_CODES, body[at]))
                at += 17 + sum(body[at + 1 : at + 17])
            if marker in _SEQUENTIAL:
                n_parts = body[5]
                used |= {(_TABLES, body[8 + 3 * part]) for part in range(n_parts)}
            if marker == _SCAN:
                chosen = [body[2 + 2 * part] for part in range(body[0])]
                used |= {(_CODES, one >> 4) for one in chosen}
                used |= {(_CODES, 16 | one & 15) for one in chosen}
                return 0 < n_parts == body[0] and used <= defined
    return False


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield a JPEG's segments, up to the first scan's."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # Filled up.
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : end]
        at = end

"""Which of a movie's pictures can be decoded without any other, as their packets tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

# Kinds of the units that hold parts of pictures, and those of them whose pictures refer to no
# other: instantaneous refreshes of H.264, and all random access points of HEVC.
_PARTS = {"h264": range(1, 6), "hevc": range(32)}
_ALONE = {"h264": range(5, 6), "hevc": range(16, 24)}

_OWN_LENGTHS = 1
"""The first byte of headers that say how long the lengths before units are."""


class Keys:
    """Tells packets whose pictures stand alone.

    Containers mark where playing can begin. In H.264 and HEVC that may also be where pictures are
    refreshed bit by bit: there the packet's own units are looked at, too.

    Parameters
    ----------
    stream : VideoStream
        As it was opened; it is not kept.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._codec = stream.codec_context.name
        self._length_size = _length_size(self._codec, stream.codec_context.extradata or b"")

    def alone(self, packet: Packet[Any]) -> bool:
        """Return whether it is known that a packet's picture can be decoded alone."""
        if not packet.is_keyframe:
            return False
        if self._codec not in _PARTS:
            return True
        if not self._length_size:
            return False  # Units are not told by their lengths.
        parts = [kind for kind in self._kinds(bytes(packet)) if kind in _PARTS[self._codec]]
        return bool(parts) and all(kind in _ALONE[self._codec] for kind in parts)

    def _kinds(self, data: bytes) -> list[int]:
        """Return the kinds of a packet's units; none where they do not fill it."""
        found, at, size = [], 0, self._length_size
        while at + size < len(data):
            length = int.from_bytes(data[at : at + size], "big")
            first = data[at + size]
            found.append(first & 31 if self._codec == "h264" else first >> 1 & 63)
            at += size + length
        return found if at == len(data) else []


def _length_size(codec: str, header: bytes) -> int:
    """Return how many bytes say a unit's length, 0 where units are not told so."""
    place = {"h264": 4, "hevc": 21}.get(codec)
    if place is None or len(header) <= place or header[0] != _OWN_LENGTHS:
        return 0
    return (header[place] & 3) + 1

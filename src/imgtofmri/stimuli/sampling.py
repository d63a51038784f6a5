"""Which pictures of a movie a steady rate takes, and which are told before they are decoded."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from imgtofmri.exceptions import OptionError
from imgtofmri.stimuli.clock import Clock, assumes_rate
from imgtofmri.stimuli.keys import Keys

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

T = TypeVar("T")

_MAX_RATE_HZ = 500.0

# Decoders that know which pictures no other is predicted from, and pass over them when told to.
_PASSING_OVER = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})

# Containers that store when each picture appears. AVI and ASF store the order of decoding alone:
# which time belongs to which picture then depends on all that are decoded.
_TIMED_FORMATS = ("mov", "matroska", "flv")

# Headers round, and the last picture may have no duration.
_MORE_S = Fraction(1)


def check_rate(rate_hz: float) -> Fraction:
    """Return a rate as an exact fraction, or refuse one at which no frames can be taken.

    Raises
    ------
    OptionError
        If ``rate_hz`` is not above 0 and at most 500.
    """
    if not (math.isfinite(rate_hz) and 0 < rate_hz <= _MAX_RATE_HZ):
        message = (
            f"rate_hz must be above 0 and at most {_MAX_RATE_HZ:g} frames a second; "
            f"got {rate_hz}. The published model takes 2."
        )
        raise OptionError(message, "rate_hz")
    return Fraction(float(rate_hz)).limit_denominator(1_000_000)


def pick_nearest(timed: Iterable[tuple[int, int, T]], period: Fraction) -> Iterator[tuple[int, T]]:
    """Pick the item nearest in time to each multiple of a period before the end.

    Parameters
    ----------
    timed : iterable of (time, duration, item)
        Rising times in whole units of any length. The end is the last one's time and duration.
    period : Fraction
        In the same units.

    Yields
    ------
    k, item
        ``k`` from 0; the same item again where items are sparser than the period. Of two items
        equally near, the earlier.

    Examples
    --------
    >>> quarters = [(n, 1, f"frame {n}") for n in range(5)]
    >>> list(pick_nearest(quarters, period=Fraction(2)))
    [(0, 'frame 0'), (1, 'frame 2'), (2, 'frame 4')]
    """
    # k * step / parts <= time, in whole numbers: exact, and several times cheaper than fractions.
    step, parts = period.numerator, period.denominator
    k = 0
    before: tuple[int, int, T] | None = None
    for now in timed:
        if before is not None:
            while 2 * k * step <= (before[0] + now[0]) * parts:
                yield k, before[2]
                k += 1
        before = now
    if before is not None:
        while k * step < (before[0] + before[1]) * parts:
            yield k, before[2]
            k += 1


@dataclass(frozen=True, slots=True)
class Needed:
    """Which pictures must be decoded.

    Attributes
    ----------
    stamps : frozenset of int
        Time stamps of the pictures that are taken, and of the last, where the movie ends.
    longest : int
        The longest time between two pictures of the movie, in ticks.
    all_from : int or None
        Where each of them up to some place stands alone, so that no other need be decoded: the time
        stamp of the picture from which on, in the order of the file, all are. None where pictures
        refer to others.
    """

    stamps: frozenset[int]
    longest: int
    all_from: int | None = None


class Timeline:
    """When a movie's pictures appear, as its packets tell without being decoded.

    Whole ticks of the stream's clock, in compact arrays: a long film has hundreds of thousands of
    pictures.

    Parameters
    ----------
    container, stream
        As they were opened; they are not kept. All packets must go through `note`.

    Attributes
    ----------
    told : bool
        Whether packets tell it. False where the container does not store when pictures appear, or
        it was found so on the way: then nothing is known, and the rest need not be read.
    assumed : bool
        Whether nothing but an assumption says how fast pictures follow each other.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.told = container.format.name.startswith(_TIMED_FORMATS)
        self._index = stream.index
        self._clock = Clock.of(container, stream)
        self.assumed = assumes_rate(container, stream)
        self._stamps, self._durations = array("q"), array("q")
        self._can_pass_over = stream.codec_context.name in _PASSING_OVER
        self._keys = Keys(stream)
        self._alone = array("q")
        self._first = 0
        self._known = False

    def note(self, packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        """Pass packets on; when all are through, the time line is known."""
        for packet in packets:
            if packet.stream_index == self._index and packet.size:  # The end has no size.
                if packet.pts is None or packet.is_discard:
                    self.told = False
                else:
                    if not self._stamps:
                        self._first = packet.pts
                    self._stamps.append(packet.pts)
                    if self._keys.alone(packet):
                        self._alone.append(packet.pts)
                    self._durations.append(packet.duration or self._clock.usual)
            yield packet
        if self.told and self._stamps:
            self._put_in_order()

    @property
    def declared_s(self) -> Fraction | None:
        """How long the movie is, by its header; None where that is not one that knows it."""
        return self._clock.declared_s

    def n_frames(self, rate: Fraction) -> int | None:
        """Return how many frames a steady rate, in Hz, takes.

        None where all pictures must be decoded to know: the container does not store when pictures
        appear, their clock is not whole and steady, or they end before the header says.
        """
        if not self._known or self._ends_early():
            return None
        return sum(1 for _ in self._taken(rate))

    def needed(self, rate: Fraction) -> Needed | None:
        """Return which pictures must be decoded for a steady rate, in Hz.

        Where all that are taken stand alone, no other is decoded, but for those at the end. Else a
        decoder passes over up to half of the pictures, those that no other picture is predicted
        from. None where all pictures must be decoded to know, or where hardly any can be passed
        over.
        """
        if not self._known:
            return None
        taken, last = frozenset(self._taken(rate)), self._stamps[-1]
        stamps = np.asarray(self._stamps)
        needed = Needed(taken | {last}, int(np.diff(stamps).max(initial=0)))
        # Without a length in the header, times are told from picture to picture. The first packet
        # may bring what the others need.
        is_whole = self._clock.declared_s is not None and self._first in taken
        if is_whole and self._alone and taken <= {*self._alone, last}:
            return replace(needed, all_from=self._alone[-1])
        return needed if self._can_pass_over else None

    def _put_in_order(self) -> None:
        order = np.argsort(self._stamps, kind="stable")
        # Where packets come as pictures appear, hardly one can be passed over, and the clock may be
        # that of decoding.
        self._can_pass_over &= bool((order[1:] < order[:-1]).any())
        self._stamps = array("q", map(self._stamps.__getitem__, order))
        self._durations = array("q", map(self._durations.__getitem__, order))
        times = [self._clock.place(stamp) for stamp in self._stamps]
        self._shift = (times[0] or 0) - self._stamps[0]
        # A clock that was put right, or on which two pictures have one time, needs all pictures.
        self._known = times == [stamp + self._shift for stamp in self._stamps]

    def _ends_early(self) -> bool:
        """Return whether the header says that there is more, be it of sound alone."""
        end_s = (self._stamps[-1] + self._shift + self._durations[-1]) * self._clock.tick_s
        whole_s = self._clock.declared_s
        return whole_s is not None and whole_s - end_s > _MORE_S

    def _taken(self, rate: Fraction) -> Iterator[int]:
        """Yield the stamp of each frame's picture."""
        timed = (
            (stamp + self._shift, duration, stamp)
            for stamp, duration in zip(self._stamps, self._durations, strict=True)
        )
        return (stamp for _, stamp in pick_nearest(timed, 1 / (rate * self._clock.tick_s)))

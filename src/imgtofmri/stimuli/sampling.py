"""Which pictures of a movie a steady rate takes, told before they are decoded."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from imgtofmri.stimuli.clock import Clock, clock_tick_s, declared_s
from imgtofmri.stimuli.decoding import open_movie, video_stream

T = TypeVar("T")

# Decoders that know which pictures no other is predicted from, and pass over them when told to.
_PASSING_OVER = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})

# Containers that store when each picture appears. AVI and ASF store the order of decoding alone:
# which time belongs to which picture then depends on all that are decoded.
_TIMED_FORMATS = ("mov", "matroska", "flv")

# Headers round, and the last picture may have no duration.
_MORE_S = Fraction(1)


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


def count_taken(path: Path, rate_hz: Fraction) -> int | None:
    """Return how many frames a steady rate takes, without decoding the movie.

    Parameters
    ----------
    path : Path
        A movie.
    rate_hz : Fraction
        Frames a second that are taken.

    Returns
    -------
    int or None
        None where all pictures must be decoded to know: the container does not store when pictures
        appear, their clock is not whole and steady, or they end before the header says.
    """
    found = _read_packets(path)
    if found is None or found.ends_early:
        return None
    return sum(1 for _ in pick_nearest(found.timed(), 1 / (rate_hz * found.tick_s)))


def needed_pictures(path: Path, rate_hz: Fraction) -> frozenset[int] | None:
    """Return the time stamps of the pictures that a steady rate takes.

    A decoder that knows them passes over up to half of the pictures, those that no other picture
    is predicted from. The packets tell, without decoding.

    Parameters
    ----------
    path : Path
        A movie.
    rate_hz : Fraction
        Frames a second that are taken.

    Returns
    -------
    frozenset of int or None
        On the stream's clock, the first and the last picture among them. None where all pictures
        must be decoded to know: the packets' clock is not whole and steady, pictures appear in the
        order in which they are decoded, or the decoder passes over nothing.
    """
    found = _read_packets(path, _PASSING_OVER)
    # Where packets are in order, hardly a picture can be passed over, and the clock may be that of
    # decoding.
    if found is None or (found.order[1:] > found.order[:-1]).all():
        return None
    taken = (stamp for _, stamp in pick_nearest(found.timed(), 1 / (rate_hz * found.tick_s)))
    return frozenset([*taken, found.stamps[found.order[-1]]])  # The last: where the movie ends.


@dataclass(frozen=True, slots=True)
class _Packets:
    """What packets say of their pictures, in the order of decoding, in ticks of the stream's clock.

    Compact arrays: a long film has hundreds of thousands of pictures.
    """

    stamps: array[int]
    durations: array[int]
    order: npt.NDArray[np.intp]
    shift: int
    tick_s: Fraction
    declared_s: Fraction | None

    @property
    def ends_early(self) -> bool:
        """Whether the header says that there is more, be it of sound alone."""
        last = self.order[-1]
        end_s = (self.stamps[last] + self.shift + self.durations[last]) * self.tick_s
        return self.declared_s is not None and self.declared_s - end_s > _MORE_S

    def timed(self) -> Iterator[tuple[int, int, int]]:
        """Yield when each picture appears, for how long, and its stamp."""
        for place in self.order:
            stamp = self.stamps[place]
            yield stamp + self.shift, self.durations[place], stamp


def _read_packets(path: Path, codecs: Container[str] | None = None) -> _Packets | None:
    """Return the packets of a movie whose clock they tell; None for all others and other codecs."""
    import av

    with open_movie(path, "read_movie") as container:
        stream = video_stream(container, path, "read_movie")
        known = codecs is None or stream.codec_context.name in codecs
        if not known or not container.format.name.startswith(_TIMED_FORMATS):
            return None
        clock = Clock.of(container, stream)
        stamps, durations = array("q"), array("q")
        try:
            for packet in container.demux(stream):
                if packet.size == 0:  # The end.
                    continue
                if packet.pts is None or packet.is_discard:
                    return None
                stamps.append(packet.pts)
                durations.append(packet.duration or clock.usual)
        except av.FFmpegError:
            return None
        order = np.argsort(stamps, kind="stable")
        if not len(order):
            return None
        first = stamps[order[0]]
        shift = (clock.place(first) or 0) - first
        # A clock that was put right, or on which two pictures have one time, needs all pictures.
        if any(clock.place(stamps[place]) != stamps[place] + shift for place in order[1:]):
            return None
        tick_s = clock_tick_s(stream)
        return _Packets(stamps, durations, order, shift, tick_s, declared_s(container))

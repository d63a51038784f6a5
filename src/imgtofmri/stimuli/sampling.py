"""Which pictures of a movie a steady rate takes, told before they are decoded."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np

from imgtofmri.stimuli.clock import Clock, clock_tick_s
from imgtofmri.stimuli.decoding import open_movie, video_stream

T = TypeVar("T")

# Decoders that know which pictures no other is predicted from, and pass over them when told to.
_PASSING_OVER = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})

# Containers that store when each picture appears. AVI and ASF store the order of decoding alone:
# which time belongs to which picture then depends on all that are decoded.
_TIMED_FORMATS = ("mov", "matroska", "flv")


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
    import av

    with open_movie(path, "read_movie") as container:
        stream = video_stream(container, path, "read_movie")
        timed_format = container.format.name.startswith(_TIMED_FORMATS)
        if stream.codec_context.name not in _PASSING_OVER or not timed_format:
            return None
        # Compact arrays: a long film has hundreds of thousands of pictures.
        stamps, durations = array("q"), array("q")
        try:
            for packet in container.demux(stream):
                if packet.size == 0:  # The end.
                    continue
                if packet.pts is None or packet.is_discard:
                    return None
                stamps.append(packet.pts)
                durations.append(packet.duration or 0)
        except av.FFmpegError:
            return None
        order = np.argsort(stamps, kind="stable")
        # Where packets are in order, hardly a picture can be passed over, and the clock may be
        # that of decoding.
        if (order[1:] > order[:-1]).all():
            return None
        clock = Clock.of(container, stream)
        first = stamps[order[0]]
        shift = (clock.place(first) or 0) - first
        # A clock that was put right, or on which two pictures have one time, needs all pictures.
        if any(clock.place(stamps[place]) != stamps[place] + shift for place in order[1:]):
            return None
        timed = (
            (stamps[place] + shift, durations[place] or clock.usual, stamps[place])
            for place in order
        )
        period = 1 / (rate_hz * clock_tick_s(stream))
        taken = (stamp for _, stamp in pick_nearest(timed, period))
        return frozenset([*taken, stamps[order[-1]]])  # The last tells where the movie ends.

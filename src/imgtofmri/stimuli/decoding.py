"""A movie's packets into pictures with exact times; what is damaged is passed over."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator, Set
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgtofmri.stimuli.clock import Clock, exact
from imgtofmri.stimuli.containers import decoder_of, no_pictures, open_pictures
from imgtofmri.stimuli.items import refuse
from imgtofmri.stimuli.sampling import Needed

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# How much of a whole movie's end may be missing, and of a short one's.
_TOLERANCE_S = Fraction(1)
_TOLERANCE_SHARE = Fraction(1, 10)

# Containers that store when pictures are decoded alone, and over how many a codec reorders them.
_UNTIMED_FORMATS = ("avi", "asf")
_MOST_REORDERED = 16

# Codecs of which a packet may hold one of the two fields of an interlaced picture.
_IN_FIELDS = frozenset({"h264"})

# Codecs whose decoders name the colour profiles that they hand on: PyAV frees such a name twice.
_PROFILED = frozenset({"png", "apng"})


@dataclass(slots=True)
class Tally:
    """How many pictures were good, could not be decoded, or come after the header's end."""

    good: int = 0
    broken: int = 0
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class Timed:
    """A decoded picture, the time at which it appears, and for how long.

    Times are whole ticks of the stream's clock, so that they are exact and cheap to compare.
    """

    time: int
    duration: int
    tick_s: Fraction
    picture: VideoFrame
    pixel_aspect: Fraction


class _DamagedError(Exception):
    """A picture could not be decoded while threads or pictures passed over may be the cause."""


def read_pictures(path: Path, tally: Tally, needed: Needed | None = None) -> Iterator[Timed]:
    """Decode a movie's pictures in order of appearance, each once.

    Several threads decode until something is found damaged. Threads lose whole neighbours of a
    damaged picture, more of them the more threads there are, and what is passed over may have to
    stand for it; the movie is then begun again with one thread that passes over nothing. So what is
    given does not depend on the machine, as far as the decoder tells of the damage. Damage in a
    picture that is passed over goes unnoticed, and spoils nothing.

    Parameters
    ----------
    path : Path
    tally : Tally
        Counts as it goes.
    needed : Needed, optional
        Which pictures must be given, as `Timeline.needed` finds them. Others are passed over as far
        as those do not depend on them. Default: all.

    Raises
    ------
    StimulusError
        If it is not a movie, has no pictures, or ends well before its header says.
    """
    given: int | None = None
    for threaded, wanted in ((True, needed), (False, None)):
        tally.good, tally.broken = 0, 0
        with open_pictures(path, threaded) as (container, stream):
            packets = container.demux()
            pictures = timed_pictures(container, stream, packets, tally, wanted, strict=threaded)
            try:
                for timed in pictures:
                    if given is None or timed.time > given:
                        given = timed.time
                        yield timed
            except _DamagedError:
                continue
            break
    if given is None:
        raise no_pictures(path)


def timed_pictures(
    container: InputContainer,
    stream: VideoStream,
    packets: Iterator[Packet[Any]],
    tally: Tally,
    needed: Needed | None = None,
    strict: bool = False,
) -> Iterator[Timed]:
    """Decode the pictures in order of appearance, on the time line that begins when playing does.

    Packets are those of all streams, since the sound tells how far a file reaches. Damage is passed
    over, or, if ``strict``, ends the work with `_DamagedError`.

    Raises
    ------
    StimulusError
        When the file ends well before its header says.
    """
    aspect = exact(stream.sample_aspect_ratio) or Fraction(1)
    clock = Clock.of(container, stream)
    ends: dict[int, int] = {}
    name = Path(container.name.removeprefix("file:"))
    decoder = decoder_of(stream, name)
    pictures = _decoded(stream, decoder, packets, tally, ends, needed, strict)
    if needed is not None:
        pictures = _complete(pictures, needed.stamps)
    untimed = container.format.name.startswith(_UNTIMED_FORMATS)
    for pts, picture in _stamped(pictures, _MOST_REORDERED if untimed else 0):
        time = clock.place(pts)
        if time is not None:
            tally.good += 1
            yield Timed(time, picture.duration or clock.usual, clock.tick_s, picture, aspect)
    tally.beyond = clock.n_beyond
    units_s = {other.index: exact(other.time_base) or Fraction(0) for other in container.streams}
    reached_s = max((end * units_s[index] for index, end in ends.items()), default=Fraction(0))
    longest = clock.longest if needed is None else max(clock.usual, needed.longest)
    longest_s, whole_s = longest * clock.tick_s, clock.declared_s
    if whole_s is not None and whole_s - reached_s > max(
        3 * longest_s, min(_TOLERANCE_S, whole_s * _TOLERANCE_SHARE), whole_s / 50
    ):
        got = f"'{name}', which ends at {float(reached_s):.1f} s of {float(whole_s):.1f} s"
        expected = "a whole movie"
        raise refuse(expected, got, "It was cut short: copy it again.")


def _stamped(
    pictures: Iterator[VideoFrame], n_reordered: int
) -> Iterator[tuple[int | None, VideoFrame]]:
    """Give each picture its time stamp: its own, or the least of so many that follow.

    Pictures come in the order in which they appear, so their stamps must rise.
    """
    waiting: deque[VideoFrame] = deque()
    stamps: list[int] = []
    for picture in chain(pictures, repeat(None, n_reordered)):
        if picture is not None:
            waiting.append(picture)
            if picture.pts is not None:
                insort(stamps, picture.pts)
        if waiting and (picture is None or len(waiting) > n_reordered):
            yield (stamps.pop(0) if stamps else None), waiting.popleft()


def _decoded(
    stream: VideoStream,
    decoder: VideoCodecContext,
    packets: Iterator[Packet[Any]],
    tally: Tally,
    ends: dict[int, int],
    needed: Needed | None,
    strict: bool,
) -> Iterator[VideoFrame]:
    """Decode what can be decoded, count what cannot, and note how far each stream reaches."""
    import av
    from av.video.frame import PictureType

    alone = needed is not None and needed.all_from is not None
    stand_alone: set[int | None] = set()
    in_fields = stream.codec_context.name in _IN_FIELDS
    is_profiled = stream.codec_context.name in _PROFILED
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            if packet.pts is not None:
                index, end = packet.stream_index, packet.pts + (packet.duration or 0)
                ends[index] = max(ends.get(index, end), end)
            if packet.stream is not stream:
                continue
            if needed is not None:
                passed_over = packet.pts is not None and packet.pts not in needed.stamps
                alone = alone and packet.pts != needed.all_from
                if alone and passed_over:
                    continue
                if alone:
                    stand_alone.add(packet.pts)
                decoder.skip_frame = "NONREF" if passed_over else "DEFAULT"
            pictures = decoder.decode(packet)
        except av.FFmpegError as error:
            if strict:
                raise _DamagedError from error
            # This packet is damaged and the next one may be whole; or, where the file could not
            # be read on, there is no next one.
            tally.broken += 1
            continue
        for picture in pictures:
            if picture.is_corrupt:
                if strict:
                    raise _DamagedError
                tally.broken += 1
            elif picture.pts in stand_alone and not (
                picture.key_frame and picture.pict_type == PictureType.I
            ):
                raise _DamagedError  # It was only marked as one that stands alone.
            elif needed is not None and in_fields and picture.interlaced_frame:
                raise _DamagedError  # Its other half may be in a packet that is passed over.
            else:
                yield _without_profile(picture) if is_profiled else picture


def _without_profile(picture: VideoFrame) -> VideoFrame:
    """Return a picture without its colour profile; looking at its side data would end Python."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=picture.width,
        height=picture.height,
        format=picture.format,
        time_base=picture.time_base,
    )
    drop, sink = graph.add("sidedata", "mode=delete:type=ICC_PROFILE"), graph.add("buffersink")
    source.link_to(drop)
    drop.link_to(sink)
    graph.configure()
    graph.vpush(picture)
    return graph.vpull()


def _complete(pictures: Iterator[VideoFrame], needed: Set[int]) -> Iterator[VideoFrame]:
    """Pass pictures on until one that is needed has not come: then all have to be decoded."""
    due = deque(sorted(needed))
    for picture in pictures:
        if due and picture.pts is not None and picture.pts > due[0]:
            raise _DamagedError
        if due and picture.pts == due[0]:
            due.popleft()
        yield picture
    if due:
        raise _DamagedError

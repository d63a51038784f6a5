"""One movie file into decoded pictures with exact times; what is damaged is passed over."""

from __future__ import annotations

import struct
from bisect import insort
from collections import deque
from collections.abc import Iterator, Set
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgtofmri.exceptions import StimulusError
from imgtofmri.processors import n_processors
from imgtofmri.stimuli.clock import Clock, clock_tick_s, declared_s, exact
from imgtofmri.stimuli.items import Pixels, refuse
from imgtofmri.stimuli.pixels import prepare_image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_MAX_DECODE_THREADS = 8

# Pixels from which on decoding takes longer than the network and gets all processors.
_LARGE = 1_000_000

# How much of a whole movie's end may be missing, and of a short one's.
_TOLERANCE_S = Fraction(1)
_TOLERANCE_SHARE = Fraction(1, 10)

_WHERE = "read_movie"

# Containers that store when pictures are decoded alone, and over how many a codec reorders them.
_UNTIMED_FORMATS = ("avi", "asf")
_MOST_REORDERED = 16

# libav's numbers of colour matrices that swscale knows; all others count as BT.601, as it does.
_KNOWN_MATRICES = frozenset({1, 4, 5, 6, 7, 9})
_BT601 = 5


@dataclass(slots=True)
class Tally:
    """How many pictures were good, and how many could not be decoded."""

    good: int = 0
    broken: int = 0


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


def read_pictures(path: Path, tally: Tally, needed: Set[int] | None = None) -> Iterator[Timed]:
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
    needed : set of int, optional
        Time stamps of the pictures that must be given, as `needed_pictures` finds them. Others that
        no picture is predicted from are passed over. Default: all.

    Raises
    ------
    StimulusError
        If it is not a movie, has no pictures, or ends well before its header says.
    """
    given: int | None = None
    for threaded, wanted in ((True, needed), (False, None)):
        tally.good, tally.broken = 0, 0
        with open_movie(path, _WHERE) as container:
            stream = video_stream(container, path, _WHERE, threaded)
            try:
                for timed in timed_pictures(container, stream, tally, wanted, strict=threaded):
                    if given is None or timed.time > given:
                        given = timed.time
                        yield timed
            except _DamagedError:
                continue
            break
    if given is None:
        raise no_pictures(path, _WHERE)


def timed_pictures(
    container: InputContainer,
    stream: VideoStream,
    tally: Tally,
    needed: Set[int] | None = None,
    strict: bool = False,
) -> Iterator[Timed]:
    """Decode the pictures in order of appearance, on the time line that begins when playing does.

    Damage is passed over, or, if ``strict``, ends the work with `_DamagedError`.

    Raises
    ------
    StimulusError
        When the file ends well before its header says.
    """
    tick_s = clock_tick_s(stream)
    aspect = exact(stream.sample_aspect_ratio) or Fraction(1)
    clock = Clock.of(container, stream)
    ends: dict[int, int] = {}
    pictures = _decoded(container, stream, tally, ends, needed, strict)
    untimed = container.format.name.startswith(_UNTIMED_FORMATS)
    for pts, picture in _stamped(pictures, _MOST_REORDERED if untimed else 0):
        time = clock.place(pts)
        if time is not None:
            tally.good += 1
            yield Timed(time, picture.duration or clock.usual, tick_s, picture, aspect)
    units_s = {other.index: exact(other.time_base) or Fraction(0) for other in container.streams}
    reached_s = max((end * units_s[index] for index, end in ends.items()), default=Fraction(0))
    whole_s = declared_s(container)
    if whole_s is not None and whole_s - reached_s > max(
        3 * clock.longest * tick_s, min(_TOLERANCE_S, whole_s * _TOLERANCE_SHARE), whole_s / 50
    ):
        name = Path(container.name.removeprefix("file:"))
        got = f"'{name}', which ends at {float(reached_s):.1f} s of {float(whole_s):.1f} s"
        raise refuse(_WHERE, "a whole movie", got, "It was cut short: copy it again.")


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
    container: InputContainer,
    stream: VideoStream,
    tally: Tally,
    ends: dict[int, int],
    needed: Set[int] | None,
    strict: bool,
) -> Iterator[VideoFrame]:
    """Decode what can be decoded, count what cannot, and note how far each stream reaches."""
    import av

    # All streams' packets, since the sound tells how far a file reaches; only pictures are decoded.
    packets = container.demux()
    due = deque(sorted(needed or ()))
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
                passed_over = packet.pts is not None and packet.pts not in needed
                stream.codec_context.skip_frame = "NONREF" if passed_over else "DEFAULT"
            pictures = stream.decode(packet)
        except av.FFmpegError as error:
            if strict:
                raise _DamagedError from error
            # This packet is damaged and the next one may be whole; or, where the file could not
            # be read on, there is no next one.
            tally.broken += 1
            continue
        for picture in pictures:
            if due and picture.pts is not None and picture.pts > due[0]:
                raise _DamagedError  # What was due has not come.
            if picture.is_corrupt:
                if strict:
                    raise _DamagedError
                tally.broken += 1
            else:
                if due and picture.pts == due[0]:
                    due.popleft()
                yield picture
    if due:
        raise _DamagedError


def prepare_picture(timed: Timed, size: int, center_crop: bool) -> Pixels:
    """Convert one picture: colour, shape of its pixels, orientation, resize."""
    picture, aspect = timed.picture, timed.pixel_aspect
    alpha = any(part.is_alpha for part in picture.format.components)
    matrix = int(picture.colorspace)
    rgb = picture.reformat(
        format="rgba" if alpha else "rgb24",
        src_colorspace=matrix if matrix in _KNOWN_MATRICES else _BT601,
        src_color_range=int(picture.color_range),
        threads=1,  # A picture is too little to share.
    ).to_ndarray()
    if center_crop and aspect > 0 and aspect != 1:
        shown = (max(1, round(picture.width * aspect)), picture.height)
        rgb = np.asarray(Image.fromarray(rgb).resize(shown, Image.Resampling.BILINEAR))
    flip_x, flip_y, transpose = orientation(picture)
    turned = rgb.transpose(1, 0, 2) if transpose else rgb
    turned = turned[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
    return prepare_image(np.ascontiguousarray(turned), size, center_crop)


def orientation(picture: VideoFrame) -> tuple[bool, bool, bool]:
    """Return how the metadata turn a picture upright, to the nearest right angle.

    The display matrix sends (x, y) to (a x + c y, b x + d y), with y downwards; it is stored as
    nine 32-bit fixed-point numbers, of which a, b, c, d are the first, second, fourth and fifth.

    Returns
    -------
    flip_x, flip_y, transpose : bool
        First swap rows with columns if ``transpose``, then reverse columns and rows.
    """
    from av.sidedata.sidedata import SideDataContainer

    # picture.side_data would make a cycle, and each picture wait for the garbage collector.
    matrix: Any = SideDataContainer(picture).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    if matrix is None:
        return False, False, False
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    return (c < 0, b < 0, True) if abs(b) > abs(a) else (a < 0, d < 0, False)


def open_movie(path: Path, where: str) -> InputContainer:
    """Open a movie file; nothing but this file is ever read (no network, no playlists)."""
    import av

    expected = "a movie"
    if not path.exists():
        got = f"'{path}', which does not exist"
        raise refuse(where, expected, got, "Check its spelling and where links lead.")
    if not path.is_file():
        raise refuse(where, expected, f"'{path}', which is not a file", "Name the movie's file.")
    if path.stat().st_size == 0:
        got = f"'{path}', which is empty (0 bytes)"
        raise refuse(where, expected, got, "Copy it again or leave it out.")
    try:
        path.open("rb").close()
    except OSError as error:
        got = f"'{path}', which cannot be read ({error.strerror})"
        raise refuse(where, expected, got, "Check its permissions and its disk.") from error
    # Titles in old files are not always UTF-8; nobody reads them here. From 19 on PyAV takes any
    # title, and no longer this argument.
    before_19 = int(av.__version__.partition(".")[0]) < 19
    titles: dict[str, Any] = {"metadata_errors": "replace"} if before_19 else {}
    try:
        container: InputContainer = av.open(
            f"file:{path}", options={"protocol_whitelist": "file"}, **titles
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        got = f"'{path}', which cannot be opened ({reason})"
        remedy = "It is not a movie or was cut short: copy it again, or leave it out."
        raise refuse(where, expected, got, remedy) from error
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        container.close()
        remedy = "Give it as an image."
        raise refuse(where, expected, f"'{path}', which is a single picture", remedy)
    return container


def video_stream(
    container: InputContainer, path: Path, where: str, threaded: bool = False
) -> VideoStream:
    """Return the stream of pictures, ready to decode."""
    from av.stream import Disposition

    movies = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not movies:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        got = f"'{path}', which holds {kinds or 'nothing'} and no video stream"
        raise refuse(where, "a movie", got, "Leave it out.")
    if all(stream.codec_context is None for stream in movies):
        raise no_pictures(path, where)
    movies = [stream for stream in movies if stream.codec_context is not None]
    best = container.streams.best("video")
    stream = next((s for s in movies if best is not None and s.index == best.index), movies[0])
    context = stream.codec_context
    stream.thread_type = "AUTO"
    # Small pictures cost threads a third more time, while the network needs the processors.
    few = max(1, n_processors() // 2) if context.width * context.height < _LARGE else n_processors()
    context.thread_count = min(few, _MAX_DECODE_THREADS) if threaded else 1
    if threaded:
        # Threads conceal damage in silence, and differently: have decoders tell, to begin anew.
        context.options = {"err_detect": "explode"}
    return stream


def no_pictures(path: Path, where: str) -> StimulusError:
    """Return the error for a movie without a single picture."""
    got = f"'{path}', which has a video stream but no picture that can be decoded"
    remedy = "It was cut short or its codec is not known: export it again as MP4 (H.264)."
    return refuse(where, "a movie", got, remedy)

"""One movie file into decoded pictures with exact times; what is damaged is passed over."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgtofmri.exceptions import StimulusError
from imgtofmri.processors import n_processors
from imgtofmri.stimuli.items import Pixels, refuse
from imgtofmri.stimuli.pixels import prepare_image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_MAX_DECODE_THREADS = 8

# Sound that begins this much before the pictures is the codec's run-in, not a late picture.
_RUN_IN_S = Fraction(1, 10)

# A step back in time beyond this, or a gap beyond that, is where two recordings were joined.
_JOINT_S = Fraction(1)
_GAP_S = Fraction(60)

_WHERE = "read_movie"

# Containers whose header says how long the whole is, so that a missing end can be noticed.
_HEADED_FORMATS = ("mov", "matroska", "avi", "asf", "flv")

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
    """A picture could not be decoded while several threads were at work."""


def read_pictures(path: Path, tally: Tally) -> Iterator[Timed]:
    """Decode a movie's pictures in order of appearance, each once.

    Several threads decode until something is found damaged. Threads lose whole neighbours of a
    damaged picture, more of them the more threads there are, so the movie is then begun again with
    one thread: what is given does not depend on the machine.

    Parameters
    ----------
    path : Path
    tally : Tally
        Counts as it goes.

    Raises
    ------
    StimulusError
        If it is not a movie, has no pictures, or ends well before its header says.
    """
    given: int | None = None
    for n_threads in (min(_MAX_DECODE_THREADS, n_processors()), 1):
        tally.good, tally.broken = 0, 0
        with open_movie(path, _WHERE) as container:
            stream = video_stream(container, path, _WHERE, n_threads)
            try:
                for timed in timed_pictures(container, stream, tally):
                    if given is None or timed.time > given:
                        given = timed.time
                        yield timed
            except _DamagedError:
                continue
            break
    if given is None:
        raise no_pictures(path, _WHERE)


class _Clock:
    """Puts pictures on the time line that begins when playing does, in ticks.

    Parameters
    ----------
    tick_s : Fraction
        Seconds in a tick.
    origin : int or None
        When playing begins; None where the first picture tells.
    usual : int
        Time between pictures where nothing else is known.
    declared_s : Fraction or None
        How long the movie is, by its header.
    """

    def __init__(
        self, tick_s: Fraction, origin: int | None, usual: int, declared_s: Fraction | None
    ) -> None:
        self.usual = self.longest = usual
        self._origin = origin
        self._last = -1
        self._joint, self._gap = round(_JOINT_S / tick_s), round(_GAP_S / tick_s)
        self._latest = None if declared_s is None else round(declared_s / tick_s) + self._joint

    def place(self, pts: int | None) -> int | None:
        """Return when a picture appears, or None if its clock is damaged.

        Times rise strictly. The neighbours stand for a picture that cannot be placed.
        """
        last, following = self._last, self._last + self.usual
        if pts is None:
            pts = following + (self._origin or 0) if last >= 0 else self._origin or 0
        if self._origin is None or (last < 0 and pts < self._origin):
            self._origin = pts  # The header did not know the beginning.
        time = pts - self._origin
        if self._latest is not None and time > self._latest:
            return None  # The header says that there is no such time.
        if time <= last and last - time < self._joint:
            return None  # The clock stumbles.
        if time <= last or (last >= 0 and self._latest is None and time - last > self._gap):
            self._origin += time - following  # Two recordings were joined here.
            time = following
        self.longest = max(self.longest, time - last)
        self._last = time
        return time


def timed_pictures(container: InputContainer, stream: VideoStream, tally: Tally) -> Iterator[Timed]:
    """Decode the pictures in order of appearance, on the time line that begins when playing does.

    Raises
    ------
    StimulusError
        When the file ends well before its header says.
    """
    tick_s = stream.time_base or Fraction(1, 90_000)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    rate = stream.average_rate or stream.guessed_rate or 25
    declared_s = _declared_s(container)
    clock = _Clock(
        tick_s, _origin(container, stream, tick_s), max(1, round(1 / (rate * tick_s))), declared_s
    )
    ends: dict[int, int] = {}
    for picture in _decoded(container, stream, tally, ends):
        time = clock.place(picture.pts)
        if time is not None:
            tally.good += 1
            yield Timed(time, picture.duration or clock.usual, tick_s, picture, aspect)
    units_s = {other.index: other.time_base or Fraction(0) for other in container.streams}
    reached_s = max((end * units_s[index] for index, end in ends.items()), default=Fraction(0))
    if declared_s is not None and declared_s - reached_s > max(
        3 * clock.longest * tick_s, _JOINT_S, declared_s / 50
    ):
        name = Path(container.name.removeprefix("file:"))
        got = f"'{name}', which ends at {float(reached_s):.1f} s of {float(declared_s):.1f} s"
        raise refuse(_WHERE, "a whole movie", got, "It was cut short: copy it again.")


def _decoded(
    container: InputContainer, stream: VideoStream, tally: Tally, ends: dict[int, int]
) -> Iterator[VideoFrame]:
    """Decode what can be decoded, count what cannot, and note how far each stream reaches."""
    import av

    # All streams' packets, since the sound tells how far a file reaches; only pictures are decoded.
    packets = container.demux()
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            if packet.pts is not None:
                index, end = packet.stream_index, packet.pts + (packet.duration or 0)
                ends[index] = max(ends.get(index, end), end)
            pictures = stream.decode(packet) if packet.stream is stream else []
        except av.FFmpegError as error:
            if stream.codec_context.thread_count > 1:
                raise _DamagedError from error
            # This packet is damaged and the next one may be whole; or, where the file could not
            # be read on, there is no next one.
            tally.broken += 1
            continue
        for picture in pictures:
            if picture.is_corrupt:
                tally.broken += 1
            else:
                yield picture


def _origin(container: InputContainer, stream: VideoStream, tick_s: Fraction) -> int | None:
    """Return when playing begins, on the pictures' clock; None if the header does not say."""

    def start_s(of: Any) -> Fraction | None:
        known = of.start_time is not None and of.time_base is not None
        return Fraction(of.start_time) * of.time_base if known else None

    pictures_s = start_s(stream)
    if pictures_s is None:
        return None
    sounds = [start_s(audio) for audio in container.streams.audio]
    first_s = min([pictures_s, *(sound for sound in sounds if sound is not None)])
    return round((pictures_s if pictures_s - first_s < _RUN_IN_S else first_s) / tick_s)


def _declared_s(container: InputContainer) -> Fraction | None:
    """Return the length of the whole, if the header is one that knows it."""
    if not container.duration or not container.format.name.startswith(_HEADED_FORMATS):
        return None
    return Fraction(container.duration, 1_000_000)


def prepare_picture(timed: Timed, size: int, center_crop: bool) -> Pixels:
    """Convert one picture: colour, shape of its pixels, orientation, resize."""
    picture, aspect = timed.picture, timed.pixel_aspect
    alpha = any(part.is_alpha for part in picture.format.components)
    matrix = int(picture.colorspace)
    rgb = picture.reformat(
        format="rgba" if alpha else "rgb24",
        src_colorspace=matrix if matrix in _KNOWN_MATRICES else _BT601,
        src_color_range=int(picture.color_range),
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
    matrix: Any = picture.side_data.get("DISPLAYMATRIX")
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
    try:
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
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
    container: InputContainer, path: Path, where: str, n_threads: int = 1
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
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = n_threads
    return stream


def no_pictures(path: Path, where: str) -> StimulusError:
    """Return the error for a movie without a single picture."""
    got = f"'{path}', which has a video stream but no picture that can be decoded"
    remedy = "It was cut short or its codec is not known: export it again as MP4 (H.264)."
    return refuse(where, "a movie", got, remedy)

"""A movie: what its file says of itself, and its frames at a steady rate, in constant memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from imgtofmri.exceptions import OptionError, StimulusError
from imgtofmri.files import sha256_of
from imgtofmri.limits import limit, variable
from imgtofmri.stimuli.ahead import run_ahead
from imgtofmri.stimuli.clock import exact, rate_of
from imgtofmri.stimuli.containers import (
    moving_streams,
    no_pictures,
    one_movies_fault,
    open_pictures,
)
from imgtofmri.stimuli.decoding import Tally, Timed, read_pictures, timed_pictures
from imgtofmri.stimuli.items import (
    FRAME_SIZE,
    Frame,
    Pixels,
    Source,
    StimulusWarning,
    one_line,
    refuse,
)
from imgtofmri.stimuli.pictures import orientation, prepare_picture, rgb_picture
from imgtofmri.stimuli.sampling import Timeline, check_rate, pick_nearest

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

T = TypeVar("T")

_AHEAD = 16
_STILLS_AHEAD = 4
"""Of pictures at their own size, which take a hundred times as much memory."""


@dataclass(frozen=True, slots=True)
class MovieInfo:
    """What a movie's header and first picture say.

    Attributes
    ----------
    duration_s : float or None
        Length of the pictures, or of the whole where only that is known. An estimate for containers
        without an index: `Movie.frames` goes by the pictures themselves.
    n_frames : int or None
        Number of pictures, where the container says it.
    fps : float or None
        Mean rate of pictures, Hz.
    width, height : int
        As shown, after the rotation, in pixels.
    rotation_deg : int
        Clockwise rotation that the metadata ask for: 0, 90, 180 or 270.
    codec : str
    """

    duration_s: float | None
    n_frames: int | None
    fps: float | None
    width: int
    height: int
    rotation_deg: int
    codec: str


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One picture of a movie as it is shown.

    Attributes
    ----------
    time, duration : int
        When it appears after playing begins, and for how long, in ticks.
    tick_s : Fraction
        Seconds in a tick.
    pixels : uint8 array of shape (height, width, 3)
        RGB.
    """

    time: int
    duration: int
    tick_s: Fraction
    pixels: Pixels


class Movie:
    """A movie file, looked at once, when something is first asked of it.

    One opening decodes the first picture and, where packets tell when pictures appear, goes through
    them; what it finds is kept. Another decodes the frames, each time that they are asked for.
    Nothing stays open in between.

    Parameters
    ----------
    path : str, Path or Source
        Any container and codec that FFmpeg reads, at constant or variable rate. Sound is ignored.

    Attributes
    ----------
    path : Path
    name : str
        The file's, or the source's: frames are named after it.

    Raises
    ------
    StimulusError
        When something is first asked of it: if the file is missing, not a movie, cut short before
        its first picture, or without pictures.
    """

    def __init__(self, path: str | Path | Source) -> None:
        source = path if isinstance(path, Source) else Source(Path(path), Path(path).name, "movie")
        self.path, self.name = source.path, source.name

    @classmethod
    def of(cls, movie: Movie | str | Path | Source) -> Movie:
        """Return a movie as it is, and the movie of a path or source."""
        return movie if isinstance(movie, Movie) else cls(movie)

    @cached_property
    def sha256(self) -> str:
        """Digest of the whole file, in hexadecimal."""
        return sha256_of(self.path)

    @property
    def info(self) -> MovieInfo:
        """What its header and first picture say."""
        return self._found[0]

    @property
    def timeline(self) -> Timeline:
        """When its pictures appear, as far as the packets tell."""
        return self._found[1]

    def n_frames(self, rate_hz: float = 2.0) -> int | None:
        """Count the frames that `frames` takes, without decoding them.

        Parameters
        ----------
        rate_hz : float, default 2.0
            Frames a second that are taken, at most 500.

        Returns
        -------
        int or None
            None where only decoding tells: the container does not store when pictures appear, their
            clock is damaged, or they end before the header says.

        Raises
        ------
        OptionError
            If ``rate_hz`` is out of range.
        StimulusError
            If its header says that there are more than the limit.
        """
        rate = check_rate(rate_hz)
        self.check_length(rate_hz, limit("frames"), f"Or set {variable('frames')} higher.")
        return self.timeline.n_frames(rate)

    def check_length(self, rate_hz: float, most: float, remedy: str = "") -> None:
        """Refuse a movie whose header says that it has too many frames, before any is decoded.

        Parameters
        ----------
        rate_hz : float
            Frames a second that are taken.
        most : int
            How many there may be.
        remedy : str
            What else to do about it than to cut it or to take fewer.

        Raises
        ------
        StimulusError
        """
        declared_s = self.timeline.declared_s
        # A header that says more than the file holds, but for its tolerance, is refused anyway.
        if declared_s is not None and declared_s * Fraction(rate_hz) > most * Fraction(21, 20):
            raise self._too_long(round(declared_s * Fraction(rate_hz)), most, remedy)

    def _too_long(self, n_frames: int, most: float, remedy: str) -> StimulusError:
        got = f"'{self.path}', which has about {n_frames:,} or more at this rate"
        cut = f"Cut it, or take fewer frames a second. {remedy}"
        return refuse(f"a movie of at most {most:,} frames", got, cut.rstrip())

    def expected_frames(self, rate_hz: float = 2.0) -> int | None:
        """Return `n_frames`, or where that is not known about how many, by the header's length."""
        n_frames = self.n_frames(rate_hz)
        if n_frames is None and self.info.duration_s is not None:
            return math.ceil(self.info.duration_s * rate_hz)
        return n_frames

    def frames(
        self,
        rate_hz: float = 2.0,
        size: int = FRAME_SIZE,
        center_crop: bool = False,
        ahead: int = _AHEAD,
    ) -> Iterator[Frame]:
        """Take the picture nearest to each ``k / rate_hz`` seconds while that is before the end.

        The movie is decoded once, from beginning to end, in a thread that runs ahead of the caller
        by a bounded number of frames: a long movie takes no more memory than a short one.

        Parameters
        ----------
        rate_hz : float, default 2.0
            Frames a second that are taken, at most 500.
        size, center_crop
            As in `prepare_image`. A centre crop accounts for pixels that are not square.
        ahead : int, default 16
            How many frames may be decoded and wait.

        Yields
        ------
        Frame
            Named ``film.mp4_t00003.500s``, with ``onset_s`` and the SHA-256 of the whole file.

        Raises
        ------
        OptionError
            If ``rate_hz``, ``size`` or ``ahead`` is out of range; at once.
        StimulusError
            If its header says that there are more frames than the limit, at once. On the way: if
            the file ends before its header says, or a picture cannot be brought to RGB.

        Warns
        -----
        StimulusWarning
            If pictures in the middle could not be decoded; the nearest others stand for them.

        Notes
        -----
        Time 0 is when the movie begins to play: where its first stream begins, so that pictures
        that start late stay late; the first picture stands for the time before it. A lead of the
        sound under 0.1 s is the codec's run-in and does not count. Of two pictures equally near,
        the earlier is taken. The end is the last picture's time and duration. Times are exact
        fractions.

        YUV becomes RGB by the matrix and the range that the movie states; where it states none,
        BT.601 and limited range, as FFmpeg and OpenCV have it. Transfer curves are left as they are
        (HDR is not tone-mapped), interlaced pictures stay as they are, and transparency is over
        white.
        """
        _check_one_or_more("size", size)

        def prepare(each: Timed) -> Pixels:
            return prepare_picture(each.picture, each.pixel_aspect, size, center_crop)

        return self._taken(rate_hz, prepare, ahead)

    def stills(self, rate_hz: float = 2.0, ahead: int = _STILLS_AHEAD) -> Iterator[Frame]:
        """Take the pictures that `frames` takes, at the movie's own size.

        Parameters
        ----------
        rate_hz, ahead
            As in `frames`.

        Yields
        ------
        Frame
            As of `frames`, but that ``pixels`` have the shape (height, width, 3): upright, and as
            they are stored, even where they are shown wider than high.

        Raises
        ------
        OptionError, StimulusError
            As `frames`.

        Warns
        -----
        StimulusWarning
            As for `frames`.
        """
        return self._taken(rate_hz, lambda each: rgb_picture(each.picture, Fraction(1)), ahead)

    def _taken(
        self, rate_hz: float, prepare: Callable[[Timed], Pixels], ahead: int
    ) -> Iterator[Frame]:
        """Check what can be checked at once, and start the thread."""
        rate = check_rate(rate_hz)
        _check_one_or_more("ahead", ahead)
        self.check_length(rate_hz, limit("frames"), f"Or set {variable('frames')} higher.")
        tally = Tally()
        pictures = read_pictures(self.path, tally, self.timeline.needed(rate))
        return self._warned(run_ahead(self._sampled(pictures, rate, prepare), ahead), tally)

    def pictures(self) -> Iterator[Shown]:
        """Decode every picture at its own size, upright, in constant memory.

        Yields
        ------
        Shown

        Raises
        ------
        StimulusError
            If the file ends before its header says, or a picture cannot be brought to RGB.

        Warns
        -----
        StimulusWarning
            As for `frames`.
        """
        tally = Tally()
        return self._warned(run_ahead(self._shown(read_pictures(self.path, tally)), _AHEAD), tally)

    def _shown(self, pictures: Iterator[Timed]) -> Generator[Shown, None, None]:
        with one_movies_fault(self.path):
            for each in pictures:
                rgb = rgb_picture(each.picture, each.pixel_aspect)
                yield Shown(each.time, each.duration, each.tick_s, rgb)

    @cached_property
    def _found(self) -> tuple[MovieInfo, Timeline, int]:
        """Go through the file: the first picture is decoded, the others' packets are noted."""
        from av import FFmpegError

        with one_movies_fault(self.path), open_pictures(self.path) as (container, stream):
            timeline = Timeline(container, stream)
            packets = timeline.note(container.demux())
            first = next(timed_pictures(container, stream, packets, Tally()), None)
            if first is None:
                raise no_pictures(self.path)
            info = _info(container, stream, first.picture)
            n_streams = len(moving_streams(container))
            with suppress(FFmpegError):  # Then the time line is not known.
                while timeline.told and next(packets, None) is not None:
                    pass
        return info, timeline, n_streams

    def _warned(self, frames: Iterator[T], tally: Tally) -> Iterator[T]:
        """Pass frames on, and warn of what was not taken as it should when all are through."""
        yield from frames
        info, timeline, n_streams = self._found
        name = one_line(self.name)
        several = (
            f"'{name}' holds {n_streams} streams of pictures, of which one is taken, the best by "
            f"FFmpeg's rule ({info.width} x {info.height}). Copy the stream that is meant into a "
            "file of its own if it is another."
        )
        beyond = (
            f"{tally.beyond} pictures of '{name}' come after the end that its header tells, and "
            "were left out. Copy it into a new container (ffmpeg -i OLD -c copy NEW.mkv) if they "
            "are part of it."
        )
        assumed = (
            f"'{name}' does not say how fast its pictures follow each other; 25 a second were "
            "assumed. Put it into a container with its rate (MP4, MKV) if it has another."
        )
        broken = (
            f"{tally.broken} of {tally.broken + tally.good} pictures of '{name}' could not be "
            "decoded; the nearest others stand for them."
        )
        for message, holds in (
            (several, n_streams > 1),
            (beyond, tally.beyond),
            (assumed, timeline.assumed),
            (broken, tally.broken),
        ):
            if holds:
                warnings.warn(message, StimulusWarning, stacklevel=2)

    def _sampled(
        self, pictures: Iterator[Timed], rate: Fraction, prepare: Callable[[Timed], Pixels]
    ) -> Generator[Frame, None, None]:
        """Decode, pick and prepare: the work of the thread."""
        most = limit("frames")
        last: Timed | None = None
        pixels: Pixels | None = None
        with one_movies_fault(self.path):
            first = next(pictures)
            timed = ((each.time, each.duration, each) for each in chain([first], pictures))
            for k, each in pick_nearest(timed, 1 / (rate * first.tick_s)):
                if k >= most:
                    raise self._too_long(k + 1, most, f"Or set {variable('frames')} higher.")
                if pixels is None or each is not last:
                    pixels, last = prepare(each), each
                onset_s = float(k / rate)
                yield Frame(frame_name(self.name, onset_s), pixels, self.sha256, onset_s, self.path)


def frame_name(movie: str, onset_s: float) -> str:
    """Return the name of a movie's frame.

    Examples
    --------
    >>> frame_name("film.mp4", 3.5)
    'film.mp4_t00003.500s'
    """
    return f"{movie}_t{onset_s:09.3f}s"


def _check_one_or_more(option: str, value: int) -> None:
    if value < 1:
        message = f"{option} must be 1 or more; got {value}. Leave it out."
        raise OptionError(message)


def _info(container: InputContainer, stream: VideoStream, first: VideoFrame) -> MovieInfo:
    flip_x, flip_y, transpose = orientation(first)
    half_turn = 180 if flip_x and flip_y else 0
    duration_s = None
    unit_s = exact(stream.time_base)
    if stream.duration is not None and unit_s is not None:
        duration_s = float(stream.duration * unit_s)
    elif container.duration is not None:
        duration_s = container.duration / 1_000_000
    rate = rate_of(container, stream)
    return MovieInfo(
        duration_s=duration_s,
        n_frames=stream.frames or None,
        fps=float(rate) if rate else None,
        width=first.height if transpose else first.width,
        height=first.width if transpose else first.height,
        rotation_deg=(90 if flip_x else 270) if transpose else half_turn,
        codec=stream.codec_context.name,
    )

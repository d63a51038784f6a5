"""Movies into frames at a steady rate: decoded once, in order, in constant memory."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TypeVar

from imgtofmri.exceptions import OptionError
from imgtofmri.stimuli.ahead import run_ahead
from imgtofmri.stimuli.clock import exact
from imgtofmri.stimuli.decoding import (
    Tally,
    Timed,
    no_pictures,
    open_movie,
    orientation,
    prepare_picture,
    read_pictures,
    timed_pictures,
    video_stream,
)
from imgtofmri.stimuli.items import FRAME_SIZE, Frame, Pixels, Source, one_line
from imgtofmri.stimuli.sampling import count_taken, needed_pictures, pick_nearest

T = TypeVar("T")

_AHEAD = 16
_MAX_RATE_HZ = 500.0


class StimulusWarning(UserWarning):
    """A stimulus was used, but part of it could not be."""


@dataclass(frozen=True, slots=True)
class MovieInfo:
    """What a movie's header and first picture say.

    Attributes
    ----------
    duration_s : float or None
        Length of the pictures, or of the whole where only that is known. An estimate for containers
        without an index: `read_movie` goes by the pictures themselves.
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

    def expected_frames(self, rate_hz: float) -> int | None:
        """Return about how many frames a rate takes, for progress; `count_frames` is exact."""
        return None if self.duration_s is None else math.ceil(self.duration_s * rate_hz)


def probe_movie(path: str | Path) -> MovieInfo:
    """Look at a movie without reading it through.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    MovieInfo

    Raises
    ------
    StimulusError
        If it is missing, not a movie, cut short before its first picture, or has no pictures.
    """
    path = Path(path)
    with open_movie(path, "probe_movie") as container:
        stream = video_stream(container, path, "probe_movie")
        first = next(timed_pictures(container, stream, Tally()), None)
        if first is None:
            raise no_pictures(path, "probe_movie")
        flip_x, flip_y, transpose = orientation(first.picture)
        width, height = first.picture.width, first.picture.height
        half_turn = 180 if flip_x and flip_y else 0
        rotation_deg = (90 if flip_x else 270) if transpose else half_turn
        duration_s = None
        unit_s = exact(stream.time_base)
        if stream.duration is not None and unit_s is not None:
            duration_s = float(stream.duration * unit_s)
        elif container.duration is not None:
            duration_s = container.duration / 1_000_000
        rate = exact(stream.average_rate) or exact(stream.guessed_rate)
        return MovieInfo(
            duration_s=duration_s,
            n_frames=stream.frames or None,
            fps=float(rate) if rate else None,
            width=height if transpose else width,
            height=width if transpose else height,
            rotation_deg=rotation_deg,
            codec=stream.codec_context.name,
        )


def read_movie(
    path: str | Path | Source,
    *,
    rate_hz: float = 2.0,
    size: int = FRAME_SIZE,
    center_crop: bool = False,
    ahead: int = _AHEAD,
) -> Iterator[Frame]:
    """Take the picture nearest to each ``k / rate_hz`` seconds while that is before the end.

    The movie is decoded once, from beginning to end, in a thread that runs ahead of the caller by a
    bounded number of frames: a long movie takes no more memory than a short one.

    Parameters
    ----------
    path : str, Path or Source
        Any container and codec that FFmpeg reads, at constant or variable rate. Sound is ignored.
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
        At once: if the file is missing, not a movie, without pictures. On the way: if it ends
        before its header says.

    Warns
    -----
    StimulusWarning
        If pictures in the middle could not be decoded; the nearest others stand for them.

    Notes
    -----
    Time 0 is when the movie begins to play: where its first stream begins, so that pictures that
    start late stay late; the first picture stands for the time before it. A lead of the sound
    under 0.1 s is the codec's run-in and does not count. Of two pictures equally near, the earlier
    is taken. The end is the last picture's time and duration. Times are exact fractions.

    YUV becomes RGB by the matrix and the range that the movie states; where it states none, BT.601
    and limited range, as FFmpeg and OpenCV have it. Transfer curves are left as they are (HDR is
    not tone-mapped), interlaced pictures stay as they are, and transparency is over white.
    """
    check_rate(rate_hz)
    for option, value in (("size", size), ("ahead", ahead)):
        if value < 1:
            message = f"read_movie: {option} must be 1 or more; got {value}. Leave it out."
            raise OptionError(message)
    source = path if isinstance(path, Source) else Source(Path(path), Path(path).name, "movie")
    probe_movie(source.path)
    return _warned(source, rate_hz, size, center_crop, ahead)


def count_frames(path: str | Path, rate_hz: float = 2.0) -> int | None:
    """Count the frames that `read_movie` takes, without decoding the movie.

    Parameters
    ----------
    path : str or Path
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
        If it is missing or not a movie.
    """
    check_rate(rate_hz)
    return count_taken(Path(path), _exact(rate_hz))


def _exact(rate_hz: float) -> Fraction:
    return Fraction(rate_hz).limit_denominator(1_000_000)


def check_rate(rate_hz: float) -> None:
    """Refuse a rate at which no frames can be taken.

    Raises
    ------
    OptionError
        If ``rate_hz`` is not above 0 and at most 500.
    """
    if not (math.isfinite(rate_hz) and 0 < rate_hz <= _MAX_RATE_HZ):
        message = (
            f"read_movie: rate_hz must be above 0 and at most {_MAX_RATE_HZ:g} frames a second; "
            f"got {rate_hz}. The published model takes 2."
        )
        raise OptionError(message)


def _warned(
    source: Source, rate_hz: float, size: int, center_crop: bool, ahead: int
) -> Iterator[Frame]:
    """Yield the frames, decoded ahead, and warn of broken pictures when all are through."""
    tally = Tally()
    yield from run_ahead(_sampled(source, rate_hz, size, center_crop, tally), ahead)
    if tally.broken:
        message = (
            f"read_movie: {tally.broken} of {tally.broken + tally.good} pictures of "
            f"'{one_line(source.name)}' could not be decoded; the nearest others stand for them."
        )
        warnings.warn(message, StimulusWarning, stacklevel=2)


def _sampled(
    source: Source, rate_hz: float, size: int, center_crop: bool, tally: Tally
) -> Generator[Frame, None, None]:
    """Decode, pick and prepare: the work of the thread."""
    path, rate = source.path, _exact(rate_hz)
    digest = _sha256(path)
    pictures = read_pictures(path, tally, needed_pictures(path, rate))
    first = next(pictures)
    timed = ((each.time, each.duration, each) for each in chain([first], pictures))
    last: Timed | None = None
    pixels: Pixels | None = None
    for k, picture in pick_nearest(timed, 1 / (rate * first.tick_s)):
        if pixels is None or picture is not last:
            pixels, last = prepare_picture(picture, size, center_crop), picture
        onset_s = float(k / rate)
        yield Frame(f"{source.name}_t{onset_s:09.3f}s", pixels, digest, onset_s, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

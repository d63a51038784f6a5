"""What a file that was sent really is, found before any job is made of it."""

from __future__ import annotations

from pathlib import Path

from imgtofmri.exceptions import StimulusError
from imgtofmri.serve.limits import Limits
from imgtofmri.stimuli import Movie
from imgtofmri.stimuli.containers import open_pictures
from imgtofmri.stimuli.discovery import suffix_kind
from imgtofmri.stimuli.images import decode, read_bytes
from imgtofmri.stimuli.items import refuse

_IMAGE_SUFFIXES = {"JPEG2000": ".jp2", "DIB": ".bmp"}
_MOVIE_SUFFIX = ".mp4"
_HEAD_BYTES = 1_000_000
"""How much of what is called a movie is read to see whether it is an image."""


def inspect(path: Path, limits: Limits, rate_hz: float) -> Path:
    """Return a file under a name whose suffix says what its content is, or refuse it.

    Whoever sent it is not believed: its first bytes tell images from movies, its header how large
    it is. Nothing is decoded but a movie's first picture.

    Parameters
    ----------
    path : Path
    limits : Limits
    rate_hz : float
        Frames a second that would be taken of a movie.

    Returns
    -------
    Path
        The file itself, or under the name that it was moved to.

    Raises
    ------
    StimulusError
        If it is neither an image nor a movie, or is too large or too long.
    """
    if suffix_kind(path) == "movie":
        with path.open("rb") as file:
            data = file.read(_HEAD_BYTES)
    else:
        data = read_bytes(path)
    try:
        picture = decode(data, path.name)
    except StimulusError as not_an_image:
        if "none of these" not in str(not_an_image):
            raise
        return _inspect_movie(path, limits, rate_hz, not_an_image)
    _check_pixels(path.name, *picture.size, limits)
    name = str(picture.format)
    return _called(path, "image", _IMAGE_SUFFIXES.get(name, f".{name.lower()}"))


def _inspect_movie(path: Path, limits: Limits, rate_hz: float, not_an_image: StimulusError) -> Path:
    try:
        with open_pictures(path) as (_, stream):
            width, height = stream.codec_context.width, stream.codec_context.height
    except StimulusError:
        # What is called a movie is told why it is none; for all else, that it is no image.
        if suffix_kind(path) == "movie":
            raise
        raise not_an_image from None
    _check_pixels(path.name, width, height, limits)
    movie = Movie(path)
    n_frames, duration_s = movie.expected_frames(rate_hz), movie.info.duration_s
    _check_pixels(path.name, movie.info.width, movie.info.height, limits)
    if n_frames is None:
        expected, got = "a movie whose length is known", f"'{path.name}', of unknown length"
        raise refuse(expected, got, "Export it again as MP4.")
    length_s = max(n_frames / rate_hz, duration_s or 0.0)
    if length_s > limits.max_minutes * 60:
        got = f"'{path.name}' of {length_s / 60:.1f} minutes"
        expected = f"a movie of at most {limits.max_minutes:g} minutes"
        remedy = "Cut it, start the server with a larger --max-minutes, or use `imgtofmri predict`."
        raise refuse(expected, got, remedy)
    return _called(path, "movie", _MOVIE_SUFFIX)


def _check_pixels(name: str, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        expected = f"a picture of at most {limits.max_megapixels:g} million pixels"
        got = f"'{name}' of {width} x {height}"
        raise refuse(expected, got, "Save it smaller.")


def _called(path: Path, kind: str, suffix: str) -> Path:
    """Add a suffix where the name says something else, for what reads files by their names."""
    if suffix_kind(path) == kind:
        return path
    new = path.with_name(path.name + suffix)
    if new.exists():
        expected = "files whose names differ"
        raise refuse(expected, f"'{path.name}' beside '{new.name}'", "Rename one.")
    return path.rename(new)

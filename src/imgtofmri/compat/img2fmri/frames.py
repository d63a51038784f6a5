"""A movie's frames as the published package kept them: JPEGs at the movie's own size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from PIL import Image

from imgtofmri.encoder import Prediction, Predictor
from imgtofmri.encoder.spatial import BLOCK
from imgtofmri.exceptions import OptionError
from imgtofmri.files import natural_key, write_whole
from imgtofmri.progress import track
from imgtofmri.stimuli import Movie
from imgtofmri.stimuli.items import Pixels

RATE_HZ = 2.0
"""Frames that are taken of each second."""

NUMBER_STEP = 30
"""From one frame's number to the next one's."""

# What OpenCV writes unless told otherwise.
_QUALITY, _SUBSAMPLING = 95, "4:2:0"


def jpeg_bytes(pixels: Pixels) -> bytes:
    """Encode RGB pixels of shape (height, width, 3) as the published package's frames were."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, subsampling=_SUBSAMPLING)
    return file.getvalue()


def frame_name(number: int) -> str:
    """Return the file name of a frame, counted from 0.

    Examples
    --------
    >>> frame_name(0), frame_name(2)
    ('frame1.jpg', 'frame61.jpg')
    """
    return f"frame{1 + NUMBER_STEP * number}.jpg"


def write_frames(movie: Movie, folder: Path) -> list[Path]:
    """Write a movie's frames, two of each second.

    Raises
    ------
    StimulusError
        If the movie cannot be read to its end.
    OptionError
        If the folder then holds frames of another movie, too: they would be taken for this one's.
    OutputError
        If they cannot be written.
    """
    total = movie.expected_frames(RATE_HZ)
    written = []
    with track("Saving movie frames", total, "frames") as advance:
        for number, still in enumerate(movie.stills(RATE_HZ)):
            path = folder / frame_name(number)
            write_whole(path, jpeg_bytes(still.pixels))
            written.append(path)
            advance(1)
    others = sorted({*folder.glob("frame*.jpg")} - {*written}, key=lambda p: natural_key(p.name))
    if others:
        message = (
            f"output_dir must hold the frames of {movie.name} alone; got {len(others)} of another "
            f"movie, such as {others[0]}. Remove them, or choose another folder."
        )
        raise OptionError(message, "output_dir")
    return written


def stream_jpegs(predictor: Predictor, movie: Movie) -> Iterator[Prediction]:
    """Predict a movie's frames from their JPEGs, in parts of bounded size, in order."""
    stills = movie.stills(RATE_HZ)
    while block := list(islice(stills, BLOCK)):
        files = (io.BytesIO(jpeg_bytes(still.pixels)) for still in block)
        yield from predictor.stream([Image.open(file) for file in files])

"""`render_movie`: a movie beside its predicted response, picture by picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgtofmri.analyses.render.figures import BrainPanel
from imgtofmri.analyses.render.video import find_codec, write_video
from imgtofmri.encoder import Encoder, Prediction, Settings
from imgtofmri.exceptions import OptionError
from imgtofmri.figures.style import FOOTNOTE
from imgtofmri.outputs import OutputFolder
from imgtofmri.progress import track
from imgtofmri.stimuli import Movie, Pixels, Shown, check_rate

COMMAND = "render"
SMALLEST, LARGEST = 240, 2160
"""Heights of a rendered movie, in pixels."""

PANEL = 1.25
"""Width of the brain's panel over its height."""

WIDEST = 2.5
"""Width of a movie over its height, at most: a wider one is made smaller."""


def render_movie(
    encoder: Encoder,
    movie: Movie | str | Path,
    folder: OutputFolder | str | Path,
    rate_hz: float = 2.0,
    settings: Settings | None = None,
    *,
    height: int = 480,
    overwrite: bool = False,
    progress: bool = True,
    **changes: Any,
) -> Path:
    """Write a movie with the film on the left and the predicted group map on the right.

    Each picture of the film is there, at its time and for as long; beside it stands the map of the
    predicted frame that is nearest in time, without haemodynamics. Sound is left out.

    Parameters
    ----------
    encoder : Encoder
    movie : Movie, str or Path
    folder : OutputFolder, str or Path
    rate_hz : float
        Frames a second that are predicted.
    settings, **changes
        As for `Encoder.predict`.
    height : int
        Of what is written, in pixels, even.
    overwrite : bool
        Replace what an earlier run wrote.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Path
        ``NAME_brain.mp4``; the record, ``render.json``, is beside it.

    Raises
    ------
    OptionError
        If an option is not valid, or the folder holds an earlier run.
    StimulusError
        If the file is not a movie that can be read to its end.
    OutputError
        If the file cannot be written.
    MissingDependencyError
        If PyAV has no encoder.
    """
    check_rate(rate_hz)
    if not SMALLEST <= height <= LARGEST or height % 2:
        message = (
            f"height must be even and from {SMALLEST} to {LARGEST} pixels; got {height}. Use 480."
        )
        raise OptionError(message, "height")
    codec = find_codec()
    out = OutputFolder.of(folder, COMMAND, overwrite=overwrite)
    film = Movie.of(movie)
    _ = film.info  # What is no movie is refused before anything is loaded for it.
    predictor = encoder.predictor(settings, **changes)
    asked = {"rate_hz": rate_hz, "height": height, "codec": codec}
    with out.begin(asked, predictor.provenance.to_dict()):
        parts: list[Prediction] = []
        with track(
            f"Predicting {film.name}", film.expected_frames(rate_hz), "frames", enabled=progress
        ) as advance:
            maps = []
            for part in predictor.stream_movie(film, rate_hz):
                maps.append(part.group)
                parts = parts or [part]
                advance(len(part))
        first, values = parts[0], np.concatenate(maps)
        path = out.path / f"{film.name}_brain.mp4"
        n_pictures = film.info.n_frames
        with track(f"Rendering {film.name}", n_pictures, "pictures", enabled=progress) as advance:
            shown = _side_by_side(film, first, values, rate_hz, height)
            write_video(path, _counted(shown, advance), codec)
        out.used([film.name], [film.sha256], [film.path])
        out.wrote(path)
    return path


def _counted(pictures: Iterator[Shown], advance: Any) -> Iterator[Shown]:
    for picture in pictures:
        yield picture
        advance(1)


def _side_by_side(
    film: Movie,
    first: Prediction,
    values: npt.NDArray[np.float32],
    rate_hz: float,
    height: int,
) -> Iterator[Shown]:
    """Put each picture beside the map of the predicted frame nearest in time."""
    known = np.abs(values[np.isfinite(values)])
    panel = BrainPanel(
        _even(height * PANEL),
        height,
        first.mask,
        first.affine,
        float(np.percentile(known, 99)) or 1.0,
        f"predicted response ({'z over the mask' if first.unit == 'z' else first.unit})",
        f"{first.provenance.note}. No haemodynamics. {FOOTNOTE}",
    )
    drawn, brain = -1, np.empty(0, np.uint8)
    for shown in film.pictures():
        number = nearest_frame(shown.time * shown.tick_s, rate_hz, len(values))
        if number != drawn:
            title = f"predicted group response at {number / rate_hz:.2f} s"
            drawn, brain = number, panel.draw(values[number], title)
        yield replace(shown, pixels=np.concatenate([_fitted(shown.pixels, height), brain], axis=1))


def nearest_frame(time_s: Fraction, rate_hz: float, n_frames: int) -> int:
    """Return the predicted frame nearest to a time; of two equally near the earlier.

    Examples
    --------
    >>> [nearest_frame(Fraction(t, 4), 2.0, 3) for t in (0, 1, 2, 3, 9)]
    [0, 0, 1, 1, 2]
    """
    doubled = 2 * time_s * Fraction(rate_hz) - 1
    return min(n_frames - 1, max(0, -int(-doubled // 2)))


def _fitted(pixels: Pixels, height: int) -> Pixels:
    """Return a picture of a height, with black above and below a very wide one."""
    tall, wide = pixels.shape[:2]
    width = _even(min(height * wide / tall, height * WIDEST))
    high = min(height, max(1, round(width * tall / wide)))
    resized = Image.fromarray(pixels).resize((width, high), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(resized, (0, (height - high) // 2))
    return np.asarray(canvas)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))

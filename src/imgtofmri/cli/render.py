"""``imgtofmri render``: a movie beside its predicted response."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.encoder import Settings


@options.takes_settings()
def render(
    *,
    movie: Annotated[Path, typer.Argument(metavar="MOVIE", help="The movie file.")],
    output: options.Output,
    rate_hz: options.RateHz = 2.0,
    height: Annotated[int, typer.Option("--height", help="Of the picture, in pixels.")] = 480,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write an .mp4 with the movie on the left and the predicted response on a glass brain.

    Every picture of the movie is there, at its time; beside it stands the map of the predicted
    frame that is nearest, on one scale for the whole movie. Predictions are of each frame alone,
    without haemodynamics. Sound is left out.

    **Examples**

    imgtofmri render film.mp4 -o out/

    imgtofmri render film.mp4 -o out/ --rate-hz 4 --average mean --height 720
    """
    from imgtofmri.analyses.render import render_movie
    from imgtofmri.analyses.render.files import COMMAND
    from imgtofmri.encoder import load_encoder
    from imgtofmri.outputs import OutputFolder

    folder = OutputFolder.of(output, COMMAND, overwrite=overwrite)
    loaded = load_encoder(encoder, progress=not quiet)
    path = render_movie(loaded, movie, folder, rate_hz, settings, height=height, progress=not quiet)
    say(f"written {path}", err=True)

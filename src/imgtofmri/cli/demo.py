"""``imgtofmri demo``: see it work, on the published samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.say import say


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write to; earlier demos are replaced.")
    ] = Path("imgtofmri-demo"),
    backbone: options.BackboneName = None,
    weights: options.Weights = None,
    engine: options.Engine = "onnxruntime",
    precision: options.Precision = None,
    quiet: options.Quiet = False,
) -> None:
    """Predict four photographs and a film, and write the page that shows the responses.

    The samples come with the published model. ResNet-18 is used if its weights can be had, else a
    network that works offline, which is said.

    **Example**

    imgtofmri demo -o demo/
    """
    from imgtofmri.demonstration import make_demonstration

    made = make_demonstration(
        output,
        backbone,
        weights,
        lambda line: say(f"imgtofmri: {line}", err=True),
        not quiet,
        engine=engine,
        precision=precision,
    )
    say(f"{made.n_stimuli} stimuli predicted; open {made.page}")

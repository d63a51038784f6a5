"""``imgtofmri layers``: which layer of a network predicts which ROI best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.say import say


def layers(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file, in TOML.")],
    output: options.Output,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            "-l",
            metavar="LAYER",
            help="A layer, such as layer3 or layer3/max; repeat for more. Default: the study's.",
        ),
    ] = None,
    engine: options.StudyEngine = None,
    precision: options.Precision = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep features on disk for the next run.")
    ] = True,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Score layers of a study's network on each ROI by cross-validation.

    Writes layers.tsv, one row for each subject, ROI and layer, and a figure.

    **Examples**

    imgtofmri layers study.toml -l layer1 -l layer2 -l layer3 -l avgpool -o layers/
    """
    from imgtofmri.backbones import features_folder
    from imgtofmri.encoder import load_encoder
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.training import layer_search, save_layers
    from imgtofmri.training.study import read_study

    folder = OutputFolder.of(output, "layers", overwrite=overwrite)
    described = read_study(study)
    if engine is not None or precision is not None:
        described = described.on_engine(engine or described.backbone.engine, precision)
    table = layer_search(
        described,
        layers,
        lambda name: load_encoder(name, progress=not quiet).bundle,
        progress=not quiet,
        cache=features_folder() if cache else None,
    )
    save_layers(table, study, folder)
    means = table.pivot_table(index="layer", columns="roi", values="median_r", sort=False)
    for roi in means.columns:
        scores = means[roi]
        say(f"{roi}: best is {scores.idxmax()}, cross-validated r {scores.max():.3f}")
    say(f"written {output}")

"""``imgtofmri describe``: what an encoder is, and what may be done with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.say import say, say_json


def describe(
    encoder: Annotated[
        str, typer.Argument(metavar="[ID|FILE]", help="A published encoder's id, or a bundle.")
    ] = "bold5000-resnet18",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
    voxels: Annotated[
        Path | None,
        typer.Option(
            "--voxels", metavar="FILE", help="Write a table of each voxel and its accuracy (TSV)."
        ),
    ] = None,
    atlas: Annotated[
        Path | None,
        typer.Option(
            "--atlas",
            metavar="FILE",
            help="Write the ROIs as an image of labels (.nii.gz), with a table of them beside it.",
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Show an encoder's card: what it predicts, for whom, from which network, how to cite it.

    **Examples**

    imgtofmri describe

    imgtofmri describe my-encoder.safetensors --json

    imgtofmri describe my-encoder.safetensors --voxels voxels.tsv

    imgtofmri describe --atlas rois.nii.gz
    """
    from imgtofmri.encoder import load_encoder

    loaded = load_encoder(encoder, progress=not quiet)
    if atlas is not None:
        for path in loaded.atlas().save(atlas):
            say(f"written {path}", err=True)
    if voxels is not None:
        from imgtofmri.encoder.voxelwise import voxel_table
        from imgtofmri.tables import write_table

        write_table(voxel_table(loaded.bundle), voxels)
        say(f"written {voxels}", err=True)
    if as_json:
        say_json(loaded.card)
    else:
        say(loaded.describe())

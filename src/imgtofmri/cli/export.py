"""``imgtofmri export``: a store of predictions to volumes, surfaces or tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import ending
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.encoder.exporting import ExportName


def export(
    *,
    store: Annotated[
        Path, typer.Argument(metavar="STORE", help="A store, or the folder of the run with it.")
    ],
    output: options.Output,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="nifti|bids|gifti|tsv",
            help="Volumes, plain or as BIDS, with tables; maps on a surface; or tables alone.",
        ),
    ] = "nifti",
    stimuli: Annotated[
        list[str] | None,
        typer.Option("--stimulus", metavar="NAME", help="Only this one; repeatable."),
    ] = None,
    surface: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="fsaverage5|fsaverage",
            help="The surface for GIFTI; fsaverage5 by default.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do what an earlier export left, verify what it made.")
    ] = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Write what a store of predictions holds in another format.

    The files are those that `predict` would have written in that format.

    **Examples**

    imgtofmri export out/ -o volumes/

    imgtofmri export out/ -o bids/ --to bids

    imgtofmri export out/predictions.zarr -o surfaces/ --to gifti --stimulus house.jpg
    """
    from imgtofmri.encoder.exporting import export_store

    summary = export_store(
        store,
        output,
        cast("ExportName", to),
        stimuli=stimuli or None,
        surface=surface,
        resume=resume,
        overwrite=overwrite,
        progress=not quiet,
    )
    n_done = len(summary.done) + len(summary.kept)
    counts = [f"{len(summary.done)} exported"]
    if summary.kept:
        counts.append(f"{len(summary.kept)} kept from an earlier export")
    if summary.failures:
        counts.append(f"{len(summary.failures)} that could not be predicted are not there")
    say(f"{', '.join(counts)}: {output}", err=True)
    return ending(0, n_done)

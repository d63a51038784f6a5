"""``imgtofmri predict``: image files and movies to NIfTI volumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import DONE, report_failures
from imgtofmri.cli.report import show_page
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.encoder import Settings
    from imgtofmri.stimuli import SourceList


@options.takes_settings()
def predict(
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Image files, movies, folders or globs, mixed."),
    ] = None,
    output: options.Output,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    from_file: Annotated[
        str | None,
        typer.Option(
            "--from-file",
            metavar="LIST|-",
            help="A list of files in place of INPUT, a path a line; - is standard input.",
        ),
    ] = None,
    null: Annotated[
        bool,
        typer.Option("--null", "-0", help="Paths in the list end with a NUL, as of find -print0."),
    ] = False,
    subjects: Annotated[
        bool, typer.Option("--subjects", help="Write each subject's map, too.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            metavar="LEVEL",
            help="Write the bounds of a prediction interval, too; 0.95 for example.",
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            metavar="R",
            help="Leave out voxels whose cross-validated r is below this.",
        ),
    ] = None,
    share_of_ceiling: Annotated[
        bool,
        typer.Option(
            "--share-of-ceiling", help="--min-accuracy is of r divided by the noise ceiling."
        ),
    ] = False,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="nifti|bids|zarr",
            help="A file for each map, plain or as BIDS; or one store of all.",
        ),
    ] = "nifti",
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            metavar="float32|float16",
            help="How a store keeps maps; errors are recorded.",
        ),
    ] = "float32",
    rois_only: Annotated[
        bool,
        typer.Option("--rois-only", help="No maps, only the means of ROIs: a store and a table."),
    ] = False,
    rate_hz: options.RateHz = 2.0,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="NAME",
            help="fsaverage5 or fsaverage: also maps on that surface, as GIFTI; or another "
            "template for the volumes, such as MNI152NLin2009cAsym.",
        ),
    ] = None,
    transform: Annotated[
        Path | None,
        typer.Option(
            "--transform",
            metavar="FILE",
            help="The transform to the other template; by default in TemplateFlow's cache.",
        ),
    ] = None,
    at: Annotated[
        Path | None,
        typer.Option(
            "--at", metavar="TABLE", help="A table with columns x, y, z in mm: values at points."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N|auto|auto/N",
            help="Do one of N tasks that make a store together; auto: as a job array says.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Processes that make a store here.")
    ] = 1,
    scheduler: Annotated[
        str,
        typer.Option(
            "--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers make a store."
        ),
    ] = "",
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say what it would take, after a measured second; do nothing."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do what an earlier run left, verify what it made.")
    ] = False,
    report: options.Report = True,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Predict the group-level response to each image or movie in template space, as NIfTI.

    Each image gives OUTPUT/NAME.nii.gz on the encoder's grid, which is that of MNI152NLin6Asym at
    2 mm for the published one; predictions.json beside them records what made them. Each movie
    gives a 4-D NAME.nii.gz with one volume for each frame, NAME_timeseries.tsv with the mean of
    each ROI, and NAME.json with the onsets. Inputs that cannot be used are named, and the rest is
    predicted.

    With --format zarr all maps are in one store, OUTPUT/predictions.zarr, for many inputs; no page
    is written of it. `imgtofmri export` writes its maps in the other formats. Several processes can
    make it: tasks of a job array, which --shard tells apart and `imgtofmri merge` ends; --workers
    here; or those of a Dask cluster.

    Encoders that `fit` made know the accuracy of their voxels: --min-accuracy leaves poor ones out,
    and --interval, with --average mean, writes NAME_lower.nii.gz and NAME_upper.nii.gz, between
    which a new person's measured responses are expected.

    **Examples**

    imgtofmri predict photos/ -o out/

    imgtofmri predict 'photos/*.jpg' -o out/ --rois LOC --rois PPA --subjects

    imgtofmri predict photos/ -o out/ --resume

    imgtofmri predict film.mp4 -o out/ --rate-hz 2

    find photos/ -name '*.jpg' | sort | imgtofmri predict --from-file - -o out/

    imgtofmri predict photos/ -o out/ --space fsaverage5

    imgtofmri predict photos/ -o out/ --at points.tsv

    imgtofmri predict photos/ -o out/ --plan

    imgtofmri predict photos/ -o out/ --format zarr

    imgtofmri predict --from-file list.txt -o out/ --format zarr --shard 3/8

    imgtofmri predict photos/ -o out/ --encoder my-encoder.safetensors --min-accuracy 0.1
    """
    from imgtofmri.analyses.predict import plan_prediction, predict_into

    given = chosen_inputs(inputs, from_file, null)
    asked: dict[str, Any] = {
        "format": format,
        "dtype": dtype,
        "rois_only": rois_only,
        "subjects": subjects,
        "interval": interval,
        "min_accuracy": min_accuracy,
        "share_of_ceiling": share_of_ceiling,
        "rate_hz": rate_hz,
        "space": space,
        "transform": transform,
        "at": at,
    }
    if plan:
        made = plan_prediction(output, encoder, given, settings, progress=not quiet, **asked)
        say("\n".join(made.lines()))
        made.check()
        return DONE
    summary = predict_into(
        output,
        encoder,
        given,
        settings,
        shard=shard,
        workers=workers,
        scheduler=scheduler,
        resume=resume,
        overwrite=overwrite,
        report=report,
        progress=not quiet,
        **asked,
    )
    code = report_failures(summary.failures, len(summary.done) + len(summary.kept))
    counts = [f"{len(summary.done)} predicted"]
    if summary.kept:
        counts.append(f"{len(summary.kept)} kept from an earlier run")
    if summary.failures:
        counts.append(f"{len(summary.failures)} failed (named above)")
    say(f"{', '.join(counts)}: {output}", err=True)
    stored = format == "zarr" or rois_only
    show_page(output, report and not stored and bool(summary.done or summary.kept))
    return code


def chosen_inputs(
    inputs: list[str] | None, from_file: str | None, null: bool
) -> list[str] | SourceList:
    """Return the inputs that a command names, or those that a list names.

    Raises
    ------
    OptionError
        If both name some, or neither does.
    """
    from imgtofmri.exceptions import OptionError
    from imgtofmri.stimuli import read_list

    if null and from_file is None:
        message = "null says how a list's paths end; got no list. Name one with `from_file`."
        raise OptionError(message, "null")
    if bool(inputs) == (from_file is not None):
        got = "both" if inputs else "neither"
        message = (
            f"expected INPUT, or a list of files with `from_file`; got {got}. Use one of them."
        )
        raise OptionError(message)
    return inputs or read_list(from_file or "", null=null)

"""The published package's command line: its options as they were, without their traps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from imgtofmri.cli.app import ends_well, run_program
from imgtofmri.cli.codes import report_failures
from imgtofmri.cli.command import Command
from imgtofmri.cli.say import say


class _Command(Command):
    """Takes several names after ``--roi_list``, whatever files are called."""

    rois = "--roi_list"
    takes_inputs = False


app = typer.Typer(
    name="img2fmri",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.command(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@ends_well
def img2fmri(
    *,
    input_data: Annotated[
        str,
        typer.Option("--input", metavar="PATH", help="A folder of images, or a movie."),
    ],
    output_dir: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", help="Where volumes are written.")
    ] = Path(),
    rois: Annotated[
        list[str] | None,
        typer.Option("--roi_list", metavar="ROI...", help="ROIs, such as LOC PPA. All by default."),
    ] = None,
    sigma_mm: Annotated[
        float,
        typer.Option("--sigma", help="Smoothing: standard deviation in millimetres."),
    ] = 1.0,
    center_crop: Annotated[
        str,
        typer.Option(
            "--center_crop",
            metavar="true|false",
            help="Crop the centre instead of squeezing the image.",
        ),
    ] = "false",
    predict_movie: Annotated[
        str,
        typer.Option("--predict_movie", metavar="true|false", help="The input is a movie."),
    ] = "false",
    jpeg_frames: Annotated[
        str,
        typer.Option(
            "--jpeg_frames",
            metavar="true|false",
            help="Pass a movie's frames through a JPEG, as the published package did.",
        ),
    ] = "false",
) -> int:
    """Predict images or a movie as the published package img2fmri did.

    Each image gives OUTPUT/STEM.nii.gz, a movie OUTPUT/STEM.nii.gz with a volume for each half
    second; what is there under that name is replaced. `imgtofmri predict` does the same and more,
    with a record of what made it.

    **Examples**

    python -m imgtofmri.compat.img2fmri --input photos/ --output out/ --roi_list LOC PPA

    python -m imgtofmri.compat.img2fmri --input "my film.mp4" --predict_movie true --output out/
    """
    from imgtofmri.compat.img2fmri.volumes import predict_files

    written, failures = predict_files(
        input_data,
        output_dir,
        rois or None,
        predict_movie,
        sigma_mm,
        center_crop,
        jpeg_frames=jpeg_frames,
    )
    code = report_failures(failures, len(written))
    for path in written:
        say(f"Saved {path}")
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, one of those of ``imgtofmri``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name. None takes them from ``sys.argv``.
    """
    return run_program("img2fmri", app, arguments)

"""``imgtofmri predict``: image files and movies to NIfTI volumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures
from imgtofmri.exceptions import OptionError, choice_message

if TYPE_CHECKING:
    from imgtofmri.encoder import Settings
    from imgtofmri.outputs import Layout
    from imgtofmri.stimuli import Failure


@options.takes_settings()
def predict(
    *,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Image files, movies, folders or globs, mixed."),
    ],
    output: options.Output,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
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
    output_format: Annotated[
        str, typer.Option("--format", metavar="nifti|bids", help="How to lay out the files.")
    ] = "nifti",
    rate_hz: options.RateHz = 2.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do what an earlier run left, verify what it made.")
    ] = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Predict the group-level response to each image or movie in template space, as NIfTI.

    Each image gives OUTPUT/NAME.nii.gz on the encoder's grid, which is that of MNI152NLin6Asym at
    2 mm for the published one; predictions.json beside them records what made them. Each movie
    gives a 4-D NAME.nii.gz with one volume for each frame, NAME_timeseries.tsv with the mean of
    each ROI, and NAME.json with the onsets. Inputs that cannot be used are named, and the rest is
    predicted.

    Encoders that `fit` made know the accuracy of their voxels: --min-accuracy leaves poor ones out,
    and --interval, with --average mean, writes NAME_lower.nii.gz and NAME_upper.nii.gz, between
    which a new person's measured responses are expected.

    **Examples**

    imgtofmri predict photos/ -o out/

    imgtofmri predict 'photos/*.jpg' -o out/ --rois LOC --rois PPA --subjects

    imgtofmri predict photos/ -o out/ --resume

    imgtofmri predict film.mp4 -o out/ --rate-hz 2

    imgtofmri predict photos/ -o out/ --encoder my-encoder.safetensors --min-accuracy 0.1
    """
    from imgtofmri.analyses.predict import (
        check_targets,
        predict_images,
        predict_movies,
    )
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.prediction import check_interval
    from imgtofmri.outputs import FORMATS, OutputFolder
    from imgtofmri.outputs.folder import INTERRUPTED
    from imgtofmri.stimuli import check_rate, find_sources

    if output_format not in FORMATS:
        raise OptionError(choice_message("predict", "--format", output_format, FORMATS))
    if share_of_ceiling and min_accuracy is None:
        message = (
            "predict: --share-of-ceiling needs --min-accuracy, which it explains; got none. Add "
            "--min-accuracy 0.5, for example."
        )
        raise OptionError(message)
    check_rate(rate_hz)
    folder = OutputFolder(output, "predict", "predictions.json")
    folder.claim(overwrite=overwrite, resume=resume, resumable=True)
    sources, unusable = find_sources(inputs)
    if not sources:
        return _report([], [], unusable, output)
    images = [source for source in sources if source.kind == "image"]
    movies = [source for source in sources if source.kind == "movie"]
    loaded = load_encoder(encoder, progress=not quiet)
    if min_accuracy is not None:
        loaded = loaded.restricted(min_accuracy, share_of_ceiling)
    layout = _layout(output_format, loaded.bundle.space, interval)
    predictor = loaded.predictor(settings)
    spatial = predictor.spatial
    if interval is not None:
        check_interval(settings.average, spatial.residual_variance, interval)
    if not overwrite:
        check_targets(folder, sources, layout)
    asked = {
        "format": output_format,
        "subjects": list(spatial.subject_names) if subjects else [],
        "rate_hz": rate_hz if movies else None,
        "interval": interval,
    }
    folder.begin(asked, predictor.provenance.to_dict())
    for failure in unusable:
        folder.fail(failure.name, str(failure.error))
    state = INTERRUPTED
    try:
        summaries = [
            predict_images(
                predictor,
                images,
                folder,
                layout,
                subjects=subjects,
                interval=interval,
                progress=not quiet,
            ),
            predict_movies(
                predictor,
                movies,
                folder,
                layout,
                rate_hz=rate_hz,
                subjects=subjects,
                interval=interval,
                progress=not quiet,
            ),
        ]
        layout.describe(output, folder.names)
        state = ""
    finally:
        folder.close(state)
    done = [name for summary in summaries for name in summary.done]
    kept = [name for summary in summaries for name in summary.kept]
    failures = [failure for summary in summaries for failure in summary.failures]
    return _report(done, kept, [*unusable, *failures], output)


def _report(done: list[str], kept: list[str], failures: list[Failure], output: Path) -> int:
    """Name what failed, count the rest, and return the exit code."""
    code = report_failures(failures, len(done) + len(kept))
    counts = [f"{len(done)} predicted"]
    if kept:
        counts.append(f"{len(kept)} kept from an earlier run")
    if failures:
        counts.append(f"{len(failures)} failed (named above)")
    typer.echo(f"{', '.join(counts)}: {output}", err=True)
    return code


def _layout(output_format: str, space: str, interval: float | None) -> Layout:
    from imgtofmri.analyses.predict import BOUNDS
    from imgtofmri.outputs import BidsLayout, NiftiLayout

    if output_format == "nifti":
        return NiftiLayout()
    return BidsLayout(space, () if interval is None else BOUNDS)

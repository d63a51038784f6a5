"""``imgtofmri predict``: image files and movies to NIfTI volumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.exceptions import OptionError, choice_message

if TYPE_CHECKING:
    from imgtofmri.outputs import Layout


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Image files, movies, folders or globs, mixed."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
    rois: options.Rois = None,
    sigma_mm: options.SigmaMm = 1.0,
    mask: options.Mask = "overlap",
    average: options.Average = "zscore",
    center_crop: options.CenterCrop = False,
    subjects: Annotated[
        bool, typer.Option("--subjects", help="Write each subject's map, too.")
    ] = False,
    backbone: options.BackboneName = None,
    weights: options.Weights = None,
    encoder: options.EncoderId = "bold5000-resnet18",
    output_format: Annotated[
        str, typer.Option("--format", metavar="nifti|bids", help="How to lay out the files.")
    ] = "nifti",
    resume: Annotated[
        bool, typer.Option("--resume", help="Do what an earlier run left, verify what it made.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    quiet: options.Quiet = False,
) -> int:
    """Predict the group-level response to each image as a NIfTI volume in MNI152NLin6Asym space.

    Each image gives OUTPUT/NAME.nii.gz, on the 2 mm grid of MNI152; predictions.json beside them
    records what made them. Inputs that cannot be used are named, and the rest is predicted.

    **Examples**

    imgtofmri predict photos/ -o out/

    imgtofmri predict 'photos/*.jpg' -o out/ --rois LOC --rois PPA --subjects

    imgtofmri predict photos/ -o out/ --resume
    """
    from imgtofmri.encoder import load_encoder
    from imgtofmri.outputs import RunRecord, check_targets, predict_images, run_settings
    from imgtofmri.pipeline import RunSettings
    from imgtofmri.stimuli import find_sources

    layout = _layout(output_format)
    sources, unusable = find_sources(inputs)
    loaded = load_encoder(encoder, progress=not quiet)
    settings: RunSettings = {
        "rois": rois or None,
        "sigma_mm": sigma_mm,
        "mask": mask,
        "average": average,
        "center_crop": center_crop,
        "backbone": backbone,
        "weights": weights,
    }
    recorded = run_settings(loaded, settings, subjects, output_format)
    check_targets(output, sources, layout, overwrite, resume)
    record = RunRecord.start(output, recorded, resume=resume, overwrite=overwrite)
    for failure in unusable:
        record.fail(failure.name, str(failure.error))
    state = "interrupted"
    try:
        summary = predict_images(
            loaded, sources, record, layout, settings, subjects=subjects, progress=not quiet
        )
        layout.describe(output, record.names)
        state = "complete"
    finally:
        record.finish(state)
    failures = [*unusable, *summary.failures]
    for failure in failures:
        typer.echo(f"imgtofmri: {failure.error}", err=True)
    kept = f", {len(summary.kept)} kept from an earlier run" if summary.kept else ""
    failed = f", {len(failures)} failed (named above)" if failures else ""
    typer.echo(f"{len(summary.done)} predicted{kept}{failed}: {output}", err=True)
    return 1 if failures else 0


def _layout(output_format: str) -> Layout:
    from imgtofmri.outputs import FORMATS, BidsLayout, NiftiLayout

    if output_format not in FORMATS:
        raise OptionError(choice_message("predict", "--format", output_format, FORMATS))
    return BidsLayout() if output_format == "bids" else NiftiLayout()

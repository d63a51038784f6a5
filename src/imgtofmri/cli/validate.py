"""``imgtofmri validate``: predicted and measured responses compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgtofmri.cli import options
from imgtofmri.cli.validation import (
    COSTLY_PERMUTATIONS,
    MATCHED_PERMUTATIONS,
    NAMED,
    accuracy_of_all,
    check_exist,
    check_sources,
    contenders,
    load_twinset,
    match_all,
    named_paths,
    read_names,
    write_record,
)

if TYPE_CHECKING:
    from imgtofmri.encoder import Settings
    from imgtofmri.encoder.prediction import Prediction


@options.takes_settings()
def validate(
    *,
    output: options.Output,
    stimuli: Annotated[
        list[str] | None,
        typer.Option("--stimuli", help="Images to predict: files, folders or globs; repeatable."),
    ] = None,
    predicted: Annotated[
        Path | None,
        typer.Option(
            "--predicted",
            help="Predicted patterns instead: a folder of NIfTI files, a 4-D file, a table "
            "(name, file) or an array (.npy, .npz).",
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--measured",
            "-m",
            help="The group's measured patterns, as for --predicted; a table may have the columns "
            "participant and category, too.",
        ),
    ] = None,
    participant: Annotated[
        list[str] | None,
        typer.Option("--participant", metavar=NAMED, help="A participant's patterns; repeatable."),
    ] = None,
    repeat: Annotated[
        list[Path] | None,
        typer.Option("--repeat", help="Repeated measurements, for the noise ceiling; repeatable."),
    ] = None,
    twinset: Annotated[
        str | None,
        typer.Option(
            "--twinset",
            metavar="fetch|PATH",
            help="Validate on the published data: download them (3.5 GB), or the archive's path.",
        ),
    ] = None,
    brain_mask: Annotated[
        Path | None, typer.Option("--brain-mask", help="Image of the voxels to compare.")
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option("--roi", metavar=NAMED, help="An ROI's mask image; repeatable."),
    ] = None,
    categories: Annotated[
        Path | None, typer.Option("--categories", help="Table with columns name and category.")
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option("--names", help="The images' names, one a line, for sources without names."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="NAME", help="An image to leave out; repeatable."),
    ] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Encoding accuracy in each voxel, too.")
    ] = False,
    control: options.Control = None,
    exchange: Annotated[
        str,
        typer.Option(
            "--exchange",
            metavar="category|all",
            help="Permute images within categories, or over all, in the level category.",
        ),
    ] = "category",
    ceiling: Annotated[
        str,
        typer.Option(
            "--ceiling",
            metavar="METHOD",
            help="Noise ceiling: signal-power, explainable-variance or split-half.",
        ),
    ] = "signal-power",
    missing: Annotated[
        str,
        typer.Option("--missing", metavar="error|drop", help="Voxels without data in some set."),
    ] = "error",
    unmatched: Annotated[
        str,
        typer.Option(
            "--unmatched", metavar="error|drop", help="Images only predicted or only measured."
        ),
    ] = "error",
    resample: Annotated[
        bool, typer.Option("--resample", help="Resample what lies on another grid.")
    ] = False,
    permutations: Annotated[
        int | None,
        typer.Option(
            "--permutations",
            min=1,
            help="Permutations of every test. By default 10,000 of matched patterns, and 1,000 in "
            "voxels and of --control luminance.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of permutations and resamples.")
    ] = 0,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Test whether predicted patterns resemble the patterns measured for the same images.

    Matched patterns: the mean correlation of an image's predicted with its own measured pattern,
    minus that with other images' patterns; p by permuting images, in the group, each ROI, each
    category and each participant. OUTPUT receives matched_patterns.tsv with figures, the
    correlations, with --accuracy maps, tables and a figure of each voxel's and ROI's accuracy, and
    validation.json, which records what was compared and how.

    **Examples**

    imgtofmri validate --stimuli photos/ --measured betas/ -o validation/

    imgtofmri validate --twinset fetch --control untrained --control luminance -o validation/

    imgtofmri validate --predicted out/ --measured betas.tsv --accuracy -o validation/
    """
    from imgtofmri.analyses.validate import read_study, twinset_study
    from imgtofmri.analyses.validate.files import write_accuracy, write_matched
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.controls import check_controls
    from imgtofmri.outputs import OutputFolder

    asked = check_controls(control)
    own = {"--brain-mask": brain_mask, "--roi": roi, "--categories": categories}
    check_sources(
        {"--stimuli": stimuli, "--predicted": predicted, "--twinset": twinset},
        (measured, participant, repeat),
        own | {"--names": names},
        asked,
    )
    folder = OutputFolder(output, "validate", "validation.json")
    folder.claim(overwrite=overwrite)
    participants, regions = named_paths("--participant", participant), named_paths("--roi", roi)
    given_names = read_names(names) if names else None
    given = [predicted, measured, brain_mask, categories, *(repeat or ())]
    check_exist([*given, *participants.values(), *regions.values()])
    found = load_twinset(twinset, not quiet) if twinset else None
    images: list[Any] = list(found.stimuli) if found else list(stimuli or [])
    controls = None
    source: Path | Prediction
    if predicted is not None:
        source = predicted
    else:
        loaded = load_encoder(encoder, progress=not quiet)
        controls = loaded.controls(asked, settings)
        source = loaded.predict(images, settings, progress=not quiet)
    if found is not None and not isinstance(source, Path):
        study = twinset_study(found, source, resample, progress=not quiet)
        study = replace(study, leave_out=(*study.leave_out, *(leave_out or ())))
    else:
        study = read_study(
            source,
            measured,
            participants,
            repeat or (),
            regions,
            categories,
            leave_out or (),
            mask=brain_mask,
            names=given_names,
            resample=resample,
            progress=not quiet,
        )
    analysis: dict[str, Any] = {
        "exchange": exchange,
        "seed": seed,
        "missing": missing,
        "unmatched": unmatched,
    }
    others = []
    if controls:
        others = contenders(controls.predict(images, progress=not quiet), study)
    matched, tables = match_all(study, others, permutations, analysis)
    write_matched(matched, tables, study, output)
    if accuracy or repeat:
        scored, tables = accuracy_of_all(study, others, permutations, ceiling, analysis)
        write_accuracy(scored, tables, output)
    recorded = analysis | {
        "n_permutations": permutations or MATCHED_PERMUTATIONS,
        "n_permutations_voxels_and_luminance": permutations or COSTLY_PERMUTATIONS,
        "noise_ceiling": ceiling if repeat else None,
        "resample": resample,
    }
    made = None if isinstance(source, Path) else source.provenance.to_dict()
    described = controls.to_dict() if controls else {}
    write_record(folder, study, made, described, recorded)
    typer.echo(f"validated {len(matched.names)} images: {output}", err=True)
    return 0

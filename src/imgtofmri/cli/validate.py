"""``imgtofmri validate``: predicted and measured responses compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from imgtofmri.cli import options
from imgtofmri.cli.report import make_page
from imgtofmri.cli.say import say
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.files import is_there

if TYPE_CHECKING:
    from imgtofmri.encoder import Settings

NAMED = "NAME=PATH"


@options.takes_settings()
def validate(
    *,
    output: options.Output,
    stimuli: Annotated[
        list[str] | None,
        typer.Option(help="Images to predict: files, folders or globs; repeatable."),
    ] = None,
    predicted: Annotated[
        Path | None,
        typer.Option(
            help="Predicted patterns instead: a folder of NIfTI files, a 4-D file, a table "
            "(name, file) or an array (.npy, .npz)."
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
        list[str] | None, typer.Option(metavar=NAMED, help="A participant's patterns; repeatable.")
    ] = None,
    repeat: Annotated[
        list[Path] | None,
        typer.Option(help="Repeated measurements, for the noise ceiling; repeatable."),
    ] = None,
    twinset: Annotated[
        str | None,
        typer.Option(
            metavar="fetch|PATH",
            help="Validate on the published data: download them (3.5 GB), or the archive's path.",
        ),
    ] = None,
    brain_mask: Annotated[Path | None, typer.Option(help="Image of the voxels to compare.")] = None,
    roi_mask: Annotated[
        list[str] | None, typer.Option(metavar=NAMED, help="An ROI's mask image; repeatable.")
    ] = None,
    categories: Annotated[
        Path | None, typer.Option(help="Table with columns name and category.")
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(help="The images' names, one a line, for sources without names."),
    ] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An image to leave out; repeatable.")
    ] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Encoding accuracy in each voxel, too.")
    ] = False,
    roi_means: Annotated[
        bool, typer.Option("--roi-means", help="Mean responses of ROIs, too.")
    ] = False,
    control: options.Control = None,
    exchange: Annotated[
        str,
        typer.Option(
            metavar="category|all",
            help="Permute images within categories, or over all, in the level category.",
        ),
    ] = "category",
    ceiling: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Noise ceiling of each voxel's map: signal-power (default), explainable-variance "
            "or split-half. Needs --repeat.",
        ),
    ] = None,
    missing: Annotated[
        str, typer.Option(metavar="error|drop", help="Voxels without data in some set.")
    ] = "error",
    unmatched: options.Unmatched = "error",
    resample: Annotated[
        bool, typer.Option("--resample", help="Resample what lies on another grid.")
    ] = False,
    permutations: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Permutations of every test. By default 10,000 of matched patterns and ROI means, "
            "and 1,000 in voxels and of --control luminance.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of permutations and resamples.")] = 0,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    report: options.Report = True,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Test whether predicted patterns resemble the patterns measured for the same images.

    Matched patterns: the mean correlation of an image's predicted with its own measured pattern,
    minus that with other images' patterns; p by permuting images, in the group, each ROI, each
    category and each participant. --accuracy correlates each voxel over images, --roi-means each
    ROI's mean; both take predictions that keep amplitude, whatever --average says of the patterns.
    OUTPUT receives tables, each with a JSON file that says what its columns mean, figures, maps of
    accuracy, and validation.json, which records what was compared and how.

    **Examples**

    imgtofmri validate --stimuli photos/ --measured betas/ -o validation/

    imgtofmri validate --twinset fetch --control untrained --control luminance -o validation/

    imgtofmri validate --predicted out/ --measured betas.tsv --accuracy -o validation/

    imgtofmri validate --stimuli photos/ --repeat run-1/ --repeat run-2/ --roi-means -o validation/
    """
    from imgtofmri.analyses.validate import (
        encoding_accuracy,
        matched_patterns,
        read_comparison,
        read_names,
        roi_means_accuracy,
        save_validation,
        twinset_comparison,
    )
    from imgtofmri.analyses.validate.files import RECORD
    from imgtofmri.analyses.validate.levels import Exchange
    from imgtofmri.analyses.validate.lines import describe_validation
    from imgtofmri.datasets.twinset import fetch_twinset, load_analysis_archive
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.controls import check_controls
    from imgtofmri.exceptions import check_choice
    from imgtofmri.measured.patterns import Missing
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.stats.ceiling import CeilingMethod

    for name, value, valid in (
        ("exchange", exchange, Exchange),
        ("ceiling", ceiling or "signal-power", CeilingMethod),
        ("missing", missing, Missing),
        ("unmatched", unmatched, Missing),
    ):
        check_choice(name, value, get_args(valid))
    check_controls(control)
    _check_repeats(repeat or (), ceiling)
    _check_sources(
        {"stimuli": stimuli, "predicted": predicted, "twinset": twinset},
        any((measured, participant, repeat)),
        {"brain_mask": brain_mask, "roi_mask": roi_mask, "categories": categories, "names": names},
        control or (),
    )
    if predicted is not None:
        of_network = {name: getattr(settings, name) for name in options.SETTINGS}
        why = (
            "says how images are predicted; got predictions in files (`predicted`), which are "
            "taken as they are. Give `stimuli` instead, or leave it out."
        )
        options.refuse_idle(validate, of_network | {"encoder": encoder}, why)
    folder = OutputFolder.of(output, "validate", RECORD, overwrite=overwrite)
    participants = _named_paths("participant", participant)
    rois = _named_paths("roi_mask", roi_mask)
    given_names = read_names(names) if names else None
    sources = (predicted, measured, brain_mask, categories, *(repeat or ()))
    _check_exist([*filter(None, sources), *participants.values(), *rois.values()])
    shown: dict[str, Any] = {"progress": not quiet}
    found = None
    if twinset == "fetch":
        found = fetch_twinset(**shown)
    elif twinset:
        found = load_analysis_archive(Path(twinset), **shown)
    images: Sequence[Any] = found.stimuli if found else stimuli or ()
    if predicted is None:
        loaded = load_encoder(encoder, **shown)
        asked = loaded.controls(control or (), settings)
        prediction = loaded.predict(images, settings, **shown)
    left = leave_out or ()
    if found:
        comparison = twinset_comparison(found, prediction, left, resample=resample, **shown)
    else:
        comparison = read_comparison(
            predicted or prediction,
            measured,
            participants,
            repeat or (),
            rois,
            categories,
            left,
            mask=brain_mask,
            names=given_names,
            resample=resample,
            **shown,
        )
    controls = asked.predict(images, **shown) if predicted is None else ()
    how: dict[str, Any] = {"seed": seed, "missing": missing, "unmatched": unmatched}
    if permutations is not None:
        how["n_permutations"] = permutations
    matched = matched_patterns(comparison, controls, **how | {"exchange": exchange})
    scored = None
    if accuracy or repeat:
        method = {"ceiling_method": ceiling or "signal-power"}
        scored = encoding_accuracy(comparison, controls, **how | method)
    means = roi_means_accuracy(comparison, controls, **how) if roi_means else None
    save_validation(matched, folder, scored, means)
    for line in describe_validation(matched, scored, means):
        say(line)
    say(f"validated {len(matched.names)} images: {output}", err=True)
    make_page(output, report)
    return 0


def _check_repeats(repeats: Sequence[Path], ceiling: str | None) -> None:
    """Refuse a noise ceiling without the repeats that it is estimated from."""
    if len(repeats) == 1:
        message = (
            "`repeat` must be given twice or more; got one. Give `measured` for a single "
            "measurement: without another, noise cannot be told from signal."
        )
        raise OptionError(message, "repeat")
    if ceiling is not None and not repeats:
        message = (
            f"`ceiling` {ceiling} needs repeated measurements; got none. Give `repeat` twice or "
            "more, or leave `ceiling` out."
        )
        raise OptionError(message, "ceiling")


def _check_sources(
    predicted: Mapping[str, object],
    measured: bool,
    of_twinset: Mapping[str, object],
    controls: Sequence[str],
) -> None:
    """Refuse options that contradict each other, before anything is read."""
    n_given = sum(map(bool, predicted.values()))
    twinset = bool(predicted["twinset"])
    brought = next((option for option, value in of_twinset.items() if twinset and value), None)
    if n_given != 1:
        message = (
            f"expected one of `stimuli`, `predicted` and `twinset`; got {n_given}. Say once what "
            "to predict."
        )
    elif twinset == measured:
        message = (
            "expected measured patterns (`measured`, `participant` or `repeat`) or `twinset`; got "
            f"{'both' if twinset else 'none'}. Give one of them."
        )
    elif controls and predicted["predicted"]:
        message = (
            f"`control` {controls[0]} needs the images; got `predicted`. Give `stimuli`, so that "
            "the images can be put through the control."
        )
    elif brought:
        message = (
            f"`twinset` brings its own images, categories and ROIs; got `{brought}`, too. Leave "
            "it out."
        )
    else:
        return
    raise OptionError(message)


def _named_paths(option: str, entries: Sequence[str] | None) -> dict[str, Path]:
    """Read entries NAME=PATH."""
    named: dict[str, Path] = {}
    for entry in entries or ():
        name, sign, path = entry.partition("=")
        if not (name and sign and path) or name in named:
            message = (
                f"{option} must be {NAMED}, each name once; got {entry!r}. Write `{option}` "
                "sub-01=betas/sub-01."
            )
            raise OptionError(message, option)
        named[name] = Path(path)
    return named


def _check_exist(paths: Sequence[Path]) -> None:
    """Refuse what is not there, before a network is loaded and images are predicted."""
    for path in paths:
        if not is_there(path):
            message = f"{path}: expected a file or folder; there is none. Check the path."
            raise DataError(message)

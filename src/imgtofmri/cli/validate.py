"""``imgtofmri validate``: predicted and measured responses compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgtofmri.cli import options
from imgtofmri.exceptions import OptionError, choice_message

if TYPE_CHECKING:
    from imgtofmri.encoder import Encoder
    from imgtofmri.prediction import Prediction
    from imgtofmri.validation import Patterns, Study

NAMED = "NAME=PATH"


def validate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
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
    rsa: Annotated[
        list[str] | None,
        typer.Option(
            "--rsa",
            metavar="[NAME=]FILE",
            help="Measured dissimilarity matrices: compare the geometry of --stimuli with them, in "
            "OUTPUT/rsa, as `imgtofmri rsa` does; repeatable.",
        ),
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(
            "--control",
            metavar="untrained|luminance",
            help="The same analysis without what the network learned, or with luminance alone; "
            "needs --stimuli or --twinset; repeatable.",
        ),
    ] = None,
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
    n_permutations: Annotated[
        int, typer.Option("--n-permutations", help="Permutations of the matched-pattern tests.")
    ] = 10_000,
    seed: Annotated[int, typer.Option("--seed", help="Of permutations and resamples.")] = 0,
    rois: options.Rois = None,
    sigma_mm: options.SigmaMm = 1.0,
    mask: options.Mask = "overlap",
    average: options.Average = "zscore",
    weights: options.Weights = None,
    encoder: options.EncoderId = "bold5000-resnet18",
    quiet: options.Quiet = False,
) -> int:
    """Test whether predicted patterns resemble the patterns measured for the same images.

    Matched patterns: the mean correlation of an image's predicted with its own measured pattern,
    minus that with other images' patterns; p by permuting images, in the group, each ROI, each
    category and each participant. OUTPUT receives matched_patterns.tsv with figures, the
    correlations, with --accuracy maps and a table of each voxel's and ROI's accuracy, and
    validation.json, which records what was compared and how.

    **Examples**

    imgtofmri validate --stimuli photos/ --measured betas/ -o validation/

    imgtofmri validate --twinset fetch --control untrained --control luminance -o validation/

    imgtofmri validate --predicted out/ --measured betas.tsv --accuracy -o validation/

    imgtofmri validate --stimuli photos/ --rsa subjects.npz -o validation/
    """
    from imgtofmri.encoder import load_encoder
    from imgtofmri.validation import CONTROLS, read_study, twinset_study

    if rsa:
        _rsa(rsa, stimuli, output, seed, rois, sigma_mm, mask, weights, encoder, quiet)
        if not (measured or participant or repeat):
            return 0
    controls = tuple(dict.fromkeys(control or ()))
    for name in controls:
        if name not in CONTROLS:
            raise OptionError(choice_message("validate", "--control", name, CONTROLS))
    _check_sources(stimuli, predicted, twinset, controls, measured, participant, repeat)
    own = {"--brain-mask": brain_mask, "--roi": roi, "--categories": categories, "--names": names}
    for option, value in own.items():
        if twinset and value:
            message = (
                f"validate: --twinset brings its own images, categories and ROIs; got {option}, "
                "too. Leave it out."
            )
            raise OptionError(message)
    participants, regions = _named("--participant", participant), _named("--roi", roi)
    given_names = _lines(names) if names else None
    settings: dict[str, Any] = {
        "rois": rois or None,
        "sigma_mm": sigma_mm,
        "mask": mask,
        "average": average,
    }
    loaded, images = None, list[Any](stimuli or [])
    source: Path | Prediction
    if predicted is not None:
        source = predicted
    else:
        found = _twinset(twinset, quiet) if twinset else None
        if found is not None:
            images = list(found.stimuli)
        loaded = load_encoder(encoder, progress=not quiet)
        source = loaded.predict(images, weights=weights, progress=not quiet, **settings)
        if found is not None:
            study = twinset_study(found, source, resample, progress=not quiet)
            study = replace(study, leave_out=(*study.leave_out, *(leave_out or ())))
    if not twinset:
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
    wanted = _Controls(study, loaded, images, settings, quiet)
    contenders = [wanted.prepare(name) for name in controls]
    _matched(study, contenders, output, n_permutations, analysis)
    if accuracy or repeat:
        _accuracy(study, contenders, output, ceiling, analysis)
    recorded = analysis | {
        "n_permutations": n_permutations,
        "controls": controls,
        "noise_ceiling": ceiling if repeat else None,
        "resample": resample,
    }
    _record(output, study, encoder if loaded else None, settings, recorded)
    typer.echo(f"validated {study.predicted.n_images} images: {output}", err=True)
    return 0


def _rsa(
    measured: list[str],
    stimuli: list[str] | None,
    output: Path,
    seed: int,
    rois: list[str] | None,
    sigma_mm: float,
    mask: str,
    weights: str | None,
    encoder: str,
    quiet: bool,
) -> None:
    """Compare geometry, as the command of that name does by default."""
    from imgtofmri.cli.rsa import rsa

    if not stimuli:
        message = (
            "validate: --rsa compares the geometry of --stimuli; got none. Name the images in the "
            "conditions of the measured matrices."
        )
        raise OptionError(message)
    rsa(
        stimuli,
        output / "rsa",
        measured,
        seed=seed,
        rois=rois,
        sigma_mm=sigma_mm,
        mask=mask,
        weights=weights,
        encoder=encoder,
        quiet=quiet,
    )


def _check_sources(
    stimuli: object,
    predicted: object,
    twinset: object,
    controls: Sequence[str],
    measured: object,
    participant: object,
    repeat: object,
) -> None:
    if sum(bool(one) for one in (stimuli, predicted, twinset)) != 1:
        message = (
            "validate: expected one of --stimuli, --predicted and --twinset; got "
            f"{sum(bool(one) for one in (stimuli, predicted, twinset))}. Say once what to predict."
        )
        raise OptionError(message)
    if bool(twinset) == bool(measured or participant or repeat):
        got = "both" if twinset else "none"
        message = (
            "validate: expected measured patterns (--measured, --participant or --repeat) or "
            f"--twinset; got {got}. Give one of them."
        )
        raise OptionError(message)
    if controls and predicted:
        message = (
            f"validate: --control {controls[0]} needs the images; got --predicted. "
            "Give --stimuli, so that the images can be put through the control."
        )
        raise OptionError(message)


def _named(option: str, entries: list[str] | None) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for entry in entries or ():
        name, sign, path = entry.partition("=")
        if not (name and sign and path) or name in named:
            message = (
                f"validate: {option} must be {NAMED}, each name once; got {entry!r}. "
                f"Write {option} sub-01=betas/sub-01."
            )
            raise OptionError(message)
        named[name] = Path(path)
    return named


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"validate: --names must be a text file in UTF-8; got {path}: {error}. Check it."
        raise OptionError(message) from error
    return [line.strip() for line in lines if line.strip()]


def _twinset(source: str, quiet: bool) -> Any:
    from imgtofmri.datasets.twinset import fetch_twinset, load_analysis_archive

    if source == "fetch":
        return fetch_twinset(progress=not quiet)
    return load_analysis_archive(Path(source), progress=not quiet)


@dataclass(frozen=True)
class _Contender:
    """What a control predicts: patterns, or features that have no map to voxels yet."""

    name: str
    patterns: Patterns | None = None
    images: tuple[str, ...] = ()
    features: Any = None


@dataclass(frozen=True)
class _Controls:
    """What controls are made from."""

    study: Study
    encoder: Encoder | None
    images: list[Any]
    settings: dict[str, Any]
    quiet: bool

    def prepare(self, name: str) -> _Contender:
        from imgtofmri.networks import load_untrained
        from imgtofmri.stimuli import find_sources
        from imgtofmri.validation import luminance_features, untrained_patterns

        sources, _ = find_sources(self.images)
        if name == "luminance":
            names, features = luminance_features(sources)
            return _Contender(name, images=names, features=features)
        assert self.encoder is not None
        card = self.encoder.card
        network = load_untrained(card["features"], encoder=str(card["id"]))
        patterns = untrained_patterns(
            self.encoder, sources, network, progress=not self.quiet, **self.settings
        )
        own = self.study.predicted.mask
        if own is not None and patterns.mask is not None:
            patterns = patterns.within(own[patterns.mask])
        return _Contender(name, patterns)


def _matched(
    study: Study,
    controls: list[_Contender],
    output: Path,
    n_permutations: int,
    analysis: dict[str, Any],
) -> None:
    import numpy as np
    import pandas as pd

    from imgtofmri.assets import atomic_path
    from imgtofmri.plotting.patterns import plot_correlations, plot_matched_patterns
    from imgtofmri.plotting.style import save_figure, save_table
    from imgtofmri.validation import feature_control, matched_patterns
    from imgtofmri.validation.patterns import bare_name

    data = (study.group, study.participants, study.rois, study.categories, study.leave_out)
    result = matched_patterns(study.predicted, *data, n_permutations=n_permutations, **analysis)
    tables = []
    for control in controls:
        named = analysis | {"model": control.name}
        if control.patterns is not None:
            other = matched_patterns(
                control.patterns, *data, n_permutations=n_permutations, **named
            )
            tables.append(other.table)
        else:
            tables.append(feature_control(control.images, control.features, *data, **named))
    save_table(pd.concat([result.table, *tables]), output / "matched_patterns.tsv")
    save_figure(plot_matched_patterns(result, tables), output / "matched_patterns")
    labels = None
    if study.categories is not None:
        known = {bare_name(name): label for name, label in study.categories.items()}
        labels = [known[bare_name(name)] for name in result.names]
    save_figure(plot_correlations(result, labels), output / "correlations")
    with atomic_path(output / "correlations.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, correlations=result.correlations, names=np.array(result.names))


def _accuracy(
    study: Study,
    controls: list[_Contender],
    output: Path,
    ceiling: Any,
    analysis: dict[str, Any],
) -> None:
    import nibabel as nib
    import pandas as pd

    from imgtofmri.assets import atomic_path
    from imgtofmri.plotting.style import save_table
    from imgtofmri.validation import control_accuracy, encoding_accuracy

    chosen = {key: value for key, value in analysis.items() if key != "exchange"}
    data = (study.group, study.repeats, study.rois, study.leave_out)
    settings = chosen | {"ceiling_method": ceiling}
    result = encoding_accuracy(study.predicted, *data, **settings)
    tables = [result.table]
    del chosen["seed"]
    for control in controls:
        if control.patterns is not None:
            other = encoding_accuracy(control.patterns, *data, model=control.name, **settings)
            tables.append(other.table)
        else:
            tables.append(
                control_accuracy(
                    control.images,
                    control.features,
                    study.group,
                    study.rois,
                    study.leave_out,
                    model=control.name,
                    **chosen,
                )
            )
    save_table(pd.concat(tables), output / "accuracy.tsv")
    if result.mask is None:
        return
    for name in result.maps:
        with atomic_path(output / f"accuracy_{name}.nii.gz") as temporary:
            # nibabel tells the format by the name's ending.
            named = temporary.with_name(f"{temporary.name}.nii.gz")
            nib.save(result.to_img(name), named)
            named.replace(temporary)


def _record(
    output: Path,
    study: Study,
    encoder: str | None,
    settings: dict[str, Any],
    analysis: dict[str, Any],
) -> None:
    import json

    from imgtofmri import __version__
    from imgtofmri.assets import atomic_path

    record = {
        "software": {"name": "imgtofmri", "version": __version__},
        "encoder": encoder,
        "prediction": settings if encoder else None,
        "analysis": analysis,
        "images": list(study.predicted.names),
        "left_out": list(study.leave_out),
        "participants": list(study.participants),
        "rois": list(study.rois),
        "n_repeats": len(study.repeats),
        "n_voxels": study.predicted.n_voxels,
    }
    with atomic_path(output / "validation.json") as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

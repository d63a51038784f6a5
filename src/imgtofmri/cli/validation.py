"""What `imgtofmri validate` does between its options and its files: sources, controls, analyses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgtofmri.exceptions import DataError, OptionError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from imgtofmri.analyses.validate import EncodingAccuracy, MatchedPatterns, Patterns, Study
    from imgtofmri.datasets.twinset import Twinset
    from imgtofmri.encoder import Control
    from imgtofmri.outputs import OutputFolder

NAMED = "NAME=PATH"

#: Permutations of each test, unless the user says how many. Voxels and fitted controls cost more.
MATCHED_PERMUTATIONS = 10_000
COSTLY_PERMUTATIONS = 1_000


def check_exist(paths: Sequence[Path | None]) -> None:
    """Refuse files that are not there, before a network is loaded and images are predicted.

    Raises
    ------
    DataError
        Naming the first.
    """
    for path in paths:
        if path is not None and not path.exists():
            message = f"validate: expected a file or folder at {path}; there is none. Check it."
            raise DataError(message)


def check_sources(
    predicted: Mapping[str, object],
    measured: Sequence[object],
    own: Mapping[str, object],
    controls: Sequence[str],
) -> None:
    """Refuse options that contradict each other, before anything is read.

    Parameters
    ----------
    predicted : mapping
        ``--stimuli``, ``--predicted`` and ``--twinset``: exactly one must be given.
    measured : sequence
        ``--measured``, ``--participant`` and ``--repeat``: one or more, but for the twinset.
    own : mapping
        What the twinset brings with it.
    controls : sequence of str

    Raises
    ------
    OptionError
        If they do.
    """
    count = sum(bool(one) for one in predicted.values())
    if count != 1:
        message = (
            "validate: expected one of --stimuli, --predicted and --twinset; got "
            f"{count}. Say once what to predict."
        )
        raise OptionError(message)
    twinset = bool(predicted["--twinset"])
    if twinset == any(map(bool, measured)):
        message = (
            "validate: expected measured patterns (--measured, --participant or --repeat) or "
            f"--twinset; got {'both' if twinset else 'none'}. Give one of them."
        )
        raise OptionError(message)
    if controls and predicted["--predicted"]:
        message = (
            f"validate: --control {controls[0]} needs the images; got --predicted. "
            "Give --stimuli, so that the images can be put through the control."
        )
        raise OptionError(message)
    for option, value in own.items():
        if twinset and value:
            message = (
                f"validate: --twinset brings its own images, categories and ROIs; got {option}, "
                "too. Leave it out."
            )
            raise OptionError(message)


def named_paths(option: str, entries: Sequence[str] | None) -> dict[str, Path]:
    """Read entries NAME=PATH.

    Raises
    ------
    OptionError
        If one is none, or a name comes twice.
    """
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


def read_names(path: Path) -> list[str]:
    """Read the images' names, one a line.

    Raises
    ------
    OptionError
        If the file is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"validate: --names must be a text file in UTF-8; got {path}: {error}. Check it."
        raise OptionError(message) from error
    return [line.strip() for line in lines if line.strip()]


def load_twinset(source: str, progress: bool) -> Twinset:
    """Download the published data, or read the archive at a path."""
    from imgtofmri.datasets.twinset import fetch_twinset, load_analysis_archive

    if source == "fetch":
        return fetch_twinset(progress=progress)
    return load_analysis_archive(Path(source), progress=progress)


@dataclass(frozen=True)
class Contender:
    """What a control predicts: patterns, or features that have no map to voxels yet."""

    name: str
    patterns: Patterns | None = None
    images: tuple[str, ...] = ()
    features: NDArray[Any] | None = None


def contenders(controls: Sequence[Control], study: Study) -> list[Contender]:
    """Put what the controls predict into the voxels that the study compares."""
    from imgtofmri.analyses.validate import Patterns

    found = []
    for control in controls:
        if control.prediction is None:
            names, features = control.luminance()
            found.append(Contender(control.name, images=names, features=features))
            continue
        patterns = Patterns.from_prediction(control.prediction)
        own = study.predicted.mask
        if own is not None and patterns.mask is not None:
            patterns = patterns.within(own[patterns.mask])
        found.append(Contender(control.name, patterns))
    return found


def match_all(
    study: Study,
    controls: Sequence[Contender],
    n_permutations: int | None,
    analysis: Mapping[str, Any],
) -> tuple[MatchedPatterns, list[pd.DataFrame]]:
    """Run the matched-pattern analysis on the predictions, and on each control."""
    from imgtofmri.analyses.validate import feature_control, matched_patterns

    data = (study.group, study.participants, study.rois, study.categories, study.leave_out)
    many = MATCHED_PERMUTATIONS if n_permutations is None else n_permutations
    few = COSTLY_PERMUTATIONS if n_permutations is None else n_permutations
    result = matched_patterns(study.predicted, *data, n_permutations=many, **analysis)
    tables = []
    for control in controls:
        named = dict(analysis) | {"model": control.name}
        if control.patterns is not None:
            other = matched_patterns(control.patterns, *data, n_permutations=many, **named)
            tables.append(other.table)
        else:
            assert control.features is not None
            tables.append(
                feature_control(
                    control.images, control.features, *data, n_permutations=few, **named
                )
            )
    return result, tables


def accuracy_of_all(
    study: Study,
    controls: Sequence[Contender],
    n_permutations: int | None,
    ceiling: str,
    analysis: Mapping[str, Any],
) -> tuple[EncodingAccuracy, list[pd.DataFrame]]:
    """Compute encoding accuracy of the predictions, and of each control."""
    from imgtofmri.analyses.validate import control_accuracy, encoding_accuracy

    few = COSTLY_PERMUTATIONS if n_permutations is None else n_permutations
    data = (study.group, study.repeats, study.rois, study.leave_out)
    chosen = {key: value for key, value in analysis.items() if key != "exchange"}
    settings: dict[str, Any] = chosen | {"ceiling_method": ceiling, "n_permutations": few}
    result = encoding_accuracy(study.predicted, *data, **settings)
    del chosen["seed"]
    tables = []
    for control in controls:
        if control.patterns is not None:
            other = encoding_accuracy(control.patterns, *data, model=control.name, **settings)
            tables.append(other.table)
        else:
            assert control.features is not None
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
    return result, tables


def write_record(
    folder: OutputFolder,
    study: Study,
    prediction: dict[str, Any] | None,
    controls: dict[str, Any],
    analysis: dict[str, Any],
) -> None:
    """Write the record, which says what was compared and how; last, so that it marks a run."""
    said = {
        **analysis,
        "images": list(study.predicted.names),
        "left_out": list(study.leave_out),
        "participants": list(study.participants),
        "rois": list(study.rois),
        "n_repeats": len(study.repeats),
        "n_voxels": study.predicted.n_voxels,
    }
    folder.begin(said, prediction, controls)
    folder.close()

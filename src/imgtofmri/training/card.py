"""What a fitted bundle says about itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgtofmri import __version__
from imgtofmri.bundle import RoiModel, SubjectModel
from imgtofmri.files import sha256_of
from imgtofmri.regression import open_engine
from imgtofmri.training.stimuli import StudyFeatures
from imgtofmri.training.study import Study, SubjectSettings
from imgtofmri.versions import versions


def make_card(
    study: Study,
    features: StudyFeatures,
    subjects: Sequence[SubjectModel],
    splits: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a bundle's card: texts of the study, data, splits, settings, versions, accuracy.

    Parameters
    ----------
    study : Study
        The study.
    features : StudyFeatures
        What the models were fitted on.
    subjects : sequence of SubjectModel
        The fitted models.
    splits : mapping of subject to dict
        Rows, stimuli and sizes of the folds.

    Returns
    -------
    dict
        Plain data, ready for JSON.
    """
    engine = open_engine(study.fit.engine, study.fit.device)
    card: dict[str, Any] = {
        "id": study.id,
        "title": study.title,
        "licence": study.licence,
        "citation": list(study.citation),
        "features": features.card,
        "template": {"space": study.template.space},
        "model": _model_text(study),
        "units": _units_text(study),
        "accuracy": _accuracy_text(study, subjects, splits),
        "fit": {
            "settings": _settings(study),
            "data": splits,
            **_estimates(study),
            "files": _digests(study),
            "device": engine.device,
            "versions": {
                "imgtofmri": __version__,
                **versions(("numpy", "scipy")),
                **engine.versions(),
            },
            "models": {
                subject.name: {roi: _summary(model) for roi, model in subject.rois.items()}
                for subject in subjects
            },
        },
    }
    if study.limits:
        card["limits"] = study.limits
    return card


def _model_text(study: Study) -> str:
    penalty = "subject and ROI" if study.fit.alpha == "shared" else "voxel"
    kind = "banded ridge regression" if study.fit.banded else "ridge regression"
    return f"{kind}, one penalty for each {penalty}"


def _units_text(study: Study) -> str:
    if study.fit.zscore:
        return "z-scores over rows"
    if all(subject.derivatives is not None for subject in study.subjects):
        return "percent of the voxel's mean in the run"
    return "units of the measured responses"


def _estimates(study: Study) -> dict[str, Any]:
    """Return how responses were estimated from runs, for each subject of whom they were."""
    kept = (
        *("task", "space", "entities", "estimator", "hrf", "high_pass_hz", "confounds"),
        *("stimulus_column", "tr_s", "slice_time_ref"),
    )
    found = {
        subject.name: {
            key: list(value) if isinstance(value, tuple) else value
            for key in kept
            for value in (getattr(subject.derivatives, key),)
            if value is not None
        }
        for subject in study.subjects
        if subject.derivatives is not None
    }
    return {"estimates": found} if found else {}


def _accuracy_text(
    study: Study, subjects: Sequence[SubjectModel], splits: Mapping[str, Any]
) -> str:
    models = [model for subject in subjects for model in subject.rois.values()]
    r = np.concatenate([model.extras["cv_r"] for model in models])
    how = "nested cross-validation" if study.fit.nested else "cross-validation, not nested,"
    numbers = sorted({len(split["folds"]) for split in splits.values()})
    text = (
        f"median r {np.median(r):.3f} over {len(r)} voxels on held-out stimuli "
        f"({how} over {' or '.join(map(str, numbers))} folds)"
    )
    ceilings = [
        model.extras["noise_ceiling"] for model in models if "noise_ceiling" in model.extras
    ]
    if ceilings:
        text += f"; median noise ceiling r {np.median(np.concatenate(ceilings)):.3f}"
    return text


def _summary(model: RoiModel) -> dict[str, Any]:
    """Return what an ROI's voxels come to: enough to read, while the arrays hold the rest."""
    extras = model.extras
    found: dict[str, Any] = {
        "n_voxels": model.n_voxels,
        "cv_r": _spread(extras["cv_r"]),
        "alpha": sorted({float(f"{alpha:.6g}") for alpha in extras["alpha"].tolist()}),
    }
    if "noise_ceiling" in extras:
        found["noise_ceiling"] = _spread(extras["noise_ceiling"])
    return found


def _spread(values: Any) -> dict[str, float]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"quartile_25": float(low), "median": float(middle), "quartile_75": float(high)}


def _settings(study: Study) -> dict[str, Any]:
    fit, column = study.fit, study.stimuli.fold_column
    settings = {name: getattr(fit, name) for name in fit.__slots__} | {"alphas": list(fit.alphas)}
    return settings if column is None else settings | {"folds": None, "fold_column": column}


def study_files(study: Study) -> list[Path]:
    """Return the study file and each file, or folder of arrays, of its data that is there."""
    files: list[Path | None] = [study.path, study.stimuli.table]
    if study.stimuli.features is not None:
        files.append(study.stimuli.features.file)
    for subject in study.subjects:
        files += [subject.table, subject.grid, *_transform_files(subject)]
        files += [one.file for one in (subject.responses, subject.mask) if one is not None]
        for roi in subject.rois:
            files += list(roi.masks.values())
            files += [source.file for source in (roi.responses,) if source is not None]
        if subject.derivatives is not None:
            files += [path for run in subject.derivatives.find_runs() for path in run.files]
    return list(dict.fromkeys(path for path in files if path is not None and path.exists()))


def _digests(study: Study) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path as the study might say it."""
    home = study.path.parent.resolve()
    return {_relative(path.resolve(), home): sha256_of(path) for path in study_files(study)}


def _relative(path: Path, home: Path) -> str:
    """Return a path as the study might say it, so that files of one name stay apart."""
    try:
        return Path(os.path.relpath(path, home)).as_posix()
    except ValueError:  # on another drive
        return path.as_posix()


def _transform_files(subject: SubjectSettings) -> tuple[Path | None, ...]:
    said = subject.transform
    return () if said is None else (*said.files, said.anatomical, said.cropped)

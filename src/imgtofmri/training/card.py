"""What a fitted bundle says about itself."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgtofmri import __version__
from imgtofmri.assets import sha256_of
from imgtofmri.bundle import RoiModel, SubjectModel
from imgtofmri.regression import open_engine
from imgtofmri.study import Study, SubjectSettings
from imgtofmri.training.stimuli import StudyFeatures


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
        "template": {"space": study.space},
        "model": _model_text(study),
        "units": "z-scores over rows" if study.fit.zscore else "units of the measured responses",
        "accuracy": _accuracy_text(study, subjects),
        "fit": {
            "settings": _settings(study),
            "data": splits,
            "files": _digests(study),
            "device": engine.device,
            "versions": _versions() | engine.versions(),
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


def _accuracy_text(study: Study, subjects: Sequence[SubjectModel]) -> str:
    models = [model for subject in subjects for model in subject.rois.values()]
    r = np.concatenate([model.extras["cv_r"] for model in models])
    how = "nested cross-validation" if study.fit.nested else "cross-validation, not nested,"
    text = (
        f"median r {np.median(r):.3f} over {len(r)} voxels on held-out stimuli "
        f"({how} over {study.fit.folds} folds)"
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
    fit = study.fit
    return {name: getattr(fit, name) for name in fit.__slots__} | {"alphas": list(fit.alphas)}


def _digests(study: Study) -> dict[str, str]:
    """Return the SHA-256 of the study file and of each file of data, by file name."""
    files: list[Path | None] = [study.path, study.stimuli.table]
    if study.stimuli.features is not None:
        files.append(study.stimuli.features.file)
    for subject in study.subjects:
        files += [subject.table, subject.mask, *_transform_files(subject)]
        files += [source.file for source in (subject.responses,) if source is not None]
        for roi in subject.rois:
            files += list(roi.masks.values())
            files += [source.file for source in (roi.responses,) if source is not None]
    found = dict.fromkeys(path for path in files if path is not None and path.is_file())
    home = study.path.parent.resolve()
    return {
        path.resolve().relative_to(home).as_posix()
        if path.resolve().is_relative_to(home)
        else path.name: sha256_of(path)
        for path in found
    }


def _transform_files(subject: SubjectSettings) -> tuple[Path, ...]:
    return () if subject.transform is None else subject.transform.files


def _versions() -> dict[str, str]:
    import scipy

    return {
        "imgtofmri": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "scipy": scipy.__version__,
    }

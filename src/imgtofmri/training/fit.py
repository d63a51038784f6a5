"""Fit a study's models and put them together as a bundle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import Backbone
from imgtofmri.bundle import Bundle, RoiModel, SubjectModel
from imgtofmri.exceptions import DataError, ImgToFmriError
from imgtofmri.files import check_room
from imgtofmri.measured import StimulusRows
from imgtofmri.progress import track
from imgtofmri.regression import (
    RidgeFit,
    check_folds,
    check_responses,
    fit_ridge,
    grouped_folds,
    invalid_voxels,
    merge_duplicates,
    open_engine,
    sample_band_scales,
)
from imgtofmri.spaces import Grid
from imgtofmri.stats import average_repeats, noise_ceiling_r, repeat_variances
from imgtofmri.training.card import make_card
from imgtofmri.training.stimuli import StudyFeatures, study_features
from imgtofmri.training.study import FitSettings, Study, read_study
from imgtofmri.training.subjects import (
    Geometry,
    RoiData,
    SubjectData,
    load_subject,
    read_geometry,
    template_grid,
)

FloatArray = npt.NDArray[np.floating[Any]]
IndexArray = npt.NDArray[np.intp]
Part = tuple[str, str]
"""A subject and an ROI."""

LEAST_REPEATS = 10
"""From fewer, the median over voxels of the noise ceiling is .73 for .71, and .88 from one."""


def fit_study(
    study: Study | Path | str,
    geometry: Geometry = read_geometry,
    progress: bool = True,
    *,
    backbone: Backbone | None = None,
    cache: Path | None = None,
    target: Path | None = None,
) -> Bundle:
    """Fit an encoder to a study's stimuli and responses.

    Parameters
    ----------
    study : Study or path
        The study, or its file.
    geometry : callable
        Returns the bundle that ``subject.geometry`` names. By default it names a file; pass
        ``lambda name: load_encoder(name).bundle`` to allow published encoders, too.
    progress : bool
        Whether to report progress on standard error.
    backbone : Backbone, optional
        A network to use instead of the study's, such as a
        `imgtofmri.backbones.torch_module.TorchBackbone`.
    cache : Path, optional
        The folder where features are kept for the next fit, such as
        ``imgtofmri.backbones.features_folder()``. Default: they are computed anew.
    target : Path, optional
        The file that the bundle is meant for: the room on its disk is checked before models are
        fitted.

    Returns
    -------
    Bundle
        To be written with `imgtofmri.bundle.write_bundle`. Each voxel has ``cv_r``, ``cv_r2``,
        ``alpha``, ``residual_variance`` and, where stimuli were repeated, ``noise_ceiling``.

    Raises
    ------
    OptionError
        If the study is not valid, or its device is not there.
    MissingDependencyError
        If its engine is not installed.
    DataError
        If data cannot be fitted; the message names subject, ROI and voxels, and what to do.
    OutputError
        If there is no room for the target.
    """
    if not isinstance(study, Study):
        study = read_study(study)
    open_engine(study.fit.engine, study.fit.device)
    template, subjects = load_subjects(study, geometry, progress)
    names = stimulus_names(subjects)
    features = study_features(study, names, progress, backbone=backbone, cache=cache)
    if target is not None:
        check_room(target, _weights_bytes(subjects, features))
    return fit_models(study, subjects, features, template, progress)


def _weights_bytes(subjects: Sequence[SubjectData], features: StudyFeatures) -> int:
    """Return the size of all models' weights, which are most of a bundle."""
    n_weights = sum(
        len(roi.voxels) * _feature_columns(features, roi.layers)[2]
        for subject in subjects
        for roi in subject.rois.values()
    )
    return n_weights * np.dtype(np.float32).itemsize


def load_subjects(
    study: Study, geometry: Geometry = read_geometry, progress: bool = True
) -> tuple[Grid, list[SubjectData]]:
    """Return the template grid and each subject's data; see `fit_study`."""
    template = template_grid(study)
    with track("Loading", len(study.subjects), "subjects", enabled=progress) as advance:
        subjects = []
        for settings in study.subjects:
            subjects.append(load_subject(study, settings, template, geometry))
            advance(1)
    return template, subjects


def stimulus_names(subjects: Sequence[SubjectData]) -> list[str]:
    """Return the stimulus of every row, tables that subjects share once."""
    tables = dict.fromkeys(subject.rows.names for subject in subjects)
    return [name for table in tables for name in table]


def fit_models(
    study: Study,
    subjects: Sequence[SubjectData],
    features: StudyFeatures,
    template: Grid,
    progress: bool = True,
) -> Bundle:
    """Fit models to loaded data.

    Subjects that saw the same stimuli in the same order are fitted together, as are ROIs that use
    the same layers: the features are then decomposed once.

    Parameters
    ----------
    study : Study
        Its fit settings and texts are used.
    subjects : sequence of SubjectData
        As `load_subject` returns them.
    features : StudyFeatures
        Of every stimulus that occurs.
    template : Grid
        The template grid.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Bundle
        The encoder.

    Raises
    ------
    DataError
        If responses cannot be fitted.
    """
    models, splits = fit_rois(study.fit, subjects, features, progress)
    fitted = tuple(
        SubjectModel(
            subject.name,
            subject.native,
            subject.to_template.restrict(
                np.unique(np.concatenate([m.voxels for m in models[subject.name].values()]))
            ),
            {roi: models[subject.name][roi] for roi in subject.rois},
        )
        for subject in subjects
    )
    card = make_card(study, features, fitted, splits)
    uses = _layers_by_roi(subjects, features)
    if any(len(keys) < len(features.layers) for keys in uses.values()):
        card["features"] = {**card["features"], "rois": uses}
    return Bundle(card, template, fitted)


def _layers_by_roi(
    subjects: Sequence[SubjectData], features: StudyFeatures
) -> dict[str, list[str]]:
    """Return which layers each ROI's models use, in any subject."""
    found: dict[str, set[str]] = {}
    for subject in subjects:
        for roi, data in subject.rois.items():
            found.setdefault(roi, set()).update(features.keys(data.layers))
    return {roi: [key for key in features.layers if key in used] for roi, used in found.items()}


def fit_rois(
    settings: FitSettings,
    subjects: Sequence[SubjectData],
    features: StudyFeatures,
    progress: bool = True,
) -> tuple[dict[str, dict[str, RoiModel]], dict[str, Any]]:
    """Fit each subject's ROIs; see `fit_models`.

    Returns
    -------
    models : dict of subject to dict of ROI to RoiModel
    splits : dict of subject to dict
        Rows, stimuli and sizes of the folds.
    """
    models: dict[str, dict[str, RoiModel]] = {subject.name: {} for subject in subjects}
    splits: dict[str, Any] = {}
    jobs = _jobs(subjects)
    with track("Fitting", 100.0, "percent", enabled=progress) as advance:
        for rows, layers, parts in jobs:
            columns, first, width = _feature_columns(features, layers)
            job = _prepare(settings, rows, features, columns, parts)
            bands = _bands(features, layers) if settings.banded else None
            fit = _fit(settings, job, bands, lambda share: advance(100.0 * share / len(jobs)))
            for part, model in _models(fit, job, columns - first, width, first):
                models[part[0]][part[1]] = model
                splits[part[0]] = job.summary
    return models, splits


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Data that one call of the regression fits."""

    parts: list[Part]
    rois: list[RoiData]
    kept: list[IndexArray]
    features: FloatArray
    responses: FloatArray
    folds: IndexArray
    noise_ceiling: FloatArray | None
    summary: dict[str, Any]


def _jobs(
    subjects: Sequence[SubjectData],
) -> list[tuple[StimulusRows, tuple[str, ...] | None, list[tuple[Part, RoiData]]]]:
    """Gather what has the same rows and layers."""
    jobs: dict[Any, list[tuple[Part, RoiData]]] = {}
    for subject in subjects:
        for roi, data in subject.rois.items():
            key = (subject.rows, data.layers)
            jobs.setdefault(key, []).append(((subject.name, roi), data))
    return [(rows, layers, parts) for (rows, layers), parts in jobs.items()]


def _feature_columns(
    features: StudyFeatures, layers: tuple[str, ...] | None
) -> tuple[IndexArray, int, int]:
    """Return the columns of some layers, where they begin, and how far they reach."""
    chosen = [features.layers[key] for key in features.keys(layers)]
    columns = np.concatenate([np.arange(part.start, part.stop) for part in chosen])
    first = int(columns.min())
    return columns, first, int(columns.max()) + 1 - first


def _bands(features: StudyFeatures, layers: tuple[str, ...] | None) -> IndexArray | None:
    """Return the layer of each feature, numbered; None where there is one layer only."""
    chosen = [features.layers[key] for key in features.keys(layers)]
    widths = [part.stop - part.start for part in chosen]
    return np.repeat(np.arange(len(widths)), widths) if len(widths) > 1 else None


def _prepare(
    settings: FitSettings,
    rows: StimulusRows,
    features: StudyFeatures,
    columns: IndexArray,
    parts: Sequence[tuple[Part, RoiData]],
) -> _Job:
    """Choose voxels, average repeats, estimate the noise ceiling and make the folds."""
    where = ", ".join(dict.fromkeys(part[0] for part, _ in parts))
    shown = features.values[[features.of_name[name] for name in rows.names]]
    groups = merge_duplicates(shown, rows.names)
    n_stimuli = int(groups.max()) + 1
    if rows.folds is None and n_stimuli < 2 * settings.folds:
        message = (
            f"{where}: {settings.folds} folds need at least {2 * settings.folds} different "
            f"stimuli; got {n_stimuli} in {len(rows.names)} rows. Add stimuli, or lower fit.folds."
        )
        raise DataError(message)
    kept, blocks = [], []
    for (subject, roi), part in parts:
        chosen = _valid_voxels(part.responses, settings, f"{subject} {roi}")
        kept.append(chosen)
        block = part.responses if len(chosen) == len(part.voxels) else part.responses[:, chosen]
        blocks.append(_zscored(block) if settings.zscore else block)
    responses = np.concatenate(blocks, axis=1)
    del blocks
    has_repeats = n_stimuli < len(rows.names)
    averaged = has_repeats and settings.repeats == "average"
    ceiling = None
    if has_repeats:
        counts = np.bincount(groups)
        signal, noise = repeat_variances(responses, groups)
        ceiling = noise_ceiling_r(signal, noise, float(np.mean(1 / counts)) if averaged else 1.0)
    folds = _folds(rows, groups, settings, where)
    if has_repeats:
        _tell_of_few_repeats(len(groups) - n_stimuli, where)
    if averaged:
        means, first, _ = average_repeats(responses, groups)
        responses = means.astype(np.float32)
        shown, folds = shown[first], folds[first]
    summary = {
        "n_rows": len(rows.names),
        "n_stimuli": n_stimuli,
        "folds": np.bincount(folds).tolist(),
    }
    return _Job(
        [part for part, _ in parts],
        [part for _, part in parts],
        kept,
        shown[:, columns],
        responses,
        folds,
        ceiling,
        summary,
    )


def _tell_of_few_repeats(n_repeats: int, where: str) -> None:
    """Warn where noise is known from so few repeats that ceilings are mostly too high."""
    if n_repeats < LEAST_REPEATS:
        message = (
            f"{where}: noise ceilings need {LEAST_REPEATS} repeats or more, rows beyond the first "
            f"of a stimulus or of its copies; got {n_repeats}. From so few, the variance of noise "
            "is too low in most voxels, and the ceiling too high: do not report it."
        )
        warnings.warn(message, stacklevel=2)


def _valid_voxels(responses: npt.NDArray[Any], settings: FitSettings, where: str) -> IndexArray:
    """Return the voxels to fit; refuse bad ones, or leave them out if the study says so."""
    if settings.invalid_voxels == "refuse":
        check_responses(responses, len(responses), where)
        return np.arange(responses.shape[1])
    bad = np.concatenate(invalid_voxels(responses))
    kept = np.setdiff1d(np.arange(responses.shape[1]), bad)
    if not kept.size:
        message = (
            f"{where}: none of {responses.shape[1]} voxels is finite and varies. "
            "Check the mask against the responses."
        )
        raise DataError(message)
    return kept


def _zscored(responses: npt.NDArray[Any]) -> FloatArray:
    values = responses.astype(np.float64)
    values -= values.mean(axis=0)
    values /= values.std(axis=0)
    return values.astype(np.float32)


def _folds(rows: StimulusRows, groups: IndexArray, settings: FitSettings, where: str) -> IndexArray:
    if rows.folds is None:
        return grouped_folds(groups, settings.folds, settings.seed)
    names = np.array(rows.names, dtype=object)[np.unique(groups, return_index=True)[1]]
    try:
        return check_folds(rows.folds, list(names[groups]))
    except ImgToFmriError as error:
        message = f"{where}: {error}"
        raise DataError(message) from error


def _fit(
    settings: FitSettings, job: _Job, bands: IndexArray | None, advance: Callable[[float], None]
) -> RidgeFit:
    share = [part for part, kept in zip(job.parts, job.kept, strict=True) for _ in kept]
    scales = None
    if bands is not None:
        n_bands = int(bands.max()) + 1
        scales = sample_band_scales(n_bands, settings.band_candidates, settings.seed or 0)
    return fit_ridge(
        job.features,
        job.responses,
        alphas=settings.alphas,
        folds=job.folds,
        progress=lambda _, n_steps: advance(1 / n_steps),
        share=share if settings.alpha == "shared" else None,
        nested=settings.nested,
        bands=bands,
        band_scales=scales,
        max_bytes=int(settings.max_memory_gb * 1e9),
        engine=settings.engine,
        device=settings.device,
    )


def _models(
    fit: RidgeFit, job: _Job, rows: IndexArray, width: int, first_feature: int
) -> list[tuple[Part, RoiModel]]:
    """Cut the fit into models; features between an ROI's layers get weights of 0."""
    found, start = [], 0
    for part, roi, kept in zip(job.parts, job.rois, job.kept, strict=True):
        mine = slice(start, start + len(kept))
        start += len(kept)
        weights = np.zeros((width, len(kept)), dtype=np.float32)
        weights[rows] = fit.weights[:, mine]
        extras = {
            "alpha": fit.alpha[mine].astype(np.float32),
            "cv_r": fit.cv_r[mine],
            "cv_r2": fit.cv_r2[mine],
            "residual_variance": fit.residual_variance[mine],
        }
        if job.noise_ceiling is not None:
            extras["noise_ceiling"] = job.noise_ceiling[mine].astype(np.float32)
        model = RoiModel(
            voxels=roi.voxels[kept].astype(np.int32),
            hemi=roi.hemi[kept],
            weights=weights,
            intercept=fit.intercept[mine],
            first_feature=first_feature,
            extras=extras,
        )
        found.append((part, model))
    return found

"""Responses to single presentations, estimated from fMRIPrep's preprocessed runs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, check_choice
from imgtofmri.measured.confounds import nuisance, read_confounds
from imgtofmri.measured.images import read_image_rows
from imgtofmri.spaces import Grid, open_image
from imgtofmri.tables import MISSING, is_missing, read_table
from imgtofmri.timeseries import ESTIMATORS, HRFS, cosines, estimator_weights, trial_regressors

FloatArray = npt.NDArray[np.float64]

# Presentations nearer to each other than this are better estimated separately (Mumford et al.).
_RAPID_S = 5.0


@dataclass(frozen=True, slots=True)
class BoldRun:
    """The files of one measured run.

    Attributes
    ----------
    bold, events, confounds : Path
        The preprocessed images, the BIDS events and fMRIPrep's confounds.
    """

    bold: Path
    events: Path
    confounds: Path


def find_runs(folder: Path, raw: Path, subject: str, task: str, space: str) -> list[BoldRun]:
    """Find a subject's runs of a task.

    Parameters
    ----------
    folder, raw : Path
        fMRIPrep's results, and the BIDS data set that they were made from.
    subject, task, space : str
        Labels, without ``sub-`` and the like.

    Returns
    -------
    list of BoldRun
        In sorted order of file names: by session, then by run.

    Raises
    ------
    DataError
        If there is no run, or one lacks its events or confounds.
    """
    home = folder / f"sub-{subject}"
    pattern = f"sub-{subject}_*task-{task}_*space-{space}_*desc-preproc_bold.nii.gz"
    images = sorted([*home.glob(f"func/{pattern}"), *home.glob(f"ses-*/func/{pattern}")])
    if not images:
        message = (
            f"{home}: expected {pattern} in func folders below it; there is none. "
            "Check subject, task and space against fMRIPrep's file names."
        )
        raise DataError(message)
    runs = []
    for image in images:
        stem = image.name.split("_space-")[0]
        events = raw / image.parent.relative_to(folder) / f"{stem}_events.tsv"
        confounds = image.parent / f"{stem}_desc-confounds_timeseries.tsv"
        for path in (events, confounds):
            if not path.exists():
                message = f"{image.name} needs {path}, which does not exist. Add it."
                raise DataError(message)
        runs.append(BoldRun(image, events, confounds))
    return runs


def estimate_responses(
    runs: Sequence[BoldRun],
    voxels: npt.NDArray[np.intp],
    grid: Grid,
    *,
    stimulus_column: str = "stim_file",
    hrf: str = "glover",
    confounds: Sequence[str] = (),
    estimator: str = "lsa",
    high_pass_hz: float = 0.01,
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Estimate the response to each presentation by general linear models of each run.

    Ordinary least squares, beside a constant, slow drifts (cosines) and confounds. With "lsa"
    (least squares, all) every presentation has a regressor of its own in one model. Where
    presentations follow each other within a few seconds these estimates share noise, and "lss"
    (least squares, separate) is the steadier choice: a model for each presentation, in which all
    others share a regressor.

    Parameters
    ----------
    runs : sequence of BoldRun
        As `find_runs` returns them.
    voxels : array of shape (n_voxels,), int
        Flat indices, C order.
    grid : Grid
        The images' grid.
    stimulus_column : str
        The events' column that names the stimulus; rows without one (``n/a``) are left out.
    hrf : str
        One of nilearn's haemodynamic models; where it has derivatives, the estimate is that of the
        response itself.
    confounds : sequence of str
        Columns of fMRIPrep's confounds to regress out, or shell patterns such as ``"motion_*"``,
        which may match none; missing first values count as 0.
    estimator : {"lsa", "lss"}
        See above.
    high_pass_hz : float
        Drifts slower than this are regressed out; 0 for none.

    Returns
    -------
    names : list of str
        The stimulus of each row, in order of runs and onsets.
    responses : array of shape (n_rows, n_voxels), float32
        Percent of the voxel's mean in the run.

    Raises
    ------
    OptionError
        If the model or the estimator is not one of those.
    DataError
        If a table lacks a column or a value, a run has more regressors than volumes, or a
        presentation lies outside its run.

    References
    ----------
    Mumford et al. (2012). Deconvolving BOLD activation in event-related designs for multivoxel
    pattern classification analyses. NeuroImage. doi:10.1016/j.neuroimage.2011.08.076
    """
    for name, value, valid in (("hrf", hrf, HRFS), ("estimator", estimator, ESTIMATORS)):
        check_choice(name, value, valid)
    names: list[str] = []
    parts = []
    gaps_s: list[float] = []
    for run in runs:
        shown, onsets_s, durations_s = _trials(run.events, stimulus_column)
        if not shown:
            continue
        series = read_image_rows(run.bold, voxels, grid, run.bold.name).astype(np.float64)
        tr_s, start_s = _timing(run.bold)
        times_s: FloatArray = start_s + tr_s * np.arange(len(series), dtype=np.float64)
        trials = trial_regressors(onsets_s, durations_s, times_s, hrf)
        measured = read_confounds(run.confounds, len(series), confounds)
        drifts = cosines(times_s, high_pass_hz) if high_pass_hz else None
        others = nuisance(measured, drifts)
        weights = estimator_weights(trials, others, estimator, run.bold.name)
        mean = series.mean(axis=0)
        betas = weights @ series
        percent = np.divide(100.0 * betas, mean, out=np.zeros_like(betas), where=mean != 0)
        names += shown
        gaps_s += np.diff(onsets_s).tolist()
        parts.append(percent.astype(np.float32))
    if not names:
        message = (
            f"no event of {len(runs)} runs names a stimulus; expected them in "
            f"the column {stimulus_column}. Name the column with `stimulus_column`."
        )
        raise DataError(message)
    gap_s = float(np.median(gaps_s)) if gaps_s else np.inf
    if estimator == "lsa" and gap_s < _RAPID_S:
        message = (
            f"presentations of {runs[0].bold.name} and the like follow each "
            f"other after {gap_s:.1f} s; estimates of all in one model are then noisy. "
            'Consider estimator = "lss".'
        )
        warnings.warn(message, stacklevel=2)
    return names, np.concatenate(parts)


def _trials(path: Path, stimulus_column: str) -> tuple[list[str], FloatArray, FloatArray]:
    """Return the stimuli, onsets and durations of presentations, in order of their onsets."""
    table = read_table(path, may_be_empty=True)
    names = table.column(stimulus_column)
    rows = [row for row, name in enumerate(names) if not is_missing(name)]
    remedy = f"Correct it, in seconds, or set {stimulus_column} to {MISSING}."
    onsets_s = table.numbers("onset", rows, remedy=remedy)
    durations_s = table.numbers("duration", rows, least=0.0, remedy=remedy)
    order = np.argsort(onsets_s, kind="stable")
    return [names[rows[trial]] for trial in order], onsets_s[order], durations_s[order]


def _timing(bold: Path) -> tuple[float, float]:
    """Return the repetition time and the time that the first volume stands for, in seconds."""
    sidecar = bold.with_name(bold.name.removesuffix(".nii.gz") + ".json")
    header_s = open_image(bold).header.get_zooms()[3]
    try:
        said: dict[str, Any] = json.loads(sidecar.read_text()) if sidecar.exists() else {}
        tr_s = float(said.get("RepetitionTime", header_s))
        start_s = float(said.get("StartTime", 0.0))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        message = (
            f"{sidecar}: expected JSON with RepetitionTime and StartTime in seconds ({error}). "
            "Correct it, or copy it from fMRIPrep's results."
        )
        raise DataError(message) from error
    if not tr_s > 0:
        message = f"{bold.name}: the repetition time must be above 0; got {tr_s}. Correct its JSON."
        raise DataError(message)
    return tr_s, start_s

"""Responses to single presentations, estimated from fMRIPrep's preprocessed runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, choice_message
from imgtofmri.responses.images import read_image_rows
from imgtofmri.spaces import Grid

FloatArray = npt.NDArray[np.float64]

_HIGH_PASS_HZ = 0.01


@dataclass(frozen=True, slots=True)
class Run:
    """The files of one run.

    Attributes
    ----------
    bold, events, confounds : Path
        The preprocessed images, the BIDS events and fMRIPrep's confounds.
    """

    bold: Path
    events: Path
    confounds: Path


def find_runs(folder: Path, raw: Path, subject: str, task: str, space: str) -> list[Run]:
    """Find a subject's runs of a task.

    Parameters
    ----------
    folder, raw : Path
        fMRIPrep's results, and the BIDS data set that they were made from.
    subject, task, space : str
        Labels, without ``sub-`` and the like.

    Returns
    -------
    list of Run
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
            f"find_runs: expected {pattern} in func folders below {home}; there is none. "
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
                message = f"find_runs: {image.name} needs {path}, which does not exist. Add it."
                raise DataError(message)
        runs.append(Run(image, events, confounds))
    return runs


def estimate_responses(
    runs: Sequence[Run],
    voxels: npt.NDArray[np.intp],
    grid: Grid,
    *,
    stimulus_column: str = "stim_file",
    hrf: str = "glover",
    confounds: Sequence[str] = (),
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Estimate the response to each presentation by a general linear model of each run.

    Every presentation has a regressor of its own, beside slow drifts and confounds (the "least
    squares, all" estimate). Where presentations follow each other within a few seconds their
    estimates share noise; betas of a method made for that, such as GLMsingle, are then the better
    choice.

    Parameters
    ----------
    runs : sequence of Run
        As `find_runs` returns them.
    voxels : array of shape (n_voxels,), int
        Flat indices, C order.
    grid : Grid
        The images' grid.
    stimulus_column : str
        The events' column that names the stimulus; rows without one (``n/a``) are left out.
    hrf : str
        One of nilearn's haemodynamic models.
    confounds : sequence of str
        Columns of fMRIPrep's confounds to regress out; missing first values count as 0.

    Returns
    -------
    names : list of str
        The stimulus of each row, in order of runs and onsets.
    responses : array of shape (n_rows, n_voxels), float32
        Percent of the voxel's mean in the run.

    Raises
    ------
    DataError
        If a table lacks a column, or a run has more regressors than volumes.

    References
    ----------
    Mumford et al. (2012). Deconvolving BOLD activation in event-related designs for multivoxel
    pattern classification analyses. NeuroImage. doi:10.1016/j.neuroimage.2012.08.002
    """
    names: list[str] = []
    parts = []
    for run in runs:
        series = read_image_rows(run.bold, voxels, grid, run.bold.name).astype(np.float64)
        shown, design = _design(run, len(series), stimulus_column, hrf, confounds)
        mean = series.mean(axis=0)
        betas = np.linalg.lstsq(design, series, rcond=None)[0][: len(shown)]
        percent = np.divide(100.0 * betas, mean, out=np.zeros_like(betas), where=mean != 0)
        names += shown
        parts.append(percent.astype(np.float32))
    return names, np.concatenate(parts)


def _design(
    run: Run, n_volumes: int, stimulus_column: str, hrf: str, confounds: Sequence[str]
) -> tuple[list[str], FloatArray]:
    """Return the stimuli of a run and its regressors, those of the stimuli first."""
    import pandas as pd
    from nilearn.glm.first_level import make_first_level_design_matrix

    table = pd.read_csv(run.events, sep="\t", na_values="n/a")
    for column in ("onset", "duration", stimulus_column):
        if column not in table:
            raise DataError(choice_message(str(run.events), "the column", column, table.columns))
    table = table.dropna(subset=[stimulus_column]).sort_values("onset", kind="stable")
    trials = pd.DataFrame(
        {
            "onset": table["onset"].astype(float).to_numpy(),
            "duration": table["duration"].astype(float).to_numpy(),
            "trial_type": [f"trial{number:05d}" for number in range(len(table))],
        }
    )
    tr_s, start_s = _timing(run.bold)
    regressors = _confounds(run.confounds, confounds, n_volumes)
    matrix = make_first_level_design_matrix(
        start_s + tr_s * np.arange(n_volumes),
        trials,
        hrf_model=hrf,
        drift_model="cosine",
        high_pass=_HIGH_PASS_HZ,
        add_regs=regressors,
        add_reg_names=list(confounds) if confounds else None,
    )
    order = [*trials["trial_type"], *(c for c in matrix if not str(c).startswith("trial"))]
    if len(order) >= n_volumes:
        message = (
            f"{run.bold.name}: {len(order)} regressors need more than {len(order)} volumes; got "
            f"{n_volumes}. Leave out confounds, or estimate responses with another method."
        )
        raise DataError(message)
    return [str(name) for name in table[stimulus_column]], matrix[order].to_numpy(dtype=float)


def _confounds(path: Path, columns: Sequence[str], n_volumes: int) -> FloatArray | None:
    import pandas as pd

    if not columns:
        return None
    table = pd.read_csv(path, sep="\t", na_values="n/a")
    for column in columns:
        if column not in table:
            raise DataError(choice_message(str(path), "the confound", column, table.columns))
    if len(table) != n_volumes:
        message = (
            f"{path}: expected a row for each of the {n_volumes} volumes; got {len(table)}. "
            "The files are of different runs or versions."
        )
        raise DataError(message)
    return table[list(columns)].fillna(0.0).to_numpy(dtype=float)


def _timing(bold: Path) -> tuple[float, float]:
    """Return the repetition time and the time that the first volume stands for, in seconds."""
    import nibabel as nib

    sidecar = bold.with_name(bold.name.removesuffix(".nii.gz") + ".json")
    said: dict[str, Any] = json.loads(sidecar.read_text()) if sidecar.exists() else {}
    header: Any = nib.load(bold)
    tr_s = float(said.get("RepetitionTime", header.header.get_zooms()[3]))
    if not tr_s > 0:
        message = f"{bold.name}: the repetition time must be above 0; got {tr_s}. Correct its JSON."
        raise DataError(message)
    return tr_s, float(said.get("StartTime", 0.0))

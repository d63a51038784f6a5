"""Responses to single presentations, estimated from fMRIPrep's preprocessed runs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, check_choice
from imgtofmri.files import natural_key
from imgtofmri.measured.bids import OF_DERIVATIVES, agree, check_once, inherited
from imgtofmri.measured.confounds import check_left, nuisance, read_confounds
from imgtofmri.measured.images import check_volumes, open_series_on, read_image_rows
from imgtofmri.measured.timing import read_sidecars, volume_times
from imgtofmri.spaces import Grid
from imgtofmri.spaces.names import entities
from imgtofmri.tables import MISSING, TextTable, read_table
from imgtofmri.timeseries import (
    ESTIMATORS,
    HRFS,
    check_shown,
    cosines,
    estimator_weights,
    trial_regressors,
)

FloatArray = npt.NDArray[np.float64]

# Presentations nearer to each other than this are better estimated separately (Mumford et al.).
_RAPID_S = 5.0
_HALF_OF_VOXELS = 0.5
# How long after the last volume a presentation may last, as where a scan is stopped early.
_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class BoldRun:
    """The files of one measured run.

    Attributes
    ----------
    bold, events, confounds : Path
        The preprocessed images, the BIDS events and fMRIPrep's confounds.
    sidecars, raw_sidecars : tuple of Path
        The JSON files that go with the images, and with those they were made from, the nearest
        last.
    """

    bold: Path
    events: Path
    confounds: Path
    sidecars: tuple[Path, ...] = ()
    raw_sidecars: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.bold, self.events, self.confounds, *self.sidecars, *self.raw_sidecars)


def find_runs(
    folder: Path,
    raw: Path,
    subject: str,
    task: str,
    space: str,
    more: Mapping[str, str] | None = None,
) -> list[BoldRun]:
    """Find a subject's runs of a task.

    Parameters
    ----------
    folder, raw : Path
        fMRIPrep's results, and the BIDS data set that they were made from.
    subject, task, space : str
        Labels, without ``sub-`` and the like.
    more : mapping of str to str, optional
        Labels of further entities, such as ``{"res": "2"}``; an empty one wants none.

    Returns
    -------
    list of BoldRun
        In natural order of file names: by session, then by run. Events and sidecars are those that
        apply by BIDS's inheritance, so that one table at the root may serve all runs.

    Raises
    ------
    DataError
        If there is no run, one is there several times (in two resolutions, say), or lacks its
        events or confounds.
    """
    home = folder / f"sub-{subject}"
    wanted = {"sub": subject, "task": task, "space": space, "desc": "preproc", **(more or {})}
    there = [*home.glob("func/*_bold.nii.gz"), *home.glob("ses-*/func/*_bold.nii.gz")]
    plain = [*home.glob("func/*_bold.nii"), *home.glob("ses-*/func/*_bold.nii")]
    # Unpacked for another program they lie beside those that they were.
    there += [path for path in plain if path.with_name(f"{path.name}.gz") not in there]
    images = [path for path in there if agree(entities(path.name), wanted)]
    if not images:
        pattern = f"sub-{subject}_*task-{task}_*space-{space}_*desc-preproc_bold.nii.gz"
        said = "".join(f", {key}-{label or '(none)'}" for key, label in (more or {}).items())
        spaces = sorted({entities(path.name).get("space", "(none)") for path in there})
        message = (
            f"{home}: expected {pattern}{said} in func folders below it; there is none among "
            f"{len(there)} images{f' in {chr(44).join(spaces)}' if spaces else ''}. Check subject, "
            "task, space and entities against fMRIPrep's file names."
        )
        raise DataError(message)
    images.sort(key=lambda path: [natural_key(part) for part in path.relative_to(folder).parts])
    check_once(images, "Say which with entities = {{ {choice} }}.")
    return [_run(image, folder, raw) for image in images]


def _run(image: Path, folder: Path, raw: Path) -> BoldRun:
    named = entities(image.name)
    of_raw = {key: label for key, label in named.items() if key not in OF_DERIVATIVES}
    home = raw / image.parent.relative_to(folder)
    events = inherited(of_raw, home, raw, "events", ".tsv")
    if not events:
        stem = "_".join(f"{key}-{label}" for key, label in of_raw.items())
        message = (
            f"{image.name} needs {home / stem}_events.tsv, which does not exist, nor does one that "
            "serves several runs in a folder above. Add it."
        )
        raise DataError(message)
    found = [
        path
        for kind in ("timeseries", "regressors")  # as fMRIPrep called them before version 20.2
        for path in image.parent.glob(f"*_desc-confounds_{kind}.tsv")
        if agree(of_raw, entities(path.name) | {"desc": of_raw.get("desc", "")})
    ]
    if not found:
        stem = "_".join(f"{key}-{label}" for key, label in of_raw.items())
        message = (
            f"{image.name} needs {image.parent / stem}_desc-confounds_timeseries.tsv, which does "
            "not exist. Add it."
        )
        raise DataError(message)
    confounds = max(found, key=lambda path: len(entities(path.name)))
    return BoldRun(
        image,
        events[-1],
        confounds,
        tuple(inherited(named, image.parent, folder, "bold", ".json")),
        tuple(inherited(of_raw, home, raw, "bold", ".json")),
    )


@dataclass(frozen=True, slots=True, eq=False)
class RunDesign:
    """What a run's files come to before its values are read.

    Attributes
    ----------
    names : tuple of str
        The stimulus of each presentation, in order of onset.
    onsets_s : array of shape (n_trials,)
        When each was shown.
    weights : array of shape (n_trials, n_volumes)
        ``weights @ series`` are the responses.
    """

    names: tuple[str, ...]
    onsets_s: FloatArray
    weights: FloatArray


def design_run(
    run: BoldRun,
    grid: Grid,
    *,
    stimulus_column: str = "stim_file",
    hrf: str = "glover",
    confounds: Sequence[str] = (),
    estimator: str = "lsa",
    high_pass_hz: float = 0.01,
    tr_s: float | None = None,
    slice_time_ref: float | None = None,
    unoriented: Grid | None = None,
) -> RunDesign | None:
    """Return a run's presentations and their model; None if no event names a stimulus.

    Reads events, confounds, sidecars and the header; see `estimate_responses` for the rest.
    """
    image = open_series_on(grid, run.bold, unoriented=unoriented)
    times_s = volume_times(
        run.bold.name,
        image,
        read_sidecars(run.sidecars),
        raw=read_sidecars(run.raw_sidecars),
        tr_s=tr_s,
        slice_time_ref=slice_time_ref,
    )
    measured = read_confounds(run.confounds, len(times_s), confounds)
    shown, onsets_s, durations_s = _trials(run.events, stimulus_column)
    if not shown:
        return None
    _check_end(run, onsets_s + durations_s, times_s)
    trials = trial_regressors(onsets_s, durations_s, times_s, hrf)
    drifts = cosines(times_s, high_pass_hz) if high_pass_hz else None
    others = nuisance(measured, drifts)
    check_left(run.bold.name, others, measured.shape[1], 0 if drifts is None else drifts.shape[1])
    weights = estimator_weights(trials, others, estimator, run.bold.name)
    return RunDesign(tuple(shown), onsets_s, weights)


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
    tr_s: float | None = None,
    slice_time_ref: float | None = None,
    unoriented: Grid | None = None,
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
        which may match none. The missing first value of a derivative counts as 0.
    estimator : {"lsa", "lss"}
        See above.
    high_pass_hz : float
        Drifts slower than this are regressed out; 0 for none.
    tr_s, slice_time_ref : float, optional
        Times that files do not say; see `imgtofmri.measured.timing.volume_times`.
    unoriented : Grid, optional
        The grid of images whose header gives no orientation.

    Returns
    -------
    names : list of str
        The stimulus of each row, in order of runs and onsets.
    responses : array of shape (n_rows, n_voxels), float32
        Percent of the voxel's mean in the run; NaN where the run does not reach the voxel.

    Raises
    ------
    OptionError
        If the model or the estimator is not one of those.
    DataError
        If a table lacks a column or a value, a run's times are not known or contradict each other,
        it has more regressors than volumes, a presentation lies outside of it, or two begin at
        once.

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
        design = design_run(
            run,
            grid,
            stimulus_column=stimulus_column,
            hrf=hrf,
            confounds=confounds,
            estimator=estimator,
            high_pass_hz=high_pass_hz,
            tr_s=tr_s,
            slice_time_ref=slice_time_ref,
            unoriented=unoriented,
        )
        if design is None:
            continue
        series = read_image_rows(run.bold, voxels, grid, unoriented=unoriented).astype(np.float64)
        check_volumes(series, run.bold.name)
        mean = series.mean(axis=0)
        _check_level(series, mean, run.bold.name)
        betas = design.weights @ series
        # Where a run does not reach it holds one value throughout, and no response.
        reached = (np.ptp(series, axis=0) > 0) & (mean != 0)
        percent = np.divide(100.0 * betas, mean, out=np.full_like(betas, np.nan), where=reached)
        names += design.names
        gaps_s += np.diff(design.onsets_s).tolist()
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


def _check_end(run: BoldRun, ends_s: FloatArray, times_s: FloatArray) -> None:
    """Refuse presentations that go on long after the run."""
    latest_s = float(ends_s.max())
    if latest_s > times_s[-1] + _AFTER_S:
        message = (
            f"{run.events}: presentations must end with the run, at {times_s[-1]:.0f} s; got one "
            f"that ends at {latest_s:.0f} s. Write onsets and durations in seconds."
        )
        raise DataError(message)


def _check_level(series: FloatArray, mean: FloatArray, where: str) -> None:
    """Refuse a run without its mean, of which no percentage can be taken."""
    spread = series.std(axis=0)
    if np.mean(np.abs(mean[spread > 0]) < spread[spread > 0]) > _HALF_OF_VOXELS:
        message = (
            f"{where} must hold images with their mean, of which responses are a percentage; got "
            "means below the spread over time in most voxels, as of images that were demeaned or "
            "z-scored. Give them as they were before."
        )
        raise DataError(message)


def _trials(path: Path, stimulus_column: str) -> tuple[list[str], FloatArray, FloatArray]:
    """Return the stimuli, onsets and durations of presentations, in order of their onsets."""
    table = read_table(path, may_be_empty=True)
    shown = [(row, name) for row, name in enumerate(table.names(stimulus_column)) if name]
    rows = [row for row, _ in shown]
    # A row whose cells are not apart names no stimulus, and would be lost.
    table.numbers("onset", missing=True, remedy="Correct it, and separate cells by tabs.")
    remedy = f"Correct it, in seconds, or set {stimulus_column} to {MISSING}."
    onsets_s = table.numbers("onset", rows, remedy=remedy)
    durations_s = table.numbers("duration", rows, least=0.0, remedy=remedy)
    check_shown(onsets_s, durations_s, str(path))
    order = np.argsort(onsets_s, kind="stable")
    _check_apart(table, [shown[trial] for trial in order], onsets_s[order])
    return [shown[trial][1] for trial in order], onsets_s[order], durations_s[order]


def _check_apart(table: TextTable, shown: Sequence[tuple[int, str]], onsets_s: FloatArray) -> None:
    """Refuse two rows that begin at once, whose responses no estimator can tell apart."""
    for at in np.flatnonzero(np.diff(onsets_s) == 0).tolist():
        (row, name), (other, another) = shown[at : at + 2]
        message = (
            f"{table.place(max(row, other))}: each presentation must begin at a time of its own; "
            f"got {another!r} at {onsets_s[at]:g} s, as {name!r} on line "
            f"{table.lines[min(row, other)]}. Keep one row of each presentation, and set the "
            f"stimulus of others to {MISSING}."
        )
        raise DataError(message)

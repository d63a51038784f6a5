"""Simulated runs as a small BIDS dataset.

The images are in template space, which BIDS allows in derivative datasets only; so the dataset is
one, with ``space-`` in the names of images and the events beside them. nilearn's
``first_level_from_bids`` takes it with ``derivatives_folder="."`` and ``mask_img="derivatives"``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import OptionError, ShapeError
from imgtofmri.progress import track
from imgtofmri.simulation.bold import Scan, check_responses, simulate_blocks, stimulus_design
from imgtofmri.simulation.events import AMPLITUDE_COLUMNS, MISSING, Events, EventsTable
from imgtofmri.simulation.nifti import DtypeName, write_mask, write_run
from imgtofmri.simulation.sidecars import MASK_SIDECAR, bold_sidecar, tsv, write_json, write_top
from imgtofmri.simulation.staging import staged_folder

# After the last event the response still runs; by then little of it is left.
TAIL_S = 16.0
# BIDS wants these first.
_FIRST_COLUMNS = {"onset": 0, "duration": 1}
# int16 holds noise up to this many standard deviations.
_NOISE_REACH = 8.0

BoolArray: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Run:
    """A run: what is shown, for how long, and what its events file says.

    Parameters
    ----------
    events : Events
        What is shown when.
    n_volumes : int
        Length of the run.
    columns : tuple of str
        Columns of the events file.
    rows : tuple of tuple of str
        Its rows.
    """

    events: Events
    n_volumes: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def run_of_table(
    table: EventsTable, index: Mapping[str, int], tr_s: float, n_volumes: int | None = None
) -> Run:
    """Return the run of an events table.

    Parameters
    ----------
    table : EventsTable
        The table; its columns are kept, and ``amplitude`` is added where none was given.
    index : mapping of str to int
        The row of the responses that belongs to each ``stim_file``.
    tr_s : float
        Repetition time, in seconds.
    n_volumes : int, optional
        Length of the run; by default up to 16 s after the last event.
    """
    columns, rows = table.columns, table.rows
    if table.amplitude_column is None:
        shown = columns.index("stim_file")
        columns = (*columns, AMPLITUDE_COLUMNS[0])
        rows = tuple((*row, MISSING if row[shown] == MISSING else "1") for row in rows)
    order = sorted(range(len(columns)), key=lambda k: _FIRST_COLUMNS.get(columns[k], 2))
    events = table.events(index)
    return Run(
        events,
        n_volumes_of(events, tr_s) if n_volumes is None else n_volumes,
        tuple(columns[k] for k in order),
        tuple(tuple(row[k] for k in order) for row in rows),
    )


def run_of_movie(events: Events, name: str, tr_s: float, n_volumes: int | None = None) -> Run:
    """Return the run of a movie, whose events file has one row.

    Parameters
    ----------
    events : Events
        The movie's frames.
    name : str
        The movie's file name.
    tr_s, n_volumes
        As in `run_of_table`.
    """
    start_s = float(events.onsets_s.min())
    cells = (f"{start_s:.6g}", f"{events.end_s - start_s:.6g}", "movie", name)
    n_run = n_volumes_of(events, tr_s) if n_volumes is None else n_volumes
    return Run(events, n_run, ("onset", "duration", "trial_type", "stim_file"), (cells,))


def n_volumes_of(events: Events, tr_s: float) -> int:
    """Return how many volumes hold the events and most of the response to the last.

    Parameters
    ----------
    events : Events
        What is shown.
    tr_s : float
        Repetition time, in seconds.
    """
    return max(1, int(np.ceil((events.end_s + TAIL_S) / tr_s - 1e-9)))


def write_dataset(
    target: str | Path,
    subjects: Mapping[str, ArrayLike],
    runs: Sequence[Run],
    scan: Scan,
    *,
    mask: BoolArray,
    affine: NDArray[np.float64],
    brain: BoolArray | None = None,
    task: str = "simulation",
    space: str = "MNI152NLin6Asym",
    seed: int = 0,
    dtype: DtypeName = "float32",
    stimuli: Mapping[str, Path] | None = None,
    source: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Simulate every run of every subject and write them as a BIDS dataset.

    Nothing is at ``target`` until all is written.

    Parameters
    ----------
    target : str or Path
        A new or empty folder.
    subjects : mapping of str to array of shape (n_stimuli, n_voxels)
        Each subject's responses, by name; voxels in C order of the mask.
    runs : sequence of Run
        What each subject sees. The noise of each run and subject is its own.
    scan : Scan
        How responses become BOLD.
    mask : array of shape (X, Y, Z), bool
        Voxels with a response.
    affine : array of shape (4, 4)
        Voxel to millimetres of ``space``, RAS+.
    brain : array of shape (X, Y, Z), bool, optional
        Further voxels that have a baseline and noise but no response; see `brain_mask`.
    task : str
        The task's label: letters and digits.
    space : str
        The template's name.
    seed : int
        Seed of the noise.
    dtype : {"float32", "int16"}
        How the volumes are stored.
    stimuli : mapping of str to Path, optional
        Files to copy to ``stimuli/``, by their ``stim_file``.
    source : mapping, optional
        Where the responses come from, for the sidecars.
    overwrite : bool
        Replace a dataset that this function wrote before, and of it only what it wrote.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Path
        The dataset.

    Raises
    ------
    OptionError
        If a label is not letters and digits, or an event lies outside its run.
    ShapeError, DataError
        If responses do not fit the mask or the events, or are not finite.
    OutputError
        If the target cannot be written or holds other files.
    """
    target = Path(target)
    labels = {name: _label(name, "subject") for name in subjects}
    _label(task, "task", keep=True)
    _label(space, "space", keep=True)
    if not runs or not subjects or len(set(labels.values())) != len(labels):
        message = (
            "simulate: a dataset needs a run, and subjects whose names differ in their letters and "
            f"digits; got {len(runs)} runs and the subjects {', '.join(subjects) or 'none'}. "
            "Rename the subjects."
        )
        raise OptionError(message)
    responses = {name: _fitting(name, value, runs, mask) for name, value in subjects.items()}
    inside = mask if brain is None else mask | brain
    columns = np.flatnonzero(mask[inside])
    shown = [column for run in runs for column in run.columns]
    for run in runs:
        stimulus_design(run.events, len(next(iter(responses.values()))), scan, run.n_volumes)
    with (
        staged_folder(target, overwrite=overwrite) as stage,
        track("Simulating", len(runs) * len(subjects), "runs", enabled=progress) as advance,
    ):
        write_top(stage, list(labels.values()), shown, task, space, source)
        for name, path in (stimuli or {}).items():
            copy = stage / "stimuli" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        for subject, (name, values) in enumerate(responses.items()):
            folder = stage / f"sub-{labels[name]}" / "func"
            folder.mkdir(parents=True)
            for number, run in enumerate(runs):
                stem = f"sub-{labels[name]}_task-{task}_run-{number + 1}"
                image = folder / f"{stem}_space-{space}_desc-simulated_bold"
                blocks = simulate_blocks(
                    values,
                    run.events,
                    scan,
                    run.n_volumes,
                    seed=seed,
                    key=(subject, number),
                    n_voxels=int(inside.sum()),
                    columns=columns,
                )
                write_run(
                    image.with_name(f"{image.name}.nii.gz"),
                    blocks,
                    mask=inside,
                    affine=affine,
                    n_volumes=run.n_volumes,
                    tr_s=scan.tr_s,
                    dtype=dtype,
                    largest=_largest(values, run, scan),
                )
                sidecar = bold_sidecar(task, scan, seed, (subject, number), name, source)
                write_json(image.with_name(f"{image.name}.json"), sidecar)
                mask_path = folder / f"{stem}_space-{space}_desc-brain_mask.nii.gz"
                write_mask(mask_path, inside, affine)
                write_json(folder / f"{stem}_space-{space}_desc-brain_mask.json", MASK_SIDECAR)
                text = tsv(run.columns, run.rows)
                (folder / f"{stem}_events.tsv").write_text(text, encoding="utf-8")
                advance(1)
    return target


def brain_mask(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> BoolArray:
    """Return the brain of the MNI152 template on a grid.

    Parameters
    ----------
    shape : tuple of int
        The grid.
    affine : array of shape (4, 4)
        Voxel to millimetres of an MNI152 space, RAS+.

    Returns
    -------
    brain : array of the given shape, bool
        The mask that nilearn carries, of ICBM 152 (2009, symmetric), at the nearest voxel. Its
        outline differs from that of MNI152NLin6Asym by a few millimetres in places.
    """
    from nilearn.datasets import load_mni152_brain_mask
    from nilearn.image import resample_img

    resampled = resample_img(
        load_mni152_brain_mask(resolution=2),
        target_affine=affine,
        target_shape=shape,
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    )
    return np.asarray(resampled.dataobj) > 0


def _fitting(
    name: str, values: ArrayLike, runs: Sequence[Run], mask: BoolArray
) -> NDArray[np.floating[Any]]:
    """Check one subject's responses against the events and the mask."""
    responses = check_responses(values, [run.events for run in runs])
    if responses.shape[1] != mask.sum():
        message = (
            f"simulate: responses of {name} must have a column for each of the {mask.sum()} voxels "
            f"of the mask; got {responses.shape[1]}. Use the mask they were predicted with."
        )
        raise ShapeError(message)
    return responses


def _largest(values: NDArray[np.floating[Any]], run: Run, scan: Scan) -> float:
    """Return a bound on the magnitude of a run's values, for the scale of int16."""
    design = stimulus_design(run.events, len(values), scan, run.n_volumes)
    weight = float(abs(design).sum(axis=1).max())
    shown = np.unique(run.events.stimuli)
    signal = weight * float(np.abs(values[shown]).max()) * abs(scan.percent_per_unit) / 100.0
    noise = 0.0 if scan.noise is None else _NOISE_REACH / scan.noise.tsnr
    return scan.baseline * (1.0 + signal + noise)


def _label(name: str, what: str, *, keep: bool = False) -> str:
    """Return a BIDS label: letters and digits only; with ``keep``, refuse others."""
    label = re.sub(r"[^0-9A-Za-z]", "", name)
    if not label or (keep and label != name):
        message = (
            f"simulate: a {what} label must consist of letters and digits, as BIDS has it; "
            f"got {name!r}. {f'Use {label!r}.' if label else 'Choose a name.'}"
        )
        raise OptionError(message)
    return label

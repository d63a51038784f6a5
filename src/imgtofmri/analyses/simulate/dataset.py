"""Simulated runs as a small BIDS dataset.

The images are in template space, which BIDS allows in derivative datasets only; so the dataset is
one, with ``space-`` in the names of images and the events beside them. nilearn's
``first_level_from_bids`` takes it with ``derivatives_folder="."`` and ``mask_img="derivatives"``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.simulate.bold import (
    Scan,
    check_run,
    noise_field,
    simulate_blocks,
    stimulus_design,
)
from imgtofmri.analyses.simulate.nifti import DTYPES, DtypeName, write_mask, write_run
from imgtofmri.analyses.simulate.responses import Responses, check_responses
from imgtofmri.analyses.simulate.runs import Run
from imgtofmri.analyses.simulate.sidecars import (
    MASK_SIDECAR,
    bold_sidecar,
    write_json,
    write_top,
)
from imgtofmri.exceptions import OptionError, OutputError, ShapeError, choice_message
from imgtofmri.outputs.series import MAX_VOLUMES
from imgtofmri.outputs.staging import staged_folder
from imgtofmri.progress import track
from imgtofmri.tables import tsv

# int16 holds noise up to this many standard deviations.
_NOISE_REACH = 8.0
_SIGNAL_ROWS = 256

BoolArray: TypeAlias = NDArray[np.bool_]


def write_dataset(
    target: str | Path,
    subjects: Mapping[str, ArrayLike | Responses],
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
    subjects : mapping of str to array of shape (n_stimuli, n_voxels), or Responses
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
        If a label is not letters and digits, an event lies outside its run, or a run is too long
        for a file.
    ShapeError, DataError
        If responses do not fit the mask or the events, or are not finite.
    OutputError
        If the target cannot be written or holds other files.
    """
    target = Path(target)
    labels = {name: _label(name, "subject") for name in subjects}
    check_storage(task, dtype)
    _label(space, "space", keep=True)
    if not runs or not subjects or len(set(labels.values())) != len(labels):
        message = (
            "simulate: a dataset needs a run, and subjects whose names differ in their letters and "
            f"digits; got {len(runs)} runs and the subjects {', '.join(subjects) or 'none'}. "
            "Rename the subjects."
        )
        raise OptionError(message)
    responses = {name: _fitting(name, value, runs, mask) for name, value in subjects.items()}
    for run in runs:
        check_length(run)
        check_run(run.events, scan, run.n_volumes)
    inside = mask if brain is None else mask | brain
    field = noise_field(scan, inside, affine)
    columns = [column for run in runs for column in run.columns]
    try:
        with (
            staged_folder(target, overwrite=overwrite) as stage,
            track("Simulating", len(runs) * len(subjects), "runs", enabled=progress) as advance,
        ):
            write_top(stage, list(labels.values()), columns, task, space, source)
            for name, path in (stimuli or {}).items():
                copy = stage / "stimuli" / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            for subject, (name, values) in enumerate(responses.items()):
                folder = stage / f"sub-{labels[name]}" / "func"
                folder.mkdir(parents=True)
                for number, run in enumerate(runs):
                    stem = f"sub-{labels[name]}_task-{task}_run-{number + 1}"
                    (folder / f"{stem}_events.tsv").write_text(
                        tsv(run.columns, run.rows), encoding="utf-8"
                    )
                    stem = f"{stem}_space-{space}"
                    write_mask(folder / f"{stem}_desc-brain_mask.nii.gz", inside, affine)
                    write_json(folder / f"{stem}_desc-brain_mask.json", MASK_SIDECAR)
                    sidecar = bold_sidecar(task, scan, seed, (subject, number), name, source)
                    write_json(folder / f"{stem}_desc-simulated_bold.json", sidecar)
                    blocks = simulate_blocks(
                        values,
                        run.events,
                        scan,
                        run.n_volumes,
                        seed=seed,
                        key=(subject, number),
                        n_voxels=int(inside.sum()),
                        columns=np.flatnonzero(mask[inside]),
                        field=field,
                    )
                    write_run(
                        folder / f"{stem}_desc-simulated_bold.nii.gz",
                        blocks,
                        mask=inside,
                        affine=affine,
                        n_volumes=run.n_volumes,
                        tr_s=scan.tr_s,
                        dtype=dtype,
                        largest=_largest(values, run, scan) if dtype == "int16" else 0.0,
                    )
                    advance(1)
    except OutputError:
        raise
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        message = (
            f"cannot write {target}: a file could not be read or written ({reason}). Make room, "
            "or choose another folder; nothing was left behind."
        )
        raise OutputError(message) from error
    return target


def check_length(run: Run, name: str = "run") -> None:
    """Refuse a run of more volumes than a NIfTI-1 file holds.

    Raises
    ------
    OptionError
    """
    if run.n_volumes > MAX_VOLUMES:
        message = (
            f"{name}: a run must have at most {MAX_VOLUMES} volumes, the most that a NIfTI-1 file "
            f"holds; got {run.n_volumes}, with the last event ending at {run.events.end_s:g} s. "
            "Check the onsets and durations, which are in seconds, or ask for fewer volumes."
        )
        raise OptionError(message)


def check_storage(task: str, dtype: str) -> None:
    """Refuse a task's label that BIDS does not allow, and an unknown type of values.

    Raises
    ------
    OptionError
    """
    _label(task, "task", keep=True)
    if dtype not in DTYPES:
        raise OptionError(choice_message("simulate", "dtype", dtype, DTYPES))


def _fitting(
    name: str, values: ArrayLike | Responses, runs: Sequence[Run], mask: BoolArray
) -> Responses:
    """Check one subject's responses against the events and the mask."""
    responses = check_responses(values, max(run.events.n_stimuli for run in runs))
    if responses.n_voxels != mask.sum():
        message = (
            f"simulate: responses of {name} must have a column for each of the {mask.sum()} voxels "
            f"of the mask; got {responses.n_voxels}. Use the mask they were predicted with."
        )
        raise ShapeError(message)
    return responses


def _largest(responses: Responses, run: Run, scan: Scan) -> float:
    """Return a magnitude that no value of a run exceeds, for the scale of int16."""
    design = stimulus_design(run.events, responses.n_stimuli, scan, run.n_volumes)
    signal = 0.0
    for start in range(0, run.n_volumes, _SIGNAL_ROWS):
        rows = responses.signal(design[start : start + _SIGNAL_ROWS])
        signal = max(signal, float(np.abs(rows).max(initial=0.0)))
    noise = 0.0 if scan.noise is None else _NOISE_REACH / scan.noise.tsnr
    return scan.baseline * (1.0 + signal * abs(scan.percent_per_unit) / 100.0 + noise)


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

"""A simulation as a small BIDS dataset.

The images are in template space, which BIDS allows in derivative datasets only; so the dataset is
one, with ``space-`` in the names of images and the events beside them. nilearn's
``first_level_from_bids`` takes it with ``derivatives_folder="."`` and ``mask_img="derivatives"``.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imgtofmri.analyses.simulate.analysis import BoolArray, Simulation
from imgtofmri.analyses.simulate.courses import region_courses
from imgtofmri.analyses.simulate.figures import plot_courses
from imgtofmri.analyses.simulate.sidecars import (
    COURSES_FILE,
    MASK_SIDECAR,
    bold_sidecar,
    write_json,
    write_top,
)
from imgtofmri.exceptions import OptionError, OutputError, check_choice
from imgtofmri.experiments.experiment import check_length
from imgtofmri.experiments.scan import stimulus_design
from imgtofmri.figures.style import save_figure
from imgtofmri.files import write_whole
from imgtofmri.outputs import OutputFolder
from imgtofmri.outputs.gzip_pieces import compressed
from imgtofmri.outputs.series import DTYPES, DtypeName, SeriesWriter
from imgtofmri.outputs.volumes import set_template_header
from imgtofmri.progress import track
from imgtofmri.tables import tsv, write_table

COMMAND = "simulate"

# int16 holds noise up to this many standard deviations.
_NOISE_REACH = 8.0
_SIGNAL_ROWS = 256


def save_simulation(
    simulation: Simulation,
    folder: OutputFolder | str | Path,
    *,
    task: str = "simulation",
    dtype: DtypeName = "float32",
    copy_stimuli: bool = True,
    overwrite: bool = False,
    progress: bool = False,
) -> list[Path]:
    """Simulate every run of every subject and write them as a BIDS dataset.

    Nothing is there until all is written.

    Parameters
    ----------
    simulation : Simulation
    folder : str, Path or OutputFolder
        A new or empty folder; see `dataset_folder`.
    task : str
        The task's label: letters and digits.
    dtype : {"float32", "int16"}
        How the volumes are stored.
    copy_stimuli : bool
        Copy the stimuli to ``stimuli/``, as BIDS wants it.
    overwrite : bool
        Replace a dataset that this function wrote before, and of it only what it wrote.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    OptionError
        If a label is not letters and digits, a run is too long for a file, or the folder holds
        files and is not to be overwritten.
    OutputError
        If the folder cannot be written.
    """
    check_storage(task, dtype)
    labels = {name: _label(name, "subject") for name in simulation.subjects}
    _label(simulation.space, "space", keep=True)
    if len(set(labels.values())) != len(labels):
        message = (
            "subjects must have names that differ in their letters and digits; got "
            f"{', '.join(labels)}. Rename them."
        )
        raise OptionError(message, "subjects")
    for run in simulation.runs:
        check_length(run)
    output = dataset_folder(folder, overwrite=overwrite)
    settings = _settings(simulation, task, dtype, copy_stimuli)
    source = {} if simulation.provenance is None else simulation.provenance.to_dict()
    total = len(simulation.runs) * len(labels)
    try:
        with (
            output.begin(settings, source),
            track("Simulating", total, "runs", enabled=progress) as advance,
        ):
            shown = (*simulation.tables, *simulation.stimuli)
            output.used(
                [each.name for each in shown],
                [each.sha256 for each in shown],
                [each.path for each in shown],
            )
            write_top(output.path, [*labels.values()], simulation, task, output.record.name)
            for name, path, _ in simulation.stimuli if copy_stimuli else ():
                copy = output.path / "stimuli" / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            _write_courses(output.path, simulation)
            for name, label in labels.items():
                for number in range(len(simulation.runs)):
                    _write_run(output.path, simulation, name, label, number, task, dtype)
                    advance(1)
    except OutputError:
        raise
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        message = (
            f"cannot write {output.path}: a file could not be read or written ({reason}). Make "
            "room, or choose another folder; nothing was left behind."
        )
        raise OutputError(message) from error
    return output.files


def dataset_folder(folder: OutputFolder | str | Path, *, overwrite: bool = False) -> OutputFolder:
    """Return a claimed folder that is written whole or not at all, as datasets are.

    Raises
    ------
    OptionError, OutputError
        As `OutputFolder.claim` does.
    """
    return OutputFolder.of(folder, COMMAND, overwrite=overwrite, whole=True)


def check_storage(task: str, dtype: str) -> None:
    """Refuse a task's label that BIDS does not allow, and an unknown type of values.

    Raises
    ------
    OptionError
    """
    _label(task, "task", keep=True)
    check_choice("dtype", dtype, DTYPES)


def _write_run(
    root: Path,
    simulation: Simulation,
    name: str,
    label: str,
    number: int,
    task: str,
    dtype: DtypeName,
) -> None:
    """Write the files of one subject's run."""
    run, inside = simulation.runs[number], simulation.inside
    folder = root / f"sub-{label}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    # One width for all runs, so that their names sort as they were run.
    width = max(2, len(str(len(simulation.runs))))
    stem = f"sub-{label}_task-{task}_run-{number + 1:0{width}d}"
    (folder / f"{stem}_events.tsv").write_text(tsv(run.columns, run.rows), encoding="utf-8")
    stem = f"{stem}_space-{simulation.space}"
    _write_mask(folder / f"{stem}_desc-brain_mask.nii.gz", inside, simulation.affine)
    write_json(folder / f"{stem}_desc-brain_mask.json", MASK_SIDECAR)
    sidecar = bold_sidecar(task, simulation, name, number)
    write_json(folder / f"{stem}_desc-simulated_bold.json", sidecar)
    path = folder / f"{stem}_desc-simulated_bold.nii.gz"
    largest = _largest(simulation, name, number) if dtype == "int16" else 0.0
    step_s = simulation.scan.tr_s
    with SeriesWriter(path, inside, simulation.affine, step_s, dtype, largest) as volumes:
        for block in simulation.blocks(name, number):
            volumes.append(block)


def _write_courses(root: Path, simulation: Simulation) -> None:
    """Write the regions' signal and its figure, where there are regions."""
    if not simulation.rois:
        return
    courses = region_courses(simulation)
    write_table(courses, root / f"{COURSES_FILE}.tsv")
    note = "" if simulation.provenance is None else simulation.provenance.note
    save_figure(plot_courses(simulation, courses), root / COURSES_FILE, note=note)


def _write_mask(path: Path, mask: BoolArray, affine: np.ndarray[Any, Any]) -> None:
    """Write a mask as a compressed NIfTI file of 0 and 1."""
    import nibabel as nib

    image = nib.Nifti1Image(mask.astype(np.uint8), affine)
    set_template_header(image.header, affine)
    write_whole(path, compressed(image.to_bytes()))


def _largest(simulation: Simulation, name: str, number: int) -> float:
    """Return a magnitude that no value of a run exceeds, for the scale of int16."""
    responses, run, scan = simulation.subjects[name], simulation.runs[number], simulation.scan
    design = stimulus_design(run.events, responses.n_stimuli, scan, run.n_volumes)
    signal = 0.0
    for start in range(0, run.n_volumes, _SIGNAL_ROWS):
        rows = responses.signal(design[start : start + _SIGNAL_ROWS])
        signal = max(signal, float(np.abs(rows).max(initial=0.0)))
    noise = 0.0 if scan.noise is None else _NOISE_REACH / scan.noise.tsnr
    return scan.baseline * (1.0 + signal * abs(scan.percent_per_unit) / 100.0 + noise)


def _settings(simulation: Simulation, task: str, dtype: str, copy_stimuli: bool) -> dict[str, Any]:
    """Return what the record says besides what predicted the responses."""
    scan = simulation.scan
    return {
        "task": task,
        "subjects": list(simulation.subjects),
        "n_volumes": [run.n_volumes for run in simulation.runs],
        "tr_s": scan.tr_s,
        "hrf": scan.hrf_said,
        "slice_time_ref": scan.slice_time_ref,
        "baseline": scan.baseline,
        "scale": None if simulation.scale is None else str(simulation.scale),
        "percent_per_unit": scan.percent_per_unit,
        "noise": None if scan.noise is None else asdict(scan.noise),
        "seed": simulation.seed,
        "voxels": "predicted" if simulation.brain is None else "brain",
        "dtype": dtype,
        "copy_stimuli": copy_stimuli,
        "rate_hz": simulation.rate_hz,
    }


def _label(name: str, what: str, *, keep: bool = False) -> str:
    """Return a BIDS label: letters and digits only; with ``keep``, refuse others."""
    label = re.sub(r"[^0-9A-Za-z]", "", name)
    if not label or (keep and label != name):
        message = (
            f"{what} must be a label of letters and digits, as BIDS has it; got {name!r}. "
            f"{f'Use {label!r}.' if label else 'Choose a name.'}"
        )
        raise OptionError(message, what)
    return label

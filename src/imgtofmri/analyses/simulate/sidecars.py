"""The texts of a simulated dataset: sidecars, tables and the README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imgtofmri import __version__
from imgtofmri.analyses.simulate.analysis import Simulation
from imgtofmri.outputs.layouts import BIDS_VERSION
from imgtofmri.tables import tsv

MASK_SIDECAR = {
    "Type": "Brain",
    "Description": "Voxels that were simulated; all others are 0.",
}

COURSES_FILE = "timecourses"
"""What the regions' signals are called: a table and a figure, of which BIDS knows nothing."""

_COLUMN_DESCRIPTIONS = {
    "amplitude": "Factor on the predicted response of the stimulus.",
    "modulation": "Factor on the predicted response of the stimulus.",
    "stim_file": "The stimulus, below the folder stimuli.",
}


def write_top(
    folder: Path, labels: Sequence[str], simulation: Simulation, task: str, record: str
) -> None:
    """Write the files at the top of a dataset; BIDS tools are told to pass over the record."""
    generator = {
        "Name": "imgtofmri",
        "Version": __version__,
        "Description": "Simulated from the responses that an encoding model predicts.",
    }
    description = {
        "Name": f"Simulated responses, task {task}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generator],
    }
    write_json(folder / "dataset_description.json", description)
    ignored = f"{record}\nreport.html\n{COURSES_FILE}.*\n"
    (folder / ".bidsignore").write_text(ignored, encoding="utf-8")
    rows = [(f"sub-{label}",) for label in labels]
    (folder / "participants.tsv").write_text(tsv(("participant_id",), rows), encoding="utf-8")
    known = {"onset", "duration", "trial_type", "response_time", "HED"}
    described = {
        column: {"Description": _COLUMN_DESCRIPTIONS.get(column, "As in the given events file.")}
        for column in dict.fromkeys(name for run in simulation.runs for name in run.columns)
        if column not in known
    }
    write_json(folder / f"task-{task}_events.json", described)
    made = simulation.provenance
    encoder = f"The encoder {made.encoder}" if made and made.encoder else "An encoding model"
    network = None if made is None else made.network
    note = f" Note: {network.note}." if network and network.note else ""
    readme = _README.format(encoder=encoder, note=note, task=task, space=simulation.space)
    (folder / "README.md").write_text(readme, encoding="utf-8")


def bold_sidecar(task: str, simulation: Simulation, subject: str, number: int) -> dict[str, Any]:
    """Return what the file of a run says about itself."""
    scan, made = simulation.scan, simulation.provenance
    return {
        "TaskName": task,
        "RepetitionTime": scan.tr_s,
        "StartTime": scan.slice_time_ref * scan.tr_s,
        "SliceTimingCorrected": True,
        "SkullStripped": True,
        "Description": "Simulated BOLD run; nothing in it was measured.",
        "Sources": [],
        "Simulation": {
            "Subject": subject,
            "HaemodynamicResponse": scan.hrf_said,
            "Baseline": scan.baseline,
            "Scale": None if simulation.scale is None else str(simulation.scale),
            "PercentPerUnit": scan.percent_per_unit,
            "Noise": None if scan.noise is None else asdict(scan.noise),
            "Seed": simulation.seed,
            "Stream": [list(simulation.subjects).index(subject), number],
            **({} if made is None else made.to_dict()),
        },
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


_README = """\
# Simulated responses

These runs are simulated.
{encoder} predicted the response of each voxel to each stimulus.{note}
The stimuli's time courses were convolved with a haemodynamic response, sampled at the volumes and
scaled to percent of a baseline; noise was added if the sidecars say so. Nothing here was measured,
and no statistic of these runs is evidence about a brain.

- `sub-*/func/*_bold.nii.gz`: the runs, in template space; the sidecars hold every setting.
- `sub-*/func/*_mask.nii.gz`: the voxels that were simulated; all others are 0.
- `sub-*/func/*_events.tsv`: the events as given, and the amplitudes that were used.
- `stimuli/`: the stimuli, if they were copied.
- `timecourses.tsv`, `.png`, `.svg`: the regions' signal without noise, in percent of the baseline.

The images are in template space, so this is a BIDS derivative dataset. With nilearn:

```python
from nilearn.glm.first_level import first_level_from_bids

models, images, events, confounds = first_level_from_bids(
    "this folder", "{task}", space_label="{space}", derivatives_folder=".",
    mask_img="derivatives", confounds_strategy=None,
)
models[0].fit(images[0], events[0])
```
"""

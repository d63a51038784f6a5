"""The texts of a simulated dataset: sidecars, tables and the README."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imgtofmri import __version__
from imgtofmri.analyses.simulate.bold import Scan
from imgtofmri.tables import tsv
from imgtofmri.timeseries import hrf

BIDS_VERSION = "1.10.0"

MASK_SIDECAR = {
    "Type": "Brain",
    "Description": "Voxels that were simulated; all others are 0.",
}

_COLUMN_DESCRIPTIONS = {
    "amplitude": "Factor on the predicted response of the stimulus.",
    "modulation": "Factor on the predicted response of the stimulus.",
    "stim_file": "The stimulus, below the folder stimuli.",
}


def write_top(
    stage: Path,
    labels: Sequence[str],
    columns: Iterable[str],
    task: str,
    space: str,
    source: Mapping[str, Any] | None,
) -> None:
    """Write the files at the top of a dataset."""
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
    write_json(stage / "dataset_description.json", description)
    rows = [(f"sub-{label}",) for label in labels]
    (stage / "participants.tsv").write_text(tsv(("participant_id",), rows), encoding="utf-8")
    known = {"onset", "duration", "trial_type", "response_time", "HED"}
    described = {
        column: {"Description": _COLUMN_DESCRIPTIONS.get(column, "As in the given events file.")}
        for column in dict.fromkeys(columns)
        if column not in known
    }
    write_json(stage / f"task-{task}_events.json", described)
    told = source or {}
    encoder = f"The encoder {told['encoder']}" if told.get("encoder") else "An encoding model"
    note = f" Note: {told['note']}." if told.get("note") else ""
    readme = _README.format(encoder=encoder, note=note, task=task, space=space)
    (stage / "README.md").write_text(readme, encoding="utf-8")


def bold_sidecar(
    task: str,
    scan: Scan,
    seed: int,
    key: tuple[int, int],
    subject: str,
    source: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what the file of a run says about itself."""
    model: Any = scan.hrf
    if not isinstance(model, str):
        samples = hrf(scan.hrf, scan.hrf_step_s).tolist()
        model = {"StepSeconds": scan.hrf_step_s, "Samples": samples}
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
            "HaemodynamicResponse": model,
            "Baseline": scan.baseline,
            "PercentPerUnit": scan.percent_per_unit,
            "Noise": None if scan.noise is None else asdict(scan.noise),
            "Seed": seed,
            "Stream": list(key),
            **(source or {}),
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

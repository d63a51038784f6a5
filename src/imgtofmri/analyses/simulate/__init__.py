"""Simulated experiments: events or a movie to BOLD runs.

- From an encoder to a BIDS dataset: `simulate_experiment`, `save_simulation`; `Simulation`
- Who sees it: `subject_weights`, `combine`; `encoded_subjects`
- What is measured: `simulate_bold`, `simulate_blocks`, `noise_field`
- What regions answer: `region_courses`, `plot_courses`

What is shown, how it is scanned and how large signals are is told by `imgtofmri.experiments`, of
which this page offers what a simulation takes, too.
"""

from __future__ import annotations

from imgtofmri.analyses.simulate.analysis import Simulation, simulate_experiment
from imgtofmri.analyses.simulate.bold import noise_field, simulate_blocks, simulate_bold
from imgtofmri.analyses.simulate.courses import region_courses
from imgtofmri.analyses.simulate.encoding import encoded_subjects
from imgtofmri.analyses.simulate.figures import plot_courses
from imgtofmri.analyses.simulate.files import check_storage, dataset_folder, save_simulation
from imgtofmri.analyses.simulate.responses import (
    ArrayResponses,
    EncodedResponses,
    Responses,
    combine,
    subject_weights,
)
from imgtofmri.experiments import Events, Noise, Run, Scale, Scan, read_experiment

__all__ = [
    "ArrayResponses",
    "EncodedResponses",
    "Events",
    "Noise",
    "Responses",
    "Run",
    "Scale",
    "Scan",
    "Simulation",
    "check_storage",
    "combine",
    "dataset_folder",
    "encoded_subjects",
    "noise_field",
    "plot_courses",
    "read_experiment",
    "region_courses",
    "save_simulation",
    "simulate_blocks",
    "simulate_bold",
    "simulate_experiment",
    "subject_weights",
]

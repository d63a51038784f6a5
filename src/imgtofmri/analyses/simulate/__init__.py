"""Simulated experiments: events or a movie to BOLD runs.

- From an encoder to a BIDS dataset: `read_experiment`, `simulate_experiment`, `save_simulation`;
  `Experiment`, `Simulation`, `Scan`, `Noise`
- What is shown: `Events`, `movie_events`, `read_events`, `find_stimuli`; `Run`, `run_of_table`,
  `run_of_movie`
- Who sees it: `subject_weights`, `combine`; `encode_images`, `encode_movie`, `encoded_subjects`
- What is measured: `simulate_bold`, `percent_per_unit_for`, `check_run`, `stimulus_design`,
  `read_kernel`; `SmoothField`, `noise_field`
"""

from __future__ import annotations

from imgtofmri.analyses.simulate.analysis import Simulation, simulate_experiment
from imgtofmri.analyses.simulate.bold import (
    Scan,
    check_run,
    noise_field,
    percent_per_unit_for,
    simulate_blocks,
    simulate_bold,
    stimulus_design,
)
from imgtofmri.analyses.simulate.encoding import encode_images, encode_movie, encoded_subjects
from imgtofmri.analyses.simulate.events import Events, movie_events
from imgtofmri.analyses.simulate.experiment import Experiment, Input, read_experiment
from imgtofmri.analyses.simulate.files import check_storage, dataset_folder, save_simulation
from imgtofmri.analyses.simulate.noise import Noise
from imgtofmri.analyses.simulate.responses import (
    ArrayResponses,
    EncodedResponses,
    Responses,
    combine,
    subject_weights,
)
from imgtofmri.analyses.simulate.runs import Run, run_of_movie, run_of_table
from imgtofmri.analyses.simulate.smoothness import SmoothField
from imgtofmri.analyses.simulate.tables import EventsTable, find_stimuli, read_events, read_kernel

__all__ = [
    "ArrayResponses",
    "EncodedResponses",
    "Events",
    "EventsTable",
    "Experiment",
    "Input",
    "Noise",
    "Responses",
    "Run",
    "Scan",
    "Simulation",
    "SmoothField",
    "check_run",
    "check_storage",
    "combine",
    "dataset_folder",
    "encode_images",
    "encode_movie",
    "encoded_subjects",
    "find_stimuli",
    "movie_events",
    "noise_field",
    "percent_per_unit_for",
    "read_events",
    "read_experiment",
    "read_kernel",
    "run_of_movie",
    "run_of_table",
    "save_simulation",
    "simulate_blocks",
    "simulate_bold",
    "simulate_experiment",
    "stimulus_design",
    "subject_weights",
]

"""Experiments: what is shown when, how it is scanned, and what size its signals have.

What is planned and what is simulated are described alike.

- What is shown: `read_experiment`, `Experiment`, `Input`; `Events`, `movie_events`, `read_events`,
  `EventsTable`, `find_stimuli`; `Run`, `run_of_table`
- How it is scanned: `Scan`, `read_kernel`, `stimulus_design`, `check_run`; `Noise`, `SmoothField`
- The stimuli's responses: `encode_stimuli`, `own_means`; how large they are: `Scale`,
  `conditions_of`, `condition_rows`
"""

from __future__ import annotations

from imgtofmri.experiments.encoding import encode_stimuli, own_means
from imgtofmri.experiments.events import Events, Frames, movie_events
from imgtofmri.experiments.experiment import Experiment, Input, read_experiment
from imgtofmri.experiments.noise import Noise
from imgtofmri.experiments.runs import Run, run_of_table
from imgtofmri.experiments.scale import Scale, condition_rows, conditions_of
from imgtofmri.experiments.scan import Scan, check_run, stimulus_design
from imgtofmri.experiments.smoothness import SmoothField
from imgtofmri.experiments.tables import EventsTable, find_stimuli, read_events, read_kernel

__all__ = [
    "Events",
    "EventsTable",
    "Experiment",
    "Frames",
    "Input",
    "Noise",
    "Run",
    "Scale",
    "Scan",
    "SmoothField",
    "check_run",
    "condition_rows",
    "conditions_of",
    "encode_stimuli",
    "find_stimuli",
    "movie_events",
    "own_means",
    "read_events",
    "read_experiment",
    "read_kernel",
    "run_of_table",
    "stimulus_design",
]

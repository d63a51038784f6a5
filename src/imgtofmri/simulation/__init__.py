"""Simulated experiments: events or a movie to BOLD runs.

- What is shown: `Events`, `read_events`, `find_stimuli`, `movie_events`
- Arrays: `simulate_bold`, `Noise`, `Scan`, `stimulus_design`, `draw_subjects`
- Datasets: `write_dataset`, `Run`, `run_of_table`, `run_of_movie`, `brain_mask`
"""

from __future__ import annotations

from imgtofmri.simulation.bold import Scan, draw_subjects, simulate_bold, stimulus_design
from imgtofmri.simulation.dataset import (
    Run,
    brain_mask,
    run_of_movie,
    run_of_table,
    write_dataset,
)
from imgtofmri.simulation.events import (
    Events,
    EventsTable,
    find_stimuli,
    movie_events,
    read_events,
)
from imgtofmri.simulation.noise import Noise

__all__ = [
    "Events",
    "EventsTable",
    "Noise",
    "Run",
    "Scan",
    "brain_mask",
    "draw_subjects",
    "find_stimuli",
    "movie_events",
    "read_events",
    "run_of_movie",
    "run_of_table",
    "simulate_bold",
    "stimulus_design",
    "write_dataset",
]

"""Simulated experiments: events or a movie to BOLD runs.

- What is shown: `Events`, `read_events`, `find_stimuli`, `movie_events`
- Arrays: `simulate_bold`, `Noise`, `Scan`, `draw_subjects`
"""

from __future__ import annotations

from imgtofmri.simulation.bold import Scan, draw_subjects, simulate_bold, stimulus_design
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
    "Scan",
    "draw_subjects",
    "find_stimuli",
    "movie_events",
    "read_events",
    "simulate_bold",
    "stimulus_design",
]

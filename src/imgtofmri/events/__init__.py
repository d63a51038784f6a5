"""Event boundaries in a time course: given, found, and what happens around them.

A boundary is the index of the first volume of a new event. The first event begins at volume 0,
which is not a boundary, so ``n_events`` events have ``n_events - 1`` boundaries.
"""

from __future__ import annotations

from imgtofmri.events.averages import (
    BoundaryAverage,
    average_around_boundaries,
    bootstrap_p,
    boundary_windows,
    limits_of_samples,
    mean_around_boundaries,
)
from imgtofmri.events.choice import EventChoice, choose_n_events
from imgtofmri.events.gsbs import StateSearch, greedy_states, optimal_states
from imgtofmri.events.hmm import EventModel, annealed_variance, find_events, fit_events
from imgtofmri.events.separation import (
    check_boundaries,
    event_labels,
    t_distance,
)

__all__ = [
    "BoundaryAverage",
    "EventChoice",
    "EventModel",
    "StateSearch",
    "annealed_variance",
    "average_around_boundaries",
    "bootstrap_p",
    "boundary_windows",
    "check_boundaries",
    "choose_n_events",
    "event_labels",
    "find_events",
    "fit_events",
    "greedy_states",
    "limits_of_samples",
    "mean_around_boundaries",
    "optimal_states",
    "t_distance",
]

"""How many events a time course holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.events.hmm import EventModel, fit_events
from imgtofmri.events.separation import check_run, t_distance
from imgtofmri.exceptions import OptionError

__all__ = ["EventChoice", "choose_n_events"]


@dataclass(frozen=True, eq=False)
class EventChoice:
    """Models of several numbers of events, compared.

    Attributes
    ----------
    candidates : tuple of int
        The numbers of events tried.
    scores : array of shape (n_candidates,)
        How well each model's events separate (`t_distance`).
    models : tuple of EventModel
        One for each candidate.
    """

    candidates: tuple[int, ...]
    scores: NDArray[np.float64]
    models: tuple[EventModel, ...]

    @property
    def best(self) -> EventModel:
        """The model whose events separate best."""
        return self.models[int(np.argmax(self.scores))]


def choose_n_events(
    data: ArrayLike,
    candidates: Iterable[int],
    *,
    split_merge: bool = False,
) -> EventChoice:
    """Fit hidden Markov models of several numbers of events and compare them.

    The likelihood always prefers more events; how alike volumes are within and across events does
    not.

    Parameters
    ----------
    data : array of shape (n_timepoints, n_voxels)
        One run; for several subjects, their mean.
    candidates : iterable of int
        Numbers of events.
    split_merge : bool, default False
        As in `fit_events`.

    Returns
    -------
    EventChoice
        All models, with their scores.

    Raises
    ------
    OptionError
        If there is no candidate, or one is too small or too large.
    DataError
        If the data hold values that are not finite, or fewer than 3 volumes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> states = np.repeat(rng.standard_normal((4, 50)), [5, 9, 6, 8], axis=0)
    >>> choose_n_events(states + 0.5 * rng.standard_normal((28, 50)), range(2, 8)).best.n_events
    4
    """
    run = check_run(data)
    numbers = tuple(int(number) for number in candidates)
    if not numbers:
        message = (
            "candidates must name one number of events or more; got none. "
            "Give for example range(2, 20)."
        )
        raise OptionError(message)
    models = tuple(fit_events(run, number, split_merge=split_merge) for number in numbers)
    similarity = np.atleast_2d(np.corrcoef(run))
    scores = np.array([t_distance(similarity, model.boundaries) for model in models])
    return EventChoice(numbers, scores, models)

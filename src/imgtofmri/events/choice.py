"""How many events a time course holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.events.checks import check_time_courses
from imgtofmri.events.hmm import EventModel, fit_events
from imgtofmri.events.separation import t_distance, within_across_difference
from imgtofmri.exceptions import OptionError, choice_message

__all__ = ["EventChoice", "choose_n_events"]

CRITERIA = ("t-distance", "within-across")


@dataclass(frozen=True, eq=False)
class EventChoice:
    """Models of several numbers of events, compared.

    Attributes
    ----------
    candidates : tuple of int
        The numbers of events tried.
    scores : array of shape (n_candidates,)
        How well each model's events separate; NaN where that cannot be computed.
    models : tuple of EventModel
        One for each candidate.
    """

    candidates: tuple[int, ...]
    scores: NDArray[np.float64]
    models: tuple[EventModel, ...]

    @property
    def best(self) -> EventModel:
        """The model whose events separate best."""
        return self.models[int(np.nanargmax(self.scores))]


def choose_n_events(
    data: ArrayLike,
    candidates: Iterable[int],
    *,
    criterion: str = "t-distance",
    lag: int | None = None,
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
    criterion : {"t-distance", "within-across"}, default "t-distance"
        `t_distance`, or `within_across_difference` at ``lag``.
    lag : int, optional
        Volumes between the two of a pair, for "within-across"; about 5 s.
    split_merge : bool, default False
        As in `fit_events`.

    Returns
    -------
    EventChoice
        All models, with their scores.

    Raises
    ------
    OptionError
        If there is no candidate, one is too small or too large, or the criterion is not known or
        lacks its ``lag``.
    DataError
        If the data hold values that are not finite, or fewer than 3 volumes, or if no candidate can
        be scored.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> states = np.repeat(rng.standard_normal((4, 50)), [5, 9, 6, 8], axis=0)
    >>> choose_n_events(states + 0.5 * rng.standard_normal((28, 50)), range(2, 8)).best.n_events
    4
    """
    run = check_time_courses(data, "choose_n_events")
    numbers = tuple(int(number) for number in candidates)
    if not numbers:
        message = (
            "choose_n_events: candidates must name one number of events or more; got none. "
            "Give for example range(2, 20)."
        )
        raise OptionError(message)
    if criterion not in CRITERIA:
        raise OptionError(choice_message("choose_n_events", "criterion", criterion, CRITERIA))
    if criterion == "within-across" and lag is None:
        message = (
            "choose_n_events: criterion 'within-across' needs lag, the volumes between the two of "
            "a pair; got none. Give about 5 s in volumes."
        )
        raise OptionError(message)
    models = tuple(fit_events(run, number, split_merge=split_merge) for number in numbers)
    similarity = np.atleast_2d(np.corrcoef(run))
    scores = _score(similarity, models, lag if criterion == "within-across" else None)
    if np.isnan(scores).all():
        message = (
            "choose_n_events: at least one number of events must give pairs within and across "
            f"events at lag {lag}; got none of {list(numbers)}. Use a smaller lag or other numbers."
        )
        raise OptionError(message)
    return EventChoice(numbers, scores, models)


def _score(
    similarity: NDArray[np.float64], models: Sequence[EventModel], lag: int | None
) -> NDArray[np.float64]:
    """Score each model's boundaries on the similarity of volumes."""
    return np.array(
        [
            t_distance(similarity, model.boundaries)
            if lag is None
            else within_across_difference(similarity, model.boundaries, lag=lag)
            for model in models
        ]
    )

"""Events as runs of volumes alike, found by placing boundaries where they explain most.

Greedy state boundary search puts boundaries one or two at a time where the mean pattern of each
state comes to correlate best with the state's volumes. A volume's product with the sum of its
state's volumes, and that sum's length, are sums over blocks of volume-by-volume matrices. So a
table of the scores of all segments is a few cumulative sums away from those matrices, and no
search ever touches voxels again. On the same table dynamic programming finds the best placement of
all, which greedy search only approaches.

References
----------
Geerligs L., van Gerven M., Güçlü U. (2021). Detecting neural state transitions underlying event
segmentation. NeuroImage 236, 118085. doi:10.1016/j.neuroimage.2021.118085
Geerligs L. et al. (2022). A partially nested cortical hierarchy of neural states underlies event
segmentation in the human brain. eLife 11, e77430. doi:10.7554/eLife.77430
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.events.separation import check_run, t_distance
from imgtofmri.exceptions import OptionError
from imgtofmri.stats.scaling import centred, unit_length

__all__ = ["StateSearch", "greedy_states", "optimal_states"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class StateSearch:
    """What a greedy search for state boundaries found.

    Attributes
    ----------
    steps : tuple of array of shape (n_boundaries,), int
        The boundaries after each step: the volumes at which a new state begins, the start left out.
    t_distances : array of shape (n_steps,)
        How well each step's states separate (`t_distance`).
    """

    steps: tuple[Indices, ...]
    t_distances: Array

    @property
    def boundaries(self) -> Indices:
        """The boundaries of the step whose states separate best."""
        return self.steps[int(np.argmax(self.t_distances))]

    @property
    def n_events(self) -> int:
        """Number of states between the best step's boundaries."""
        return len(self.boundaries) + 1


def greedy_states(
    data: ArrayLike,
    max_events: int | None = None,
    *,
    statewise: bool = True,
    finetune: int = 1,
) -> StateSearch:
    """Place boundaries greedily, and choose their number by t-distance.

    Parameters
    ----------
    data : array of shape (n_timepoints, n_voxels)
        One run; for several subjects, their mean.
    max_events : int, optional
        Stop at this many events (or one more, where the last step adds two boundaries). Default:
        half the number of volumes.
    statewise : bool, default True
        Also consider cutting a new state out of an old one, which takes two boundaries at once, and
        take it where t-distance says so (2022). False adds one boundary at each step (2021).
    finetune : int, default 1
        After each step every boundary may move by up to this many volumes, weakest first. 0: none
        may.

    Returns
    -------
    StateSearch
        Boundaries and t-distance after each step.

    Raises
    ------
    DataError
        If the data hold values that are not finite, or fewer than 3 volumes.
    OptionError
        If ``max_events`` is not between 2 and the number of volumes, or ``finetune`` is negative.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> states = np.repeat(rng.standard_normal((3, 50)), [5, 9, 6], axis=0)
    >>> greedy_states(states + 0.1 * rng.standard_normal((20, 50))).boundaries
    array([ 5, 14])
    """
    run = check_run(data)
    n_timepoints = len(run)
    limit = n_timepoints // 2 if max_events is None else max_events
    limit = max(limit, 2) if max_events is None else limit
    _check_n_events("max_events", limit, n_timepoints)
    if finetune < 0:
        message = f"finetune must be 0 or more; got {finetune}. Leave it at 1."
        raise OptionError(message)
    table = _ScoreTable(run)
    bounds: list[int] = []
    steps: list[Indices] = []
    distances: list[float] = []
    while len(bounds) + 1 < limit:
        options = [table.best_single(bounds)]
        if statewise:
            options.append(table.best_pair(bounds))
        tried = [sorted([*bounds, *added]) for added in options if added]
        if not tried:
            break
        bounds = max(tried, key=lambda edges: t_distance(table.correlation, edges))
        bounds = table.finetune(bounds, finetune)
        distances.append(t_distance(table.correlation, bounds))
        steps.append(np.array(bounds, dtype=np.intp))
    return StateSearch(tuple(steps), np.array(distances))


def optimal_states(data: ArrayLike, n_events: int, *, min_length: int = 1) -> Indices:
    """Place a given number of boundaries as well as they can be placed.

    The score is greedy search's (the mean correlation of volumes with their state's mean pattern);
    dynamic programming finds its maximum over all placements.

    Parameters
    ----------
    data : array of shape (n_timepoints, n_voxels)
        One run; for several subjects, their mean.
    n_events : int
        Number of states.
    min_length : int, default 1
        Volumes in a state, at least. A volume correlates perfectly with the mean of itself alone,
        so in noisy data the score favours states of one volume; 3 or more keep them out.

    Returns
    -------
    boundaries : array of int, shape (n_events - 1,)
        The volumes at which a new state begins; the start is not one of them.

    Raises
    ------
    DataError
        If the data hold values that are not finite, or fewer than 3 volumes.
    OptionError
        If ``n_events`` is not between 2 and the number of volumes, or so many states of
        ``min_length`` do not fit into the run.

    Notes
    -----
    Time and memory grow with the square of the number of volumes.
    """
    run = check_run(data)
    n_timepoints = len(run)
    _check_n_events("n_events", n_events, n_timepoints)
    if min_length < 1 or n_events * min_length > n_timepoints:
        message = (
            f"{n_events} states of min_length {min_length}, 1 or more, must fit "
            f"into the run; got {n_timepoints} volumes. Ask for fewer or shorter states."
        )
        raise OptionError(message)
    scores = _ScoreTable(run).scores
    scores[np.tril_indices(n_timepoints + 1, k=min_length - 1)] = -np.inf
    # reached[b]: the best score of volumes before b in the states so far.
    reached = scores[0].copy()
    reached[0] = -np.inf
    origins: list[Indices] = []
    for _ in range(n_events - 1):
        total = reached[:, None] + scores
        origin = np.argmax(total, axis=0)
        reached = np.take_along_axis(total, origin[None], axis=0)[0]
        origins.append(origin)
    bounds = [n_timepoints]
    for origin in reversed(origins):
        bounds.append(int(origin[bounds[-1]]))
    return np.array(bounds[:0:-1], dtype=np.intp)


def _check_n_events(name: str, n_events: int, n_timepoints: int) -> None:
    """Refuse a number of events that the volumes cannot hold."""
    if not 2 <= n_events <= n_timepoints:
        message = (
            f"{name} must be between 2 and the number of volumes, {n_timepoints}; "
            f"got {n_events}. Ask for fewer events."
        )
        raise OptionError(message)


def _cumulative(matrix: Array) -> Array:
    """Return sums over all leading blocks, with a row and a column of zeros before them."""
    sums = np.zeros((len(matrix) + 1, len(matrix) + 1))
    sums[1:, 1:] = matrix.cumsum(axis=0).cumsum(axis=1)
    return sums


def _blocks(sums: Array) -> Array:
    """Return the sum over the diagonal block from volume i to before volume j, of all pairs."""
    corner = np.diagonal(sums)
    result: Array = corner[None, :] - sums - sums.T + corner[:, None]
    return result


@dataclass(eq=False)
class _ScoreTable:
    """Scores of all segments of one run, and the searches that only need those."""

    run: Array
    correlation: Array = field(init=False)
    sums: Array = field(init=False)
    scores: Array = field(init=False)

    def __post_init__(self) -> None:
        """Compute the correlation of all pairs of volumes and the score of all segments."""
        rows = centred(self.run)
        unit = unit_length(rows)
        self.correlation = unit @ unit.T
        self.sums = _cumulative(rows @ rows.T)
        squares = np.maximum(_blocks(self.sums), 0.0)
        length = np.sqrt(squares)
        self.scores = _blocks(_cumulative(unit @ rows.T))
        np.divide(self.scores, length, out=self.scores, where=length > 0)
        self.scores[np.tril_indices(len(rows) + 1)] = -np.inf
        self._pairs: dict[tuple[int, int], tuple[float, int, int]] = {}

    def edges(self, bounds: list[int]) -> list[int]:
        """Return the boundaries with the start and the end."""
        return [0, *bounds, len(self.run)]

    def best_single(self, bounds: list[int]) -> list[int]:
        """Return where one more boundary gains most; empty where there is no room."""
        edges = np.array(self.edges(bounds))
        places = np.arange(1, len(self.run))
        after = np.searchsorted(edges, places, side="right")
        start, stop = edges[after - 1], edges[after]
        free = start != places
        places, start, stop = places[free], start[free], stop[free]
        if not len(places):
            return []
        gain = self.scores[start, places] + self.scores[places, stop] - self.scores[start, stop]
        return [int(places[np.argmax(gain)])]

    def best_pair(self, bounds: list[int]) -> list[int]:
        """Return where cutting a new state out of one old state gains most; empty without room."""
        edges = self.edges(bounds)
        found = [
            self._best_pair_in(start, stop)
            for start, stop in itertools.pairwise(edges)
            if stop - start >= 3
        ]
        if not found:
            return []
        _, first, second = max(found)
        return [first, second]

    def _best_pair_in(self, start: int, stop: int) -> tuple[float, int, int]:
        """Return the gain and place of the best two boundaries inside one state."""
        key = (start, stop)
        if key not in self._pairs:
            inner = slice(start + 1, stop)
            total = self.scores[inner, inner] + self.scores[start, inner][:, None]
            total += self.scores[inner, stop]
            place = int(np.argmax(total))
            first, second = divmod(place, stop - start - 1)
            gain = float(total.flat[place] - self.scores[start, stop])
            self._pairs[key] = (gain, start + 1 + first, start + 1 + second)
        return self._pairs[key]

    def strengths(self, bounds: list[int]) -> Array:
        """Return 1 minus the correlation of the mean patterns on both sides of each boundary."""
        edges = np.array(self.edges(bounds))
        start, middle, stop = edges[:-2], edges[1:-1], edges[2:]
        sums = self.sums
        across = sums[middle, stop] - sums[start, stop] - sums[middle, middle] + sums[start, middle]
        corner = np.diagonal(sums)
        left = corner[middle] - 2 * sums[start, middle] + corner[start]
        right = corner[stop] - 2 * sums[middle, stop] + corner[middle]
        norms = np.sqrt(np.maximum(left * right, 0.0))
        result: Array = 1.0 - np.divide(across, norms, out=np.zeros_like(across), where=norms > 0)
        return result

    def finetune(self, bounds: list[int], reach: int) -> list[int]:
        """Move each boundary, weakest first, to the best place within reach."""
        if reach == 0:
            return bounds
        edges = self.edges(bounds)
        for which in np.argsort(self.strengths(bounds), kind="stable") + 1:
            before, now, after = edges[which - 1 : which + 2]
            places = np.arange(max(before + 1, now - reach), min(after, now + reach + 1))
            score = self.scores[before, places] + self.scores[places, after]
            edges[which] = int(places[np.argmax(score)])
        return edges[1:-1]

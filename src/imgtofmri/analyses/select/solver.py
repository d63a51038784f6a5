"""Choose sets that score highest, disjoint and matched: exactly, or by exchanges for pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError

#: A choice is good enough when no choice can score better by more than this share.
RELATIVE_GAP = 0.01

#: Branch and bound stops at this share of the score ...
STOP_GAP = 2e-3

#: ... or after this many nodes; the best choice found so far then stands.
MAX_NODES = 100

#: Exchange searches start this often from random sets.
N_STARTS = 8


def choose_by_scores(
    scores: NDArray[np.float64],
    n_per_set: int,
    properties: NDArray[np.float64],
    tolerance: float,
) -> list[NDArray[np.intp]]:
    """Choose disjoint sets of the highest total score whose properties match the pool's.

    This is an integer programme: one 0/1 variable for each set and stimulus. Its relaxation to
    fractions, a linear programme, bounds what any choice can score, and says of each stimulus how
    much choosing it costs at least. Branch and bound (HiGHS) then searches among the stimuli that
    cost less than `RELATIVE_GAP` of the score, and among all if that leaves a larger gap to the
    bound.

    Parameters
    ----------
    scores : array of shape (n_sets, n_stimuli)
        What each stimulus is worth in each set.
    n_per_set : int
    properties : array of shape (n_stimuli, n_properties)
        Z-scored over the pool; no columns means no matching.
    tolerance : float
        How far the mean of a set may lie from the pool's, in standard deviations of the pool.

    Returns
    -------
    sets : list of n_sets arrays of shape (n_per_set,)
        Positions in the pool, best first.

    Raises
    ------
    DataError
        If no choice can be matched.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, hstack, kron, vstack

    n_sets, n_stimuli = scores.shape
    each = eye_array(n_sets)
    # Any: scipy's stubs know no sparse constraints for linprog.
    count: Any = csr_array(kron(each, np.ones((1, n_stimuli))))
    once = hstack([eye_array(n_stimuli)] * n_sets)
    sums = kron(each, csr_array(properties.T))
    limits = np.ones(n_stimuli), np.full(2 * sums.shape[0], tolerance * n_per_set)
    above: Any = csr_array(vstack([once, sums, -sums]))
    relaxed = linprog(
        -scores.ravel(),
        A_ub=above,
        b_ub=np.concatenate(limits),
        A_eq=count,
        b_eq=np.full(n_sets, n_per_set),
        bounds=(0, 1),
        method="highs",
    )
    chosen = None
    if relaxed.x is not None:
        bound = float(scores.ravel() @ relaxed.x)
        slack = RELATIVE_GAP * abs(bound)
        cheap = relaxed.lower.marginals <= slack
        programme = _Programme(scores.ravel(), count, above, np.concatenate(limits), n_per_set)
        chosen = programme.solve(cheap)
        if chosen is None or bound - scores.ravel() @ chosen > slack:
            full = programme.solve(np.ones(scores.size, dtype=bool))
            found = [one for one in (chosen, full) if one is not None]
            chosen = max(found, key=lambda one: float(scores.ravel() @ one), default=None)
    if chosen is None:
        message = (
            f"no {n_sets} sets of {n_per_set} out of {n_stimuli} images match the pool "
            f"within {tolerance:g} standard deviations on every property asked for. Raise the "
            "`tolerance`, ask for fewer images or give a larger pool."
        )
        raise DataError(message)
    sets = chosen.reshape(n_sets, n_stimuli)
    return [
        members[np.argsort(-row[members], kind="stable")]
        for row, members in zip(scores, map(np.flatnonzero, sets), strict=True)
    ]


@dataclass(frozen=True)
class _Programme:
    """The integer programme behind `choose_by_scores`."""

    values: NDArray[np.float64]
    count: Any
    above: Any
    limits: NDArray[np.float64]
    n_per_set: int

    def solve(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """Choose among some variables; None if no choice was found."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        columns = np.flatnonzero(allowed)
        solution = milp(
            -self.values[columns],
            integrality=np.ones(columns.size, dtype=np.int64),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(self.count[:, columns], self.n_per_set, self.n_per_set),
                LinearConstraint(self.above[:, columns], -np.inf, self.limits),
            ],
            options={"mip_rel_gap": STOP_GAP, "node_limit": MAX_NODES},
        )
        if solution.x is None:
            return None
        chosen = np.zeros(allowed.size, dtype=bool)
        chosen[columns] = solution.x > 0.5
        return chosen


def choose_by_pairs(
    affinities: NDArray[np.float64],
    n_per_set: int,
    free: NDArray[np.bool_],
    properties: NDArray[np.float64],
    tolerance: float,
    seed: int | None,
) -> NDArray[np.intp]:
    """Choose one set whose pairs have the highest mean affinity.

    Which set of pairs is best is a hard problem; exchanges of one stimulus at a time climb to a
    set that none of them improves, from several random starts, and the best end is kept.

    Parameters
    ----------
    affinities : array of shape (n_stimuli, n_stimuli), symmetric, diagonal 0
    n_per_set : int
    free : array of shape (n_stimuli,), bool
        Stimuli that may be chosen.
    properties : array of shape (n_stimuli, n_properties)
    tolerance : float
        As in `choose_by_scores`.
    seed : int or None
        Of the starts.

    Returns
    -------
    members : array of shape (n_per_set,)
        Positions in the pool, those with the highest mean affinity to the rest first.

    Raises
    ------
    DataError
        If no end of a search is matched.
    """
    rng = np.random.default_rng(seed)
    candidates = np.flatnonzero(free)
    scale = float(np.abs(affinities).max()) or 1.0
    best, best_value = None, -np.inf
    for _ in range(N_STARTS):
        start = rng.choice(candidates, n_per_set, replace=False)
        members = _climb(affinities, start, free, properties, tolerance, scale)
        excess = _excess(properties[members].mean(axis=0), tolerance)
        value = affinities[np.ix_(members, members)].sum()
        if excess <= 1e-9 and value > best_value + 1e-9 * scale:
            best, best_value = members, value
    if best is None:
        message = (
            f"no set of {n_per_set} out of {candidates.size} images was found that matches "
            f"the pool within {tolerance:g} standard deviations on every property asked for. Raise "
            "the tolerance, ask for fewer images or give a larger pool."
        )
        raise DataError(message)
    return best[np.argsort(-affinities[np.ix_(best, best)].sum(axis=1), kind="stable")]


def _climb(
    affinities: NDArray[np.float64],
    start: NDArray[np.intp],
    free: NDArray[np.bool_],
    properties: NDArray[np.float64],
    tolerance: float,
    scale: float,
) -> NDArray[np.intp]:
    """Make the best exchange until none improves; being unmatched outweighs any affinity."""
    inside = np.zeros(len(affinities), dtype=bool)
    inside[start] = True
    n_members = len(start)
    penalty = 10.0 * scale * n_members**2
    while True:
        members, others = np.flatnonzero(inside), np.flatnonzero(free & ~inside)
        if not others.size:
            return members
        pull = affinities[members].sum(axis=0)
        # Each pair stands twice in the matrix, so an exchange changes the sum by twice this.
        gain = 2 * (pull[others] - pull[members, None] - affinities[np.ix_(members, others)])
        if properties.shape[1]:
            mean = properties[members].mean(axis=0)
            moved = mean + (properties[others] - properties[members][:, None]) / n_members
            gain = gain - penalty * (_excess(moved, tolerance) - _excess(mean, tolerance))
        leave, enter = np.unravel_index(np.argmax(gain), gain.shape)
        if gain[leave, enter] <= 1e-9 * scale:
            return members
        inside[members[leave]], inside[others[enter]] = False, True


def _excess(means: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Sum over properties what lies beyond the tolerance."""
    return np.asarray(np.maximum(np.abs(means) - tolerance, 0.0).sum(axis=-1))


def random_sets(
    n_stimuli: int, n_per_set: int, n_sets: int, seed: int | Sequence[int] | None
) -> NDArray[np.intp]:
    """Draw sets without replacement, shape (n_sets, n_per_set)."""
    keys = np.random.default_rng(seed).random((n_sets, n_stimuli))
    return np.argpartition(keys, n_per_set - 1, axis=1)[:, :n_per_set]

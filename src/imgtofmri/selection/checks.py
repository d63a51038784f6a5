"""Choose the sets that are asked for, and ask again without each subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.selection.goals import Goal, RoiResponses, standardised
from imgtofmri.selection.solver import choose_by_pairs, choose_by_scores, random_sets

if TYPE_CHECKING:
    import pandas as pd

#: The name of the set to compare with.
REFERENCE = "reference"


@dataclass(frozen=True)
class Request:
    """What is asked for, so that it can be asked again on parts of the data."""

    goals: tuple[Goal, ...]
    n_per_set: int
    properties: NDArray[np.float64]
    tolerance: float
    reference: bool
    n_random: int
    seed: int | None


def choose_sets(
    responses: RoiResponses,
    request: Request,
    subjects: Sequence[int],
    pool: NDArray[np.intp],
) -> dict[str, NDArray[np.intp]]:
    """Choose all sets on some subjects and from some stimuli; positions in the whole pool."""
    properties = standardised(request.properties[pool].T).T
    by_scores = [goal for goal in request.goals if goal.kind != "alike"]
    found: dict[str, NDArray[np.intp]] = {}
    free = np.ones(len(pool), dtype=bool)
    if by_scores:
        scores = np.stack([responses.scores(goal, subjects, pool) for goal in by_scores])
        sets = choose_by_scores(scores, request.n_per_set, properties, request.tolerance)
        for goal, members in zip(by_scores, sets, strict=True):
            found[goal.name] = members
            free[members] = False
    for goal in request.goals:
        if goal.kind == "alike":
            affinities = responses.affinities(goal, subjects, pool)
            members = choose_by_pairs(
                affinities, request.n_per_set, free, properties, request.tolerance, request.seed
            )
            found[goal.name] = members
            free[members] = False
    ordered = {goal.name: pool[found[goal.name]] for goal in request.goals}
    if request.reference:
        # Random scores make the best matched set a random one.
        rest = np.flatnonzero(free)
        scores = np.random.default_rng(request.seed).random((1, rest.size))
        (members,) = choose_by_scores(
            scores, request.n_per_set, properties[rest], request.tolerance
        )
        ordered[REFERENCE] = pool[rest[members]]
    return ordered


def check_sets(
    responses: RoiResponses, request: Request, chosen: dict[str, NDArray[np.intp]]
) -> pd.DataFrame:
    """Make the table of checks; the reference set is none of a goal's and has no row."""
    import pandas as pd

    n_stimuli, n_subjects = len(responses.names), len(responses.subject_names)
    everything = np.arange(n_stimuli)
    # Streams of their own, so that no check shares its draws with another.
    streams = np.random.SeedSequence(request.seed).spawn(1 + 3 * n_subjects)
    shuffled = np.random.default_rng(streams[0]).permutation(n_stimuli)
    first, second = np.sort(shuffled[: n_stimuli // 2]), np.sort(shuffled[n_stimuli // 2 :])
    rows = []
    for goal in request.goals:
        effect, _ = _effect(
            responses, goal, range(n_subjects), chosen[goal.name], everything, everything, None
        )
        rows.append((goal.name, "in-sample", "all", "all", effect, np.nan))
    plans = (
        ("other subject", everything, everything),
        ("other subject, half 1", first, second),
        ("other subject, half 2", second, first),
    )
    # The reference is chosen last and changes no other set.
    alone = replace(request, reference=False)
    for number, (check, pool, measured_against) in enumerate(plans):
        for held_out in range(n_subjects):
            others = [subject for subject in range(n_subjects) if subject != held_out]
            sets = choose_sets(responses, alone, others, pool)
            stream = streams[1 + number * n_subjects + held_out]
            draws = random_sets(
                len(pool), request.n_per_set, request.n_random, stream.generate_state(4).tolist()
            )
            for goal in request.goals:
                effect, p = _effect(
                    responses,
                    goal,
                    [held_out],
                    sets[goal.name],
                    pool,
                    measured_against,
                    pool[draws],
                )
                tested_on = responses.subject_names[held_out]
                selected_on = " and ".join(responses.subject_names[other] for other in others)
                rows.append((goal.name, check, selected_on, tested_on, effect, p))
    columns = ["set", "check", "selected_on", "tested_on", "effect", "p"]
    return pd.DataFrame(rows, columns=columns)


def _effect(
    responses: RoiResponses,
    goal: Goal,
    subjects: Sequence[int],
    members: NDArray[np.intp],
    pool: NDArray[np.intp],
    measured_against: NDArray[np.intp],
    draws: NDArray[np.intp] | None,
) -> tuple[float, float]:
    """Return how well a set does its job on some subjects, and p among random sets of its pool."""
    everything = np.union1d(pool, measured_against)
    position = np.searchsorted(everything, members)
    places = np.searchsorted(everything, measured_against)
    if goal.kind == "alike":
        values = responses.affinities(goal, subjects, everything)
        n_pairs = len(members) * (len(members) - 1)
        observed = values[np.ix_(position, position)].sum() / n_pairs
        # The mean over all pairs is the mean over all random sets.
        baseline = values[np.ix_(places, places)].sum() / (len(places) * (len(places) - 1))
        scale = 1.0
    else:
        values = responses.scores(goal, subjects, everything)
        observed = values[position].mean()
        baseline, scale = values[places].mean(), values[places].std()
    effect = float((observed - baseline) / scale)
    if draws is None:
        return effect, float("nan")
    drawn = np.searchsorted(everything, draws)
    if goal.kind == "alike":
        null = np.array([values[np.ix_(one, one)].sum() for one in drawn]) / n_pairs
    else:
        null = values[drawn].mean(axis=1)
    reached = np.count_nonzero(null >= observed - 1e-12 * max(1.0, abs(observed)))
    return effect, float((reached + 1) / (len(null) + 1))

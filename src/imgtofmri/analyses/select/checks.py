"""Choose the sets that are asked for, and ask again without each subject."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.select.goals import Goal, RoiResponses, standardised
from imgtofmri.analyses.select.solver import choose_by_pairs, choose_by_scores, random_sets
from imgtofmri.encoder.controls import ENCODER
from imgtofmri.stats import permutation_p, permutations

if TYPE_CHECKING:
    import pandas as pd

#: The name of the set to compare with.
REFERENCE = "reference"


@dataclass(frozen=True)
class Request:
    """What is asked for, so that it can be asked again on parts of the data.

    Parameters
    ----------
    goals : tuple of Goal
    n_per_set : int
        Stimuli in each set.
    match : tuple of str
        The properties that sets are matched on.
    properties : array of shape (n_stimuli, n_match)
        What they are, z-scored over the pool.
    tolerance : float
        Of matching, in standard deviations of the pool.
    reference : bool
        Whether there is a random set, too.
    n_random : int
        Random sets behind each p.
    seed : int or None
    """

    goals: tuple[Goal, ...]
    n_per_set: int
    match: tuple[str, ...]
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


@dataclass(frozen=True)
class Judges:
    """What else says how well sets do, though it took no part in the choice.

    Parameters
    ----------
    responses : mapping of str to RoiResponses
        Other predictions of the same stimuli for the same subjects, such as an untrained network's.
    properties : mapping of str to array of shape (n_stimuli,)
        What is measured on the images themselves, such as luminance.
    """

    responses: Mapping[str, RoiResponses]
    properties: Mapping[str, NDArray[np.float64]]


def check_sets(
    responses: RoiResponses,
    request: Request,
    chosen: dict[str, NDArray[np.intp]],
    judges: Judges,
) -> pd.DataFrame:
    """Make the table of checks; the reference set is none of a goal's and has no row."""
    import pandas as pd

    n_stimuli, n_subjects = len(responses.names), len(responses.subject_names)
    everything = np.arange(n_stimuli)
    # Streams of their own, so that no check shares its draws with another.
    streams = np.random.SeedSequence(request.seed).spawn(1 + 3 * n_subjects)
    shuffled = np.random.default_rng(streams[0]).permutation(n_stimuli)
    first, second = np.sort(shuffled[: n_stimuli // 2]), np.sort(shuffled[n_stimuli // 2 :])
    models = {ENCODER: responses, **judges.responses}
    rows: list[tuple[object, ...]] = []

    def judge(
        sets: dict[str, NDArray[np.intp]],
        pools: tuple[NDArray[np.intp], NDArray[np.intp]],
        subjects: Sequence[int],
        labels: tuple[str, str, str],
        draws: NDArray[np.intp] | None,
    ) -> None:
        check, selected_on, tested_on = labels
        for goal in request.goals:
            members = sets[goal.name]
            for model, own in models.items():
                effect, p = _effect(own, goal, subjects, members, *pools, draws)
                rows.append((model, goal.name, check, selected_on, tested_on, effect, p))
            for name, values in judges.properties.items():
                effect, p = _property_effect(values, members, *pools, draws)
                rows.append((name, goal.name, check, selected_on, "images", effect, p))

    whole = (everything, everything)
    judge(chosen, whole, range(n_subjects), ("in-sample", "all", "all"), None)
    for one, other in itertools.combinations([goal.name for goal in request.goals], 2):
        for name, values in judges.properties.items():
            effect, p = _property_difference(
                values, chosen[one], chosen[other], request.n_random, request.seed
            )
            rows.append((name, f"{one} - {other}", "in-sample", "all", "images", effect, p))
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
            tested_on = responses.subject_names[held_out]
            selected_on = " and ".join(responses.subject_names[other] for other in others)
            labels = (check, selected_on, tested_on)
            judge(sets, (pool, measured_against), [held_out], labels, pool[draws])
    columns = ["model", "set", "check", "selected_on", "tested_on", "effect", "p"]
    return pd.DataFrame(rows, columns=columns)


def _property_difference(
    values: NDArray[np.float64],
    one: NDArray[np.intp],
    other: NDArray[np.intp],
    n_permutations: int,
    seed: int | None,
) -> tuple[float, float]:
    """Return how far apart two sets' mean properties are, and two-sided p by exchanged images."""
    if np.ptp(values) == 0:
        return float("nan"), float("nan")
    both = values[np.concatenate([one, other])]
    # Adding up to 0, the signs take one set's mean from the other's.
    signs = np.concatenate([np.full(len(one), 1 / len(one)), np.full(len(other), -1 / len(other))])
    difference = float(signs @ both)
    null = np.concatenate(
        [both[orders] @ signs for orders in permutations(len(both), n_permutations, seed)]
    )
    p = permutation_p(difference, null, "two-sided")
    return difference / float(values.std()), float(p)


def _property_effect(
    values: NDArray[np.float64],
    members: NDArray[np.intp],
    pool: NDArray[np.intp],
    measured_against: NDArray[np.intp],
    draws: NDArray[np.intp] | None,
) -> tuple[float, float]:
    """Return how far a set's mean property is from a pool's, and two-sided p among random sets."""
    base = values[measured_against]
    if np.ptp(base) == 0:
        return float("nan"), float("nan")
    effect = float((values[members].mean() - base.mean()) / base.std())
    if draws is None:
        return effect, float("nan")
    centre = values[pool].mean()
    null = values[draws].mean(axis=1) - centre
    return effect, float(permutation_p(values[members].mean() - centre, null, "two-sided"))


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
    return effect, float(permutation_p(observed, null))

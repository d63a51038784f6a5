"""Greedy and optimal state boundaries, against the authors' package, loops and planted states."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from imgtofmri.events import (
    check_boundaries,
    event_labels,
    greedy_states,
    optimal_states,
    t_distance,
)
from imgtofmri.exceptions import DataError, OptionError, ShapeError


def planted(seed: int, lengths: list[int], n_voxels: int, noise: float) -> NDArray[np.float64]:
    """Return a run of stable states with noise."""
    rng = np.random.default_rng(seed)
    patterns = rng.standard_normal((len(lengths), n_voxels))
    run = np.repeat(patterns, lengths, axis=0)
    return run + noise * rng.standard_normal(run.shape)


A = (0, [6, 9, 4, 11], 20, 1.0)
B = (1, [10, 10, 10], 12, 2.0)
C = (5, [8, 5, 12, 7, 9, 4, 10, 6], 25, 1.5)
# statesegmentation 0.0.6, GSBS(kmax=12, x=planted(...)): statewise, finetune, best t-distance,
# boundaries of the best number of states and of one other step.
GSBS = [
    (A, False, 1, 22.15131527980245, [6, 15, 19], [4, 5, 6, 10, 15, 19, 23]),
    (A, True, 1, 22.15131527980245, [6, 15, 19], [4, 5, 6, 10, 12, 13, 15, 19]),
    (B, False, 1, 8.243761592506901, [1, 9, 18, 20], [1, 3, 6, 10, 16, 18, 20]),
    (
        B,
        True,
        0,
        9.576339145663024,
        [1, 2, 3, 4, 6, 10, 13, 14, 16, 20],
        [1, 6, 10, 13, 14, 16, 20],
    ),
    (
        B,
        True,
        1,
        9.273044011740897,
        [1, 2, 3, 4, 6, 8, 10, 13, 14, 16, 20],
        [1, 6, 8, 10, 13, 14, 16, 20],
    ),
    (C, False, 1, 19.057197881883393, [8, 12, 25, 32, 41, 45, 55], [8, 12, 25, 32, 41, 45, 55]),
    (C, True, 1, 19.057197881883393, [8, 12, 25, 32, 41, 45, 55], [8, 12, 25, 32, 41, 45, 55]),
]


@pytest.mark.parametrize("case", GSBS)
def test_greedy_states_equals_the_authors_package(case: tuple) -> None:
    """Boundaries, their number and t-distance are those of the method's authors' package."""
    arguments, statewise, finetune, distance, best, other = case
    found = greedy_states(planted(*arguments), 12, statewise=statewise, finetune=finetune)
    assert found.boundaries.tolist() == best
    assert found.n_events == len(best) + 1
    assert found.t_distances.max() == pytest.approx(distance, abs=1e-9)
    assert other in [step.tolist() for step in found.steps]


@pytest.mark.parametrize("lengths", [[12, 14, 18, 12, 15], [10] * 14, [3, 40, 4, 3, 30, 6]])
def test_states_finds_planted_states(lengths: list[int]) -> None:
    """At a high ratio of signal to noise all planted boundaries are found, even and uneven."""
    data = planted(3, lengths, 200, 0.3)
    bounds = np.cumsum(lengths)[:-1].tolist()
    assert greedy_states(data, 30).boundaries.tolist() == bounds
    assert optimal_states(data, len(lengths)).tolist() == bounds


def score(data: NDArray[np.float64], bounds: list[int]) -> float:
    """Return the mean correlation of volumes with their state's mean pattern, by a loop."""
    values = []
    for start, stop in itertools.pairwise([0, *bounds, len(data)]):
        mean = data[start:stop].mean(axis=0)
        values += [np.corrcoef(volume, mean)[0, 1] for volume in data[start:stop]]
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(3))
def test_optimal_states_beats_every_other_placement(seed: int) -> None:
    """Of all placements of three boundaries, each scored by a loop, it returns the best."""
    data = planted(seed, [3, 4, 2, 3], 8, 1.5)
    every = itertools.combinations(range(1, len(data)), 3)
    best = max(every, key=lambda bounds: score(data, list(bounds)))
    assert optimal_states(data, 4).tolist() == list(best)


def test_optimal_states_of_a_minimal_length_beats_every_other_of_that_length() -> None:
    """With a minimal length it returns the best of the placements that keep to it."""
    data = planted(4, [3, 4, 2, 3], 8, 2.0)
    every = [
        list(bounds)
        for bounds in itertools.combinations(range(1, len(data)), 2)
        if np.diff([0, *bounds, len(data)]).min() >= 3
    ]
    best = max(every, key=lambda bounds: score(data, bounds))
    assert optimal_states(data, 3, min_length=3).tolist() == best
    with pytest.raises(OptionError, match="5 states of min_length 3, .* got 12 volumes"):
        optimal_states(data, 5, min_length=3)


def test_greedy_states_first_step_is_the_best_single_boundary() -> None:
    """The first boundary is the one that a loop over all volumes scores highest."""
    data = planted(2, [7, 5, 9], 10, 1.0)
    best = max(range(1, len(data)), key=lambda bound: score(data, [bound]))
    found = greedy_states(data, 2, statewise=False, finetune=0)
    assert found.steps[0].tolist() == [best]


def test_optimal_states_never_scores_below_greedy() -> None:
    """Dynamic programming scores at least as high as greedy search with as many boundaries."""
    data = planted(*B)
    for step in greedy_states(data, 10, statewise=False).steps:
        optimal = optimal_states(data, len(step) + 1)
        assert score(data, optimal.tolist()) >= score(data, step.tolist()) - 1e-12


def test_greedy_states_does_not_depend_on_units() -> None:
    """Scaling the data and adding a constant to each volume change no boundary."""
    data = planted(*C)
    shifted = 1000.0 * data + np.arange(len(data))[:, None]
    for one, other in zip(greedy_states(data).steps, greedy_states(shifted).steps, strict=True):
        np.testing.assert_array_equal(one, other)


def test_greedy_states_blank_volumes_take_no_boundary_from_others() -> None:
    """Volumes of zeros add nothing to any score: with three before it a run has its boundaries.

    Those among the blank volumes come when all others are taken.
    """
    data = planted(4, [3, 5, 4], 20, 0.5)
    padded = np.vstack([np.zeros((3, 20)), data])
    alone = greedy_states(data, len(data), statewise=False).steps
    found = greedy_states(padded, len(padded), statewise=False).steps
    assert len(found) == len(padded) - 1
    for one, other in zip(alone, found, strict=False):
        assert (one + 3).tolist() == other.tolist()


def test_t_distance_equals_scipy(rng: np.random.Generator) -> None:
    """It is SciPy's Welch test of pairs within events against pairs in neighbouring events."""
    similarity = np.corrcoef(rng.standard_normal((12, 30)))
    labels = [0] * 3 + [1] * 5 + [2] * 4
    within, across = [], []
    for one, other in itertools.combinations(range(12), 2):
        apart = labels[other] - labels[one]
        within += [similarity[one, other]] if apart == 0 else []
        across += [similarity[one, other]] if apart == 1 else []
    expected = stats.ttest_ind(within, across, equal_var=False).statistic
    assert t_distance(similarity, [3, 8]) == pytest.approx(expected, abs=1e-12)


def test_t_distance_without_pairs_is_zero() -> None:
    """One volume an event leaves no pair within, which separates nothing."""
    assert t_distance(np.eye(4), [1, 2, 3]) == 0.0


@pytest.mark.parametrize("across", [0.0, 1.0, 2.0])
def test_t_distance_of_pairs_that_do_not_vary_is_the_limit(across: float) -> None:
    """Pairs all alike within events and all alike across them differ without end, or not at all."""
    similarity = np.full((5, 5), across)
    similarity[:2, :2] = similarity[2:, 2:] = 1.0
    expected = {0.0: np.inf, 1.0: 0.0, 2.0: -np.inf}[across]
    assert t_distance(similarity, [2]) == expected


def test_greedy_states_of_a_run_without_noise_are_its_states() -> None:
    """States that are perfectly separate are the best number of states, not the worst."""
    one, other = [1.0, -1, 0, 0], [0.0, 0, 1, -1]
    found = greedy_states(np.repeat([one, other, one], [4, 5, 6], axis=0))
    assert found.boundaries.tolist() == [4, 9]


@pytest.mark.parametrize(
    ("boundaries", "error", "match"),
    [
        ([0, 5], DataError, r"between 1 and 19.*no boundary\); got \[0\]"),
        ([5, 20], DataError, r"got \[20\]"),
        ([-1, 5], DataError, r"got \[-1\]"),
        ([5, 9, 9], DataError, r"once each; got \[9\] twice"),
        ([9, 5], DataError, "increasing order; got 5 after 9"),
        ([], DataError, "one volume or more; got none"),
        ([2.5], DataError, r"whole numbers.*got \[2.5\]"),
        (["a"], DataError, "whole numbers"),
        ([[1, 2]], ShapeError, r"one list of volumes.*\(1, 2\)"),
    ],
)
def test_check_boundaries_bad_lists_are_named(
    boundaries: list, error: type[Exception], match: str
) -> None:
    """Boundaries out of range, out of order, repeated or of a wrong kind each have an error."""
    with pytest.raises(error, match=match):
        check_boundaries(boundaries, 20)


def test_event_labels_change_at_boundaries() -> None:
    """The first volume of an event carries its number."""
    assert event_labels([2, 3], 5).tolist() == [0, 0, 1, 2, 2]


def test_separation_bad_similarity_is_named() -> None:
    """A similarity that is not square or not finite has an error."""
    with pytest.raises(ShapeError, match=r"got \(3, 4\)"):
        t_distance(np.ones((3, 4)), [1])
    with pytest.raises(DataError, match="16 values that are NaN"):
        t_distance(np.full((4, 4), np.nan), [1])


def test_states_bad_options_are_named() -> None:
    """Numbers of events and other options out of range each have an error."""
    data = planted(*A)
    with pytest.raises(OptionError, match="max_events must be between 2 .* 30; got 31"):
        greedy_states(data, 31)
    with pytest.raises(OptionError, match="finetune must be 0 or more; got -1"):
        greedy_states(data, 4, finetune=-1)
    with pytest.raises(OptionError, match="n_events must be between 2 .* 30; got 1"):
        optimal_states(data, 1)
    with pytest.raises(DataError, match="3 time points or more are needed; got 2"):
        greedy_states(data[:2])

"""The hidden Markov model of events, against BrainIAK's numbers, all paths and planted events."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from imgtofmri.events import annealed_variance, choose_n_events, find_events, fit_events
from imgtofmri.events.expectation import _best_split
from imgtofmri.exceptions import DataError, OptionError, ShapeError


def planted(seed: int, lengths: list[int], n_voxels: int, noise: float) -> NDArray[np.float64]:
    """Return a run of stable events with noise."""
    rng = np.random.default_rng(seed)
    patterns = rng.standard_normal((len(lengths), n_voxels))
    run = np.repeat(patterns, lengths, axis=0)
    return run + noise * rng.standard_normal(run.shape)


# BrainIAK 0.12, EventSegment(n).fit(planted(...)): log-likelihood and variance at the end, steps,
# boundaries of the most probable events, sum of squared segment probabilities.
BRAINIAK = [
    ((0, [6, 9, 4, 11], 20, 1.0), -44.124349840853974, 0.8442436828279062, 78, [6, 15, 19]),
    ((1, [10, 10, 10], 12, 2.0), -46.963199221194714, 1.1202185499067288, 64, [9, 20]),
    (
        (2, [3, 20, 7, 5, 15], 30, 0.5),
        -57.176897750091705,
        0.36137907235084643,
        120,
        [3, 23, 30, 35],
    ),
]
BRAINIAK_SQUARES = [24.737528362882635, 24.064125262566577, 48.869102405047606]

# The same for planted(7, [4, 6, 5], 6, 1.2), 3 events: segments_[0] and event_pat_.T.
SMALL = (7, [4, 6, 5], 6, 1.2)
SMALL_SEGMENTS = [
    [1.0, 0.0, 0.0],
    [0.793019964, 0.206980036, 0.0],
    [0.456848447, 0.543032342, 0.000119211],
    [0.236220434, 0.762677438, 0.001102127],
    [0.115996914, 0.88097669, 0.003026395],
    [0.062626443, 0.925950695, 0.011422862],
    [0.036218228, 0.920413788, 0.043367984],
    [0.011733092, 0.854085927, 0.13418098],
    [0.002771013, 0.694594534, 0.302634453],
    [0.000586557, 0.27329444, 0.726119003],
    [0.000238905, 0.055453309, 0.944307786],
    [0.000076435, 0.014993706, 0.984929859],
    [0.000031543, 0.002464433, 0.997504024],
    [0.0, 0.000670356, 0.999329644],
    [0.0, 0.0, 1.0],
]
SMALL_PATTERNS = [
    [-0.775258969, -0.594736556, -1.002234851, -0.483547385, -0.427366747, -0.45112068],
    [0.111396941, 0.601875206, 0.306574306, -0.467845917, 0.709781307, 0.083087407],
    [0.241627358, -0.324191741, 0.151966644, 0.680895277, -0.506558384, 0.122579014],
]


@pytest.mark.parametrize(
    ("case", "squares"), list(zip(BRAINIAK, BRAINIAK_SQUARES, strict=True)), ids=["a", "b", "c"]
)
def test_fit_events_equals_brainiak(case: tuple, squares: float) -> None:
    """Likelihood, variance, steps, boundaries and segments are those of BrainIAK."""
    arguments, likelihood, variance, n_steps, boundaries = case
    model = fit_events(planted(*arguments), len(arguments[1]))
    assert model.log_likelihood == pytest.approx(likelihood, abs=1e-9)
    assert model.variance == pytest.approx(variance, rel=1e-12)
    assert model.n_steps == n_steps
    assert model.boundaries.tolist() == boundaries
    assert np.sum(model.segments[0] ** 2) == pytest.approx(squares, abs=1e-9)


def test_fit_events_segments_equal_brainiak() -> None:
    """Each volume's event probabilities and each event's pattern are those of BrainIAK."""
    model = fit_events(planted(*SMALL), 3)
    np.testing.assert_allclose(model.segments[0], SMALL_SEGMENTS, atol=1e-9)
    np.testing.assert_allclose(model.patterns, SMALL_PATTERNS, atol=1e-9)


def test_fit_events_two_runs_equals_brainiak() -> None:
    """Two runs of different lengths give BrainIAK's joint fit."""
    first = planted(0, [6, 9, 4, 11], 20, 1.0)
    second = planted(0, [6, 9, 4, 11], 20, 1.5)[:27]
    model = fit_events([first, second], 4)
    assert model.log_likelihood == pytest.approx(np.mean([-44.32096904, -42.156151575]), abs=1e-8)
    assert model.n_steps == 72
    squares = [np.sum(segments**2) for segments in model.segments]
    assert squares == pytest.approx([24.217279959159676, 20.5177530162677], abs=1e-9)


def test_fit_events_of_a_stack_is_that_of_its_runs() -> None:
    """Subjects stacked in one array are the same as a list of them."""
    runs = [planted(seed, [6, 9, 4], 20, 1.0) for seed in (0, 0)]
    runs[1] = runs[1] + 0.5 * planted(9, [19], 20, 1.0)
    stacked, listed = fit_events(np.stack(runs), 3), fit_events(runs, 3)
    assert stacked.log_likelihood == listed.log_likelihood
    assert len(stacked.segments) == 2


def test_find_events_equals_brainiak() -> None:
    """Patterns of one run found in another give BrainIAK's likelihood and segments."""
    first = planted(0, [6, 9, 4, 11], 20, 1.0)
    second = planted(0, [6, 9, 4, 11], 20, 1.5)[:27]
    model = fit_events(first, 4)
    segments, likelihood = find_events(second, model.patterns, model.variance)
    assert likelihood == pytest.approx(-42.69748024743895, abs=1e-9)
    assert np.sum(segments**2) == pytest.approx(20.950400000351404, abs=1e-9)


def test_find_events_equals_sum_over_all_paths(rng: np.random.Generator) -> None:
    """Segments and likelihood equal a sum over every path, written out."""
    n_timepoints, n_events, n_voxels, variance = 8, 4, 5, 0.7
    data = rng.standard_normal((n_timepoints, n_voxels))
    patterns = rng.standard_normal((n_events, n_voxels))
    segments, likelihood = find_events(data, patterns, variance)

    def z(array: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return (array - array.mean(axis, keepdims=True)) / array.std(axis, ddof=1, keepdims=True)

    volumes, means = z(z(data, 0), 1), z(patterns, 1)
    total, weights = 0.0, np.zeros((n_timepoints, n_events))
    chance = (n_events - 1) / n_timepoints
    for bounds in itertools.combinations(range(1, n_timepoints), n_events - 1):
        path = np.searchsorted(bounds, np.arange(n_timepoints), side="right")
        log_p = (n_events - 1) * np.log(chance) + (n_timepoints - n_events) * np.log(1 - chance)
        for volume, event in enumerate(path):
            distance = np.mean((volumes[volume] - means[event]) ** 2)
            log_p -= 0.5 * np.log(2 * np.pi * variance) + distance / (2 * variance)
        total += np.exp(log_p)
        weights[np.arange(n_timepoints), path] += np.exp(log_p)
    assert likelihood == pytest.approx(np.log(total), abs=1e-12)
    np.testing.assert_allclose(segments, weights / total, atol=1e-12)


@pytest.mark.parametrize("lengths", [[12, 14, 18, 12, 15], [10] * 14, [7, 20, 9]])
def test_fit_events_finds_planted_events(lengths: list[int]) -> None:
    """At a high ratio of signal to noise every planted boundary is found exactly."""
    model = fit_events(planted(3, lengths, 200, 0.3), len(lengths))
    assert model.boundaries.tolist() == np.cumsum(lengths)[:-1].tolist()


def test_fit_events_split_merge_finds_uneven_events() -> None:
    """Splitting and merging finds events of very uneven lengths that plain fitting misses."""
    lengths = [40, 3, 3, 3, 40, 3, 4, 50]
    data = planted(0, lengths, 100, 0.2)
    plain = fit_events(data, len(lengths))
    moved = fit_events(data, len(lengths), split_merge=True)
    assert plain.boundaries.tolist() != np.cumsum(lengths)[:-1].tolist()
    assert moved.boundaries.tolist() == np.cumsum(lengths)[:-1].tolist()
    assert moved.log_likelihood > plain.log_likelihood


def test_best_split_equals_loop(rng: np.random.Generator) -> None:
    """The place and what it takes away are those of a loop over all, with the scatter written out.

    Scatter is the sum of squared distances from the mean.
    """

    def scatter(volumes: NDArray[np.float64]) -> float:
        return float(np.sum((volumes - volumes.mean(axis=0)) ** 2))

    for n in (2, 3, 9, 20):
        volumes = rng.standard_normal((n, 6))
        left = [scatter(volumes[:at]) + scatter(volumes[at:]) for at in range(1, n)]
        place, gain = _best_split(volumes)
        assert place == 1 + int(np.argmin(left))
        assert gain == pytest.approx(scatter(volumes) - min(left), abs=1e-12)


def test_fit_events_split_merge_moves_the_boundaries_of_three_events() -> None:
    """Three events are the fewest of which two can be merged and another split."""
    data = planted(22, [5, 5, 5], 8, 1.0)
    plain = fit_events(data, 3)
    moved = fit_events(data, 3, split_merge=True)
    assert plain.boundaries.tolist() != [5, 10]
    assert moved.boundaries.tolist() == [5, 10]
    assert moved.log_likelihood > plain.log_likelihood


def test_fit_events_segments_are_a_staircase() -> None:
    """Segments sum to 1, begin in the first event, end in the last and only move forward."""
    model = fit_events(planted(5, [20, 5, 30], 40, 1.0), 3)
    segments = model.segments[0]
    np.testing.assert_allclose(segments.sum(axis=1), 1.0, atol=1e-12)
    assert segments[0, 0] == segments[-1, -1] == pytest.approx(1.0)
    later = np.cumsum(segments[:, ::-1], axis=1)
    assert (np.diff(later, axis=0) > -1e-12).all()


def test_fit_events_as_many_events_as_volumes_gives_each_its_own() -> None:
    """With as many events as volumes only one path is left."""
    model = fit_events(planted(1, [1, 1, 1, 1], 10, 0.1), 4)
    np.testing.assert_allclose(model.segments[0], np.eye(4), atol=1e-12)


def test_fit_events_long_run_stays_finite() -> None:
    """Two thousand volumes and a small variance neither overflow nor vanish."""
    data = planted(2, [500, 700, 800], 30, 0.1)
    model = fit_events(data, 3, variance=lambda step: 0.01 / step, max_steps=5)
    assert np.isfinite(model.log_likelihood)
    assert model.boundaries.tolist() == [500, 1200]


def test_annealed_variance_shrinks_by_two_percent() -> None:
    """The schedule is the published 4 * 0.98 ** (step - 1)."""
    assert annealed_variance(1) == 4.0
    assert annealed_variance(2) == pytest.approx(3.92)


def test_choose_n_events_finds_planted_number() -> None:
    """The number of events that was planted is chosen."""
    data = planted(4, [9, 12, 8, 11, 10], 100, 0.7)
    choice = choose_n_events(data, range(2, 10))
    assert choice.best.n_events == 5
    assert choice.best.boundaries.tolist() == [9, 21, 29, 40]


def test_choose_n_events_without_candidates_is_refused() -> None:
    """There must be a number of events to try."""
    with pytest.raises(OptionError, match="candidates must name one number"):
        choose_n_events(planted(4, [5, 5], 10, 0.7), [])


def test_fit_events_bad_data_is_named() -> None:
    """NaN, too few volumes, no voxels, unequal voxels and constant data each have an error."""
    data = planted(0, [5, 5], 10, 0.5)
    broken = data.copy()
    broken[3, 2] = np.nan
    with pytest.raises(DataError, match="data must be finite; got NaN .* at time points 3 "):
        fit_events(broken, 2)
    with pytest.raises(DataError, match="3 time points or more are needed; got 2"):
        fit_events(data[:2], 2)
    with pytest.raises(ShapeError, match=r"got \(10,\)"):
        fit_events(data[:, 0], 2)
    with pytest.raises(ShapeError, match=r"2 runs with \[9, 10\] voxels"):
        fit_events([data, data[:, :9]], 2)


def test_fit_events_bad_options_are_named() -> None:
    """A number of events, of steps or a variance out of range each have an error."""
    data = planted(0, [5, 5], 10, 0.5)
    with pytest.raises(OptionError, match="between 2 and the number of volumes, 10; got 11"):
        fit_events(data, 11)
    with pytest.raises(OptionError, match="max_steps must be at least 1; got 0"):
        fit_events(data, 2, max_steps=0)
    with pytest.raises(OptionError, match="variance must give a positive number.*got 0"):
        fit_events(data, 2, variance=lambda step: 0.0)


def test_find_events_bad_options_are_named() -> None:
    """Patterns of other voxels, too many events and a bad variance each have an error."""
    data = planted(0, [5, 5], 10, 0.5)
    with pytest.raises(ShapeError, match=r"\(n_events, 10\).*got \(2, 9\)"):
        find_events(data, data[:2, :9], 1.0)
    with pytest.raises(OptionError, match="between 1 event and 10.*got 20"):
        find_events(data, np.tile(data, (2, 1)), 1.0)
    with pytest.raises(OptionError, match="positive number; got -1"):
        find_events(data, data[:2], -1.0)

"""Boundary-triggered averages and their bootstrap, against written-out loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtofmri.events import (
    average_around_boundaries,
    bootstrap_p,
    boundary_windows,
    mean_around_boundaries,
)
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import bootstrap_counts

BOUNDARIES = [4, 9, 15, 17, 30]
WINDOW = (-3, 6)


def usable(volume: int, own: int, boundaries: list[int], n_timepoints: int) -> bool:
    """Say whether a volume is inside the run and more than 2 volumes from other boundaries."""
    others = [bound for bound in boundaries if bound != own]
    return 0 <= volume < n_timepoints and all(abs(volume - bound) > 2 for bound in others)


def loop_average(values: np.ndarray, drawn: list[int]) -> list[float]:
    """Average around the drawn boundaries, one lag and one boundary after the other."""
    averages = []
    for lag in range(WINDOW[0], WINDOW[1] + 1):
        found = [
            values[bound + lag]
            for bound in drawn
            if usable(bound + lag, bound, BOUNDARIES, len(values))
            and not np.isnan(values[bound + lag])
        ]
        averages.append(np.mean(found) if found else np.nan)
    return averages


def test_average_around_boundaries_equals_loop(rng: np.random.Generator) -> None:
    """The average leaves out what a loop over boundaries and lags leaves out."""
    values = rng.standard_normal(33)
    values[11] = np.nan
    average = average_around_boundaries(values, BOUNDARIES, window=WINDOW)
    np.testing.assert_allclose(average.mean, loop_average(values, BOUNDARIES), atol=1e-12)
    assert average.lags.tolist() == list(range(-3, 7))


def test_average_around_boundaries_samples_equal_loop(rng: np.random.Generator) -> None:
    """Each bootstrap sample is the loop's average over the boundaries drawn, repeats counted."""
    brains = rng.standard_normal((2, 4, 33))
    average = average_around_boundaries(
        brains.mean(axis=1), BOUNDARIES, brains=brains, window=WINDOW, n_resamples=3, seed=5
    )
    counts = bootstrap_counts(5, 12, seed=5).astype(int)
    assert average.samples.shape == (2, 12, 10)
    for course in range(2):
        for sample in range(12):
            drawn = [
                bound
                for bound, count in zip(BOUNDARIES, counts[sample], strict=True)
                for _ in range(count)
            ]
            expected = loop_average(brains[course, sample % 4], drawn)
            np.testing.assert_allclose(average.samples[course, sample], expected, atol=1e-12)


@pytest.mark.slow
def test_published_boundary_averages_equal_a_loop(rng: np.random.Generator) -> None:
    """Sample s is of draw s mod n of the people; p counts valid samples below zero, plus one.

    The rules of the published analysis: a lag is skipped outside the run or within 2 volumes of
    another boundary of the whole list; a sample without a valid boundary is missing.
    """
    bounds = [12, 26, 44, 56, 71, 81, 92, 104, 119, 123, 136, 143, 151]
    brains = rng.standard_normal((100, 158))
    average = average_around_boundaries(
        brains.mean(axis=0), bounds, brains=brains, window=(-10, 10), n_resamples=10, seed=7
    )
    counts = bootstrap_counts(13, 1000, seed=7).astype(int)
    p = bootstrap_p(average.samples)
    for column, lag in enumerate(range(-10, 11)):
        found = []
        for sample in range(1000):
            values = []
            for bound, count in zip(bounds, counts[sample], strict=True):
                if usable(bound + lag, bound, bounds, 158):
                    values += [brains[sample % 100, bound + lag]] * count
            found.append(np.mean(values) if values else np.nan)
        np.testing.assert_allclose(average.samples[:, column], found, atol=1e-10)
        valid = [value for value in found if not np.isnan(value)]
        below = sum(value < 0 for value in valid)
        assert p[column] == pytest.approx((below + 1) / (len(valid) + 1), abs=1e-10)


def test_average_around_boundaries_interval_lies_about_the_mean(rng: np.random.Generator) -> None:
    """Limits are percentiles of valid samples, moved to the average; few boundaries have none."""
    brains = rng.standard_normal((30, 33)) + 0.1
    course = brains.mean(axis=0) + 0.5
    boundaries = [4, 9, 12, 20, 24, 28]
    average = average_around_boundaries(course, boundaries, brains=brains, window=WINDOW)
    assert set(average.n_windows >= 4) == {False, True}
    assert np.isnan(average.samples).any()
    for lag in range(10):
        valid = [value for value in average.samples[:, lag] if not np.isnan(value)]
        # Of one boundary the samples are those of people: nothing says how boundaries differ.
        if average.n_windows[lag] >= 4:
            band = np.percentile(valid, [2.5, 97.5]) - np.mean(valid) + average.mean[lag]
            np.testing.assert_allclose([average.lower[lag], average.upper[lag]], band)
        else:
            assert np.isnan([average.lower[lag], average.upper[lag]]).all()


def test_average_around_boundaries_finds_planted_response(rng: np.random.Generator) -> None:
    """A bump three volumes after each boundary is seen there, and there alone."""
    boundaries = np.arange(12, 160, 16)
    brains = 0.5 * rng.standard_normal((100, 166))
    brains[:, boundaries + 3] += 1.0
    average = average_around_boundaries(
        brains.mean(axis=0), boundaries, brains=brains, window=(-4, 8)
    )
    assert average.lags[np.argmax(average.mean)] == 3
    assert average.mean[7] == pytest.approx(1.0, abs=0.05)
    assert (average.lags[average.lower > 0.5]).tolist() == [3]
    alone = mean_around_boundaries(brains, boundaries, window=(-4, 8))
    np.testing.assert_allclose(alone.mean(axis=0), average.mean, atol=1e-12)


def test_average_around_boundaries_same_seed_repeats() -> None:
    """A seed fixes the draws, and another seed changes them."""
    values = np.sin(np.arange(33.0))
    one, again, other = (
        average_around_boundaries(values, BOUNDARIES, seed=seed).samples for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other, equal_nan=True)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_boundary_windows_equal_loop(data: st.DataObject) -> None:
    """For any boundaries, valid volumes are those that the loop's rule keeps; others are 0."""
    n_timepoints = data.draw(st.integers(5, 40))
    bounds = sorted(data.draw(st.sets(st.integers(1, n_timepoints - 1), min_size=1, max_size=8)))
    lags, volumes, valid = boundary_windows(n_timepoints, bounds, window=(-4, 4))
    for row, bound in enumerate(bounds):
        for column, lag in enumerate(lags):
            expected = usable(bound + lag, bound, bounds, n_timepoints)
            assert valid[row, column] == expected
            assert volumes[row, column] == (bound + lag if expected else 0)


def test_boundary_windows_without_exclusion_uses_all_inside() -> None:
    """With exclusion -1 only the run's ends limit a window."""
    _, _, valid = boundary_windows(20, [5, 6], window=(-6, 0), exclusion=-1)
    assert valid.sum(axis=1).tolist() == [6, 7]


def test_bootstrap_p_counts_as_published() -> None:
    """P is (n below zero + 1) / (n + 1), with invalid samples left out of n."""
    samples = np.array([[0.1, -0.1, np.nan], [0.2, np.nan, np.nan], [0.3, 0.4, np.nan]])
    np.testing.assert_allclose(bootstrap_p(samples), [1 / 4, 2 / 3, np.nan])


def test_average_around_boundaries_bad_input_is_named() -> None:
    """Shapes that do not match, infinite values and options out of range each have an error."""
    values = np.zeros(33)
    with pytest.raises(ShapeError, match=r"the other axes of values, \(33,\); got \(5, 30\)"):
        average_around_boundaries(values, BOUNDARIES, brains=np.zeros((5, 30)))
    with pytest.raises(DataError, match="infinite values"):
        average_around_boundaries(values + np.inf, BOUNDARIES)
    with pytest.raises(DataError, match="a single number"):
        average_around_boundaries(3.0, BOUNDARIES)
    with pytest.raises(OptionError, match="got 0 and 0.95"):
        average_around_boundaries(values, BOUNDARIES, n_resamples=0)
    with pytest.raises(OptionError, match=r"in order; got \(3, -3\)"):
        boundary_windows(33, BOUNDARIES, window=(3, -3))
    with pytest.raises(OptionError, match="got -2"):
        boundary_windows(33, BOUNDARIES, exclusion=-2)
    with pytest.raises(DataError, match=r"got \[30\]"):
        average_around_boundaries(values[:30], BOUNDARIES)

"""Repeats in any number and order: averages, variances, noise ceiling."""

from __future__ import annotations

import numpy as np
import pytest

from imgtofmri.exceptions import DataError
from imgtofmri.stats import average_repeats, noise_ceiling, noise_ceiling_r, repeat_variances


def test_repeat_variances_recover_planted_variances(rng: np.random.Generator) -> None:
    """Unequal repeats: signal and noise variance are recovered within four standard errors."""
    shown = np.repeat(np.arange(4000), rng.integers(1, 5, 4000))
    planted = np.array([[0.5], [2.0]])
    signal = planted[0] ** 0.5 * rng.standard_normal((4000, 200))
    responses = signal[shown] + planted[1] ** 0.5 * rng.standard_normal((len(shown), 200))
    got = repeat_variances(responses, shown)
    for estimate, truth in zip(got, planted[:, 0], strict=True):
        assert abs(estimate.mean() - truth) < 4 * estimate.std() / np.sqrt(200)
        assert estimate.std() < 0.1 * truth


def test_noise_ceiling_r_equals_correlation_of_true_signal(rng: np.random.Generator) -> None:
    """The ceiling is the correlation of averaged responses with the signal that made them."""
    shown = np.repeat(np.arange(3000), rng.integers(1, 6, 3000))
    signal = rng.standard_normal(3000)
    responses = signal[shown, None] + 1.5 * rng.standard_normal((len(shown), 50))
    means, _, counts = average_repeats(responses, shown)
    reached = [np.corrcoef(signal, column)[0, 1] for column in means.T]
    ceiling = noise_ceiling_r(*repeat_variances(responses, shown), float(np.mean(1 / counts)))
    np.testing.assert_allclose(ceiling.mean(), np.mean(reached), atol=0.005)
    np.testing.assert_array_equal(noise_ceiling_r([0.0, 1.0], [0.0, 0.0]), [0.0, 1.0])


def test_repeat_variances_without_repeats_is_refused(rng: np.random.Generator) -> None:
    """There is no noise ceiling without repeats."""
    with pytest.raises(DataError, match=r"one of them repeated, are needed; got 4 rows of 4"):
        repeat_variances(rng.standard_normal((4, 2)), range(4))


def test_average_repeats_equals_a_loop(rng: np.random.Generator) -> None:
    """Means, first rows and counts are those of a loop over groups."""
    shown = ["b", "a", "b", "c", "a", "b"]
    values = rng.standard_normal((6, 3))
    means, first, counts = average_repeats(values, shown)
    expected = [
        np.mean([values[i] for i in range(6) if shown[i] == name], axis=0) for name in "bac"
    ]
    np.testing.assert_allclose(means, expected)
    assert first.tolist() == [0, 1, 3]
    assert counts.tolist() == [3, 2, 1]


def test_repeat_variances_of_equal_repeats_are_the_signal_power(rng: np.random.Generator) -> None:
    """With repeats of equal mean both estimators agree, but for n - 1 in place of n stimuli."""
    n_repeats, n_stimuli = 4, 30
    signal = rng.standard_normal((n_stimuli, 6))
    repeats = signal + rng.standard_normal((n_repeats, n_stimuli, 6))
    repeats -= repeats.mean(axis=1, keepdims=True)
    got, noise = repeat_variances(repeats.reshape(-1, 6), list(range(n_stimuli)) * n_repeats)
    power = noise_ceiling(repeats).explainable * repeats.var(axis=1).mean(axis=0)
    of_means = repeats.mean(axis=0).var(axis=0)
    np.testing.assert_allclose(got, power + of_means / (n_stimuli - 1), rtol=1e-10)
    within = ((repeats - repeats.mean(axis=0)) ** 2).sum(axis=(0, 1))
    np.testing.assert_allclose(noise, within / (n_stimuli * (n_repeats - 1)), rtol=1e-10)

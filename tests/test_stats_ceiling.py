"""Noise ceiling from repeats."""

from __future__ import annotations

import numpy as np
import pytest

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import NoiseCeiling, ceiling_normalised, noise_ceiling, pearson_r
from imgtofmri.stats.ceiling import METHODS


def study(
    rng: np.random.Generator, share: float, n_repeats: int, n_images: int = 150, n_voxels: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """Make a signal and its noisy repeats, with a known share of signal in one repeat."""
    signal = np.sqrt(share) * rng.standard_normal((n_images, n_voxels))
    noise = rng.standard_normal((n_repeats, n_images, n_voxels))
    return signal, 3 + signal + np.sqrt(1 - share) * noise


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("n_repeats", [2, 3, 6])
def test_noise_ceiling_recovers_the_planted_share(
    rng: np.random.Generator, method: str, share: float, n_repeats: int
) -> None:
    """On average over voxels every estimator gives the share of signal that was planted."""
    _, repeats = study(rng, share, n_repeats)
    ceiling = noise_ceiling(repeats, method, n_splits=10)  # type: ignore[arg-type]
    standard_error = ceiling.explainable.std() / np.sqrt(400)
    # Ratios and Fisher's z leave a small bias at 150 images.
    assert abs(ceiling.explainable.mean() - share) < 4 * standard_error + 0.01


def test_noise_ceiling_signal_power_equals_the_published_formula(rng: np.random.Generator) -> None:
    """SP = (Var(sum over repeats) - sum of variances) / (N (N - 1)), over the mean variance."""
    _, repeats = study(rng, 0.4, 5, n_images=30, n_voxels=3)
    got = noise_ceiling(repeats).explainable
    for voxel in range(3):
        trials = [repeats[k, :, voxel] for k in range(5)]
        summed = np.var(sum(trials)) - sum(np.var(trial) for trial in trials)
        expected = summed / (5 * 4) / np.mean([np.var(trial) for trial in trials])
        assert got[voxel] == pytest.approx(expected)


def test_noise_ceiling_split_half_of_two_repeats_is_their_correlation(
    rng: np.random.Generator,
) -> None:
    """Two repeats split one way: the share of signal is r, the mean's reliability 2r / (1 + r)."""
    _, repeats = study(rng, 0.5, 2, n_voxels=20)
    ceiling = noise_ceiling(repeats, "split-half")
    r = pearson_r(repeats[0], repeats[1])
    np.testing.assert_allclose(ceiling.explainable, r, atol=1e-12)
    np.testing.assert_allclose(ceiling.reliability(), 2 * r / (1 + r), atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_r_max_is_what_the_true_signal_reaches(rng: np.random.Generator, method: str) -> None:
    """The true signal's correlation with the mean of repeats is r_max, for any number of them."""
    signal, repeats = study(rng, 0.3, 8)
    ceiling = noise_ceiling(repeats, method, n_splits=10)  # type: ignore[arg-type]
    for n in (1, 4, 8):
        reached = pearson_r(signal, repeats[:n].mean(axis=0))
        assert ceiling.r_max(n).mean() == pytest.approx(reached.mean(), abs=0.02)
        normalised = ceiling_normalised(reached, ceiling, n)
        assert np.nanmean(normalised) == pytest.approx(1, abs=0.05)


def test_noise_ceiling_same_seed_same_splits(rng: np.random.Generator) -> None:
    """The seed fixes the random splits."""
    _, repeats = study(rng, 0.3, 5, n_voxels=5)
    first = noise_ceiling(repeats, "split-half", 5, seed=1).explainable
    np.testing.assert_array_equal(
        first, noise_ceiling(repeats, "split-half", 5, seed=1).explainable
    )
    assert not np.array_equal(first, noise_ceiling(repeats, "split-half", 5, seed=2).explainable)


@pytest.mark.parametrize("method", METHODS)
def test_noise_ceiling_constant_voxel_is_nan(rng: np.random.Generator, method: str) -> None:
    """A voxel that never varies has no ceiling."""
    _, repeats = study(rng, 0.5, 4, n_images=20, n_voxels=3)
    repeats[:, :, 1] = 0.1
    ceiling = noise_ceiling(repeats, method)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.isnan(ceiling.explainable), [False, True, False])
    np.testing.assert_array_equal(np.isnan(ceiling.r_max()), [False, True, False])


@pytest.mark.parametrize("level", [-1000.0, 1000.0])
def test_noise_ceiling_of_rounding_is_nan(level: float) -> None:
    """What is left of subtracting a large mean is no signal, of either sign."""
    repeats = np.full((2, 20, 1), level)
    repeats[:, ::2] = np.nextafter(level, np.inf)
    assert np.isnan(noise_ceiling(repeats).explainable).all()


def test_ceiling_normalised_least_itself_is_enough() -> None:
    """`least` is the smallest that is taken."""
    ceiling = NoiseCeiling("signal-power", 1, np.array([0.25]))
    assert ceiling_normalised([0.25], ceiling, least=0.5) == [0.5]


def test_ceiling_normalised_hopeless_voxel_is_nan() -> None:
    """Where noise allows almost nothing, the quotient says nothing."""
    ceiling = NoiseCeiling("signal-power", 1, np.array([0.25, 0.0, -0.1]))
    np.testing.assert_array_equal(
        ceiling_normalised([0.25, 0.2, 0.1], ceiling), [0.5, np.nan, np.nan]
    )


def test_noise_ceiling_errors_name_what_is_wrong(rng: np.random.Generator) -> None:
    """Methods, shapes, counts and missing values are refused by name."""
    repeats = rng.standard_normal((3, 4, 2))
    with pytest.raises(OptionError, match=r"method must be one of signal-power, .* got 'split'"):
        noise_ceiling(repeats, "split")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"\(n_repeats, n_images, n_voxels\); got \(4, 2\)"):
        noise_ceiling(repeats[0])
    with pytest.raises(DataError, match=r"two repeats and two images at least; got 1 repeats"):
        noise_ceiling(repeats[:1])
    with pytest.raises(OptionError, match=r"n_splits must be at least 1; got 0"):
        noise_ceiling(repeats, "split-half", n_splits=0)
    with pytest.raises(OptionError, match=r"n_averaged must be at least 1; got 0"):
        noise_ceiling(repeats).r_max(0)
    with pytest.raises(ShapeError, match=r"r must have the ceiling's shape \(2,\); got \(3,\)"):
        ceiling_normalised(np.zeros(3), noise_ceiling(repeats))
    repeats[2, 1, 0] = np.nan
    with pytest.raises(DataError, match=r"got nan in repeat 2, image 1, voxel 0"):
        noise_ceiling(repeats)

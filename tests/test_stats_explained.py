"""Explainable and explained variance, pooled over voxels."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import explained_variance

ALL = np.ones((1, 60), dtype=bool)


def study(
    rng: np.random.Generator, n_images: int = 40, n_repeats: int = 2, share: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Make a signal and noisy repeats of it; shares of signal and scales differ between voxels."""
    signal = rng.standard_normal((n_images, 60))
    shares = 2 * share * rng.random(60)
    noise = rng.standard_normal((n_repeats, n_images, 60))
    scale = np.exp(rng.standard_normal(60))
    return signal, scale * (np.sqrt(shares) * signal + np.sqrt(1 - shares) * noise)


def of(model: np.ndarray, repeats: np.ndarray) -> dict[str, float]:
    """Return the one region's values by name."""
    return {
        name: values[0]
        for name, values in explained_variance(model, repeats, ALL).columns().items()
    }


@pytest.mark.parametrize("n_repeats", [2, 4])
def test_perfect_model_explains_all_and_noise_nothing(
    rng: np.random.Generator, n_repeats: int
) -> None:
    """On average over 60 studies, whatever a voxel's scale; a reversed model has -1."""
    scale = np.exp(rng.standard_normal(60))
    found = {"perfect": [], "noise": [], "reversed": [], "half": []}
    for _ in range(60):
        signal, repeats = study(rng, n_repeats=n_repeats)
        noise = rng.standard_normal(signal.shape)
        found["perfect"].append(of(scale * signal + 7, repeats)["explained"])
        found["noise"].append(of(scale * noise, repeats)["explained"])
        found["reversed"].append(of(-signal, repeats)["explained"])
        found["half"].append(of(signal + noise, repeats)["explained"])
    for model, true in {"perfect": 1, "noise": 0, "reversed": -1, "half": 0.5}.items():
        assert np.mean(found[model]) == pytest.approx(true, abs=0.04), model


def test_sums_equal_written_out_formulas(rng: np.random.Generator) -> None:
    """Shares are sums over voxels of covariances across repeats and of the adjusted R²."""
    signal, repeats = study(rng, n_images=15, n_repeats=3)
    model = signal + rng.standard_normal(signal.shape)
    model[:, 4] = 2.0
    explained = signal_variance = 0.0
    for voxel in set(range(60)) - {4}:
        series, mean = repeats[:, :, voxel], repeats[:, :, voxel].mean(axis=0)
        covariance = np.cov(series)
        total = np.diagonal(covariance).mean()
        signal_variance += covariance[~np.eye(3, dtype=bool)].mean() / total
        r2 = scipy.stats.linregress(model[:, voxel], mean).rvalue ** 2
        explained += (1 - (1 - r2) * 14 / 13) * mean.var(ddof=1) / total
    found = of(model, repeats)
    assert found["explainable"] == pytest.approx(signal_variance / 59)
    assert found["explained"] == pytest.approx(explained / signal_variance)


def test_intervals_equal_fieller_on_left_out_images(rng: np.random.Generator) -> None:
    """At each bound the difference of the sums is t standard errors of its pseudo-values from 0."""
    signal, repeats = study(rng, n_images=20)
    found = of(signal, repeats)
    weights = 1 / repeats.var(axis=1, ddof=1).mean(axis=0)

    def sums(images: np.ndarray) -> np.ndarray:
        x, y = signal[images], repeats[:, images]
        mean, n = y.mean(axis=0), len(images)
        covariance = ((y[0] - y[0].mean(axis=0)) * (y[1] - y[1].mean(axis=0))).sum(axis=0) / (n - 1)
        r = [np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, mean.T, strict=True)]
        adjusted = 1 - (1 - np.square(r)) * (n - 1) / (n - 2)
        return np.array([(adjusted * mean.var(axis=0, ddof=1)) @ weights, covariance @ weights])

    whole = sums(np.arange(20))
    left = np.array([sums(np.delete(np.arange(20), at)) for at in range(20)])
    pseudo = 20 * whole - 19 * left
    for bound in (found["explained_lower"], found["explained_upper"]):
        difference = pseudo @ [1, -bound]
        assert abs(scipy.stats.ttest_1samp(difference, 0).pvalue - 0.05) < 1e-6


def test_intervals_cover_the_truth(rng: np.random.Generator) -> None:
    """Of 200 studies of 20 images, most of the intervals hold 1 and 0."""
    held = []
    for _ in range(200):
        signal, repeats = study(rng, n_images=20)
        perfect, noise = of(signal, repeats), of(rng.standard_normal((20, 60)), repeats)
        held.append(
            [
                perfect["explained_lower"] <= 1 <= perfect["explained_upper"],
                noise["explained_lower"] <= 0 <= noise["explained_upper"],
            ]
        )
    assert (np.mean(held, axis=0) > 0.9).all()


def test_pure_noise_has_nothing_to_explain(rng: np.random.Generator) -> None:
    """The share of signal is around 0 on both sides, and what a model explains of it is unknown."""
    shares = []
    for _ in range(40):
        found = of(rng.standard_normal((30, 60)), rng.standard_normal((2, 30, 60)))
        shares.append(found["explainable"])
        if found["explainable_lower"] <= 0:
            assert np.isnan([found["explained"], found["explained_upper"]]).all()
    assert np.mean(shares) == pytest.approx(0, abs=0.02)
    assert min(shares) < 0 < max(shares)


def test_region_without_variation_is_nan(rng: np.random.Generator) -> None:
    """A region whose model is constant has no shares, and leaves the others alone."""
    signal, repeats = study(rng)
    signal[:, 10:] = 1.0
    regions = np.array([np.arange(60) < 10, np.arange(60) >= 10])
    found = explained_variance(signal, repeats, regions)
    for values in found.columns().values():
        np.testing.assert_array_equal(np.isnan(values), [False, True])


def test_explained_variance_errors_name_what_is_wrong(rng: np.random.Generator) -> None:
    """Single repeats, shapes, few images, NaN and levels are refused by name."""
    signal, repeats = study(rng)
    with pytest.raises(ShapeError, match=r"two repeats or more; got \(1, 40, 60\)"):
        explained_variance(signal, repeats[:1], ALL)
    with pytest.raises(
        ShapeError, match=r"regions must have shape \(n_regions, 60\); got \(1, 3\)"
    ):
        explained_variance(signal, repeats, ALL[:, :3])
    with pytest.raises(DataError, match=r"needs at least 4 images; got 3"):
        explained_variance(signal[:3], repeats[:, :3], ALL)
    with pytest.raises(OptionError, match=r"level must lie between 0 and 1; got 95"):
        explained_variance(signal, repeats, ALL, 95)
    repeats[0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"^repeats must be finite"):
        explained_variance(signal, repeats, ALL)

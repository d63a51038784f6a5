"""Ridge on PyTorch against ridge on NumPy, and what is refused of engines and devices."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from imgtofmri.exceptions import MissingDependencyError, OptionError
from imgtofmri.regression import fit_ridge, grouped_folds, open_engine, sample_band_scales
from imgtofmri.regression.engine import NUMPY, engine_problem

ALPHAS = np.logspace(-1, 4, 6)
ARRAYS = ("weights", "intercept", "cv_r", "cv_r2", "residual_variance", "scores")


def make_data(
    rng: np.random.Generator, n: int, p: int, v: int, dtype: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return features far from zero mean, and noisy linear responses to them."""
    features = rng.standard_normal((n, p)) * rng.uniform(0.5, 2, p) + rng.uniform(-3, 3, p)
    responses = features @ rng.standard_normal((p, v)) + 15 * rng.standard_normal((n, v)) + 3
    return features.astype(dtype), responses.astype(dtype)


def assert_fits_agree(fit: Any, other: Any, tolerance: float) -> None:
    """Penalties must be the same, everything else equal relative to its largest value."""
    np.testing.assert_array_equal(fit.alpha, other.alpha)
    for name in ARRAYS:
        expected = getattr(fit, name)
        np.testing.assert_allclose(
            getattr(other, name), expected, atol=tolerance * np.abs(expected).max(), err_msg=name
        )


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    ("n", "p", "max_bytes"), [(120, 20, 10**9), (40, 90, 10**9), (200, 21, 1_500_000)]
)
def test_fit_ridge_torch_equals_numpy(
    torch: Any,
    rng: np.random.Generator,
    dtype: str,
    shared: bool,
    nested: bool,
    n: int,
    p: int,
    max_bytes: int,
) -> None:
    """Both engines give one fit: penalties shared or not, nested or not, p > n, in batches."""
    features, responses = make_data(rng, n, p, 700 if n == 200 else 60, dtype)
    options: dict[str, Any] = {
        "alphas": ALPHAS,
        "folds": grouped_folds(range(n), seed=2),
        "share": rng.integers(0, 3, responses.shape[1]) if shared else None,
        "nested": nested,
        "max_bytes": max_bytes,
    }
    fit = fit_ridge(features, responses, **options)
    other = fit_ridge(features, responses, engine="torch", device="cpu", **options)
    assert_fits_agree(fit, other, 1e-3 if dtype == "float32" else 1e-9)
    scale = np.abs(fit.weights).max()
    np.testing.assert_allclose(
        other.weights, fit.weights, atol=scale * (1e-4 if dtype == "float32" else 1e-9)
    )


@pytest.mark.torch
@pytest.mark.parametrize("p", [24, 130])
def test_fit_ridge_torch_banded_equals_numpy(torch: Any, rng: np.random.Generator, p: int) -> None:
    """Banded ridge chooses the same scales of layers, too, where features are few and many."""
    features, responses = make_data(rng, 90, p, 40, "float64")
    options: dict[str, Any] = {
        "alphas": ALPHAS,
        "folds": grouped_folds(range(90)),
        "bands": ["early"] * 10 + ["late"] * (p - 10),
        "band_scales": sample_band_scales(2, 5, seed=1),
    }
    fit = fit_ridge(features, responses, **options)
    other = fit_ridge(features, responses, engine="torch", device="cpu", **options)
    assert fit.band_scales is not None
    assert len(np.unique(fit.band_scales, axis=0)) > 1
    np.testing.assert_array_equal(other.band_scales, fit.band_scales)
    assert_fits_agree(fit, other, 1e-9)


@pytest.mark.torch
def test_fit_ridge_torch_equals_grid_search(torch: Any, rng: np.random.Generator) -> None:
    """Penalty, scores and weights equal GridSearchCV(Ridge()) for each set of voxels."""
    features, responses = make_data(rng, 120, 20, 30, "float64")
    share = np.repeat(["LOC", "PPA"], 15)
    folds = grouped_folds(range(120))
    fit = fit_ridge(features, responses, alphas=ALPHAS, folds=folds, share=share, engine="torch")
    for unit, roi in enumerate(fit.units):
        mine = share == roi
        search = GridSearchCV(Ridge(), {"alpha": ALPHAS}).fit(features, responses[:, mine])
        assert (fit.alpha[mine] == search.best_params_["alpha"]).all()
        expected = search.cv_results_["mean_test_score"]
        np.testing.assert_allclose(fit.scores[:, unit], expected, atol=1e-9)
        np.testing.assert_allclose(fit.weights[:, mine], search.best_estimator_.coef_.T, atol=1e-5)


@pytest.mark.torch
def test_fit_ridge_torch_same_device_gives_the_same_bits(
    torch: Any, rng: np.random.Generator
) -> None:
    """A second fit on a device equals the first to the last bit, and leaves its inputs alone."""
    features, responses = make_data(rng, 150, 30, 80, "float32")
    before = features.copy(), responses.copy()
    options: dict[str, Any] = {"alphas": ALPHAS, "folds": grouped_folds(range(150), seed=4)}
    first, second = (fit_ridge(features, responses, engine="torch", **options) for _ in range(2))
    for name in (*ARRAYS, "alpha"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(features, before[0])
    np.testing.assert_array_equal(responses, before[1])


@pytest.mark.torch
def test_fit_ridge_torch_takes_arrays_as_files_hold_them(
    torch: Any, rng: np.random.Generator
) -> None:
    """Big-endian, reversed, read-only and column-wise responses give the plain array's fit."""
    features, responses = make_data(rng, 60, 8, 20, "float64")
    options: dict[str, Any] = {"alphas": ALPHAS, "folds": grouped_folds(range(60))}
    plain = fit_ridge(features, responses, engine="torch", **options)
    frozen = responses.copy()
    frozen.flags.writeable = False
    reverse = responses[::-1].copy()[::-1]
    for other in (responses.astype(">f8"), reverse, frozen, np.asfortranarray(responses)):
        fit = fit_ridge(features, other, engine="torch", **options)
        assert_fits_agree(plain, fit, 1e-12)


@pytest.mark.torch
def test_open_engine_device_that_is_not_there_is_refused(torch: Any) -> None:
    """A device of PyTorch's that this machine lacks is named; the default is one that it has."""
    if torch.cuda.is_available():
        assert open_engine("torch").device == "cuda:0"
    else:
        assert open_engine("torch").device == "cpu"
        with pytest.raises(OptionError, match=r"got 'cuda' \(.*\). Use \"cpu\", or install PyTor"):
            open_engine("torch", "cuda")
    with pytest.raises(OptionError, match=r"device must be one that PyTorch can use here.*'warp'"):
        open_engine("torch", "warp")


def test_open_engine_torch_without_torch_says_what_to_install(rng: np.random.Generator) -> None:
    """Where PyTorch is missing, the one error names the command to install it."""
    if importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is installed")
    features, responses = make_data(rng, 30, 4, 3, "float64")
    with pytest.raises(MissingDependencyError, match=r"`pip install 'imgtofmri\[torch\]'`"):
        fit_ridge(
            features,
            responses,
            alphas=ALPHAS,
            folds=grouped_folds(range(30)),
            engine="torch",
        )


def test_open_engine_choices_that_cannot_be_are_refused() -> None:
    """Unknown engines, devices of NumPy's, and devices without double precision have messages."""
    assert open_engine() is NUMPY
    with pytest.raises(OptionError, match=r"engine must be one of numpy, torch; got 'jax'"):
        open_engine("jax")
    with pytest.raises(OptionError, match=r"device must be left out with the engine numpy; got 'c"):
        open_engine("numpy", "cuda")
    with pytest.raises(OptionError, match=r"device must have double precision.*got 'mps:0'"):
        open_engine("torch", "mps:0")
    with pytest.raises(
        OptionError, match=r'must be "cpu", "cuda" or "cuda:NUMBER"; got \'cuda 1\''
    ):
        open_engine("torch", "cuda 1")
    assert engine_problem("torch", "cuda:1") == ""

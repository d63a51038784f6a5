"""Ridge against scikit-learn and himalaya, and against planted truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.regression import (
    check_folds,
    check_responses,
    fit_ridge,
    grouped_folds,
    invalid_voxels,
    merge_duplicates,
    plan_memory,
    sample_band_scales,
)

ALPHAS = np.logspace(-1, 4, 6)


def make_data(
    rng: np.random.Generator,
    n: int = 120,
    p: int = 20,
    v: int = 9,
    noise: float = 4.0,
    dtype: type[Any] = np.float64,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return features far from zero mean, and noisy linear responses of uneven scale."""
    features = rng.standard_normal((n, p)) * rng.uniform(0.2, 3, p) + rng.uniform(-5, 5, p)
    signal = features @ rng.standard_normal((p, v))
    responses = (signal + noise * rng.standard_normal((n, v))) * rng.uniform(0.1, 10, v)
    return features.astype(dtype), (responses + 3.0).astype(dtype)


@pytest.mark.parametrize(
    ("n", "p", "dtype", "max_bytes"),
    [
        (120, 20, np.float64, 10**9),
        (120, 20, np.float32, 10**9),
        (40, 90, np.float64, 10**9),
        (123, 20, np.float64, 500_000),
    ],
)
def test_fit_ridge_shared_penalty_equals_grid_search(
    rng: np.random.Generator, n: int, p: int, dtype: type[Any], max_bytes: int
) -> None:
    """Penalty, scores, weights and intercept equal GridSearchCV(Ridge()) for each set of voxels."""
    features, responses = make_data(rng, n, p, 160, noise=30.0, dtype=dtype)
    share = rng.permutation(np.repeat(["LOC", "PPA"], [110, 50]))
    fit = fit_ridge(
        features,
        responses,
        alphas=ALPHAS,
        folds=grouped_folds(range(n)),
        share=share,
        max_bytes=max_bytes,
    )
    tolerance = 1e-4 if dtype is np.float32 else 1e-9
    for unit, roi in enumerate(fit.units):
        mine = share == roi
        search = GridSearchCV(Ridge(), {"alpha": ALPHAS}).fit(features, responses[:, mine])
        assert (fit.alpha[mine] == search.best_params_["alpha"]).all()
        expected = search.cv_results_["mean_test_score"]
        np.testing.assert_allclose(fit.scores[:, unit], expected, atol=tolerance)
        coef = search.best_estimator_.coef_.T
        scale = np.abs(coef).max()
        np.testing.assert_allclose(fit.weights[:, mine], coef, atol=1e-4 * scale)
        np.testing.assert_allclose(
            fit.intercept[mine], search.best_estimator_.intercept_, rtol=1e-3
        )


@pytest.mark.slow
def test_fit_ridge_per_voxel_penalty_equals_grid_search_of_each_voxel(
    rng: np.random.Generator,
) -> None:
    """Without sharing, each voxel gets what its own grid search gives."""
    features, responses = make_data(rng, noise=20.0)
    fit = fit_ridge(features, responses, alphas=ALPHAS, folds=grouped_folds(range(120)))
    assert len(set(fit.alpha)) > 1
    for voxel in range(responses.shape[1]):
        search = GridSearchCV(Ridge(), {"alpha": ALPHAS}).fit(features, responses[:, voxel])
        assert fit.alpha[voxel] == search.best_params_["alpha"]
        np.testing.assert_allclose(
            fit.scores[:, voxel], search.cv_results_["mean_test_score"], atol=1e-9
        )
        np.testing.assert_allclose(fit.weights[:, voxel], search.best_estimator_.coef_, atol=1e-4)


@pytest.mark.parametrize(
    ("shared", "p", "n"),
    [(True, 15, 5), pytest.param(False, 15, 12, marks=pytest.mark.slow), (True, 100, 5)],
)
def test_fit_ridge_nested_accuracy_equals_written_out_loops(
    rng: np.random.Generator, shared: bool, p: int, n: int
) -> None:
    """Accuracy per voxel equals an outer loop over folds around scikit-learn's grid search.

    In some of 40 voxels of hardly any signal each fold counts for which penalty is chosen.
    """
    features, responses = make_data(rng, 60, p, n, noise=15.0 if n == 5 else 40.0)
    folds = rng.permutation(np.arange(60) % 4)
    share = ["V1"] * n if shared else None
    fit = fit_ridge(features, responses, alphas=ALPHAS, folds=folds, share=share)
    r, r2, error = np.zeros((3, n))
    for fold in range(4):
        train, test = folds != fold, folds == fold
        for columns in [list(range(n))] if shared else [[i] for i in range(n)]:
            search = GridSearchCV(Ridge(), {"alpha": ALPHAS}, cv=PredefinedSplit(folds[train]))
            search.fit(features[train], responses[np.ix_(train, columns)])
            predicted = search.predict(features[test]).reshape(-1, len(columns))
            for i, voxel in enumerate(columns):
                measured = responses[test, voxel]
                r[voxel] += np.corrcoef(predicted[:, i], measured)[0, 1] / 4
                r2[voxel] += r2_score(measured, predicted[:, i]) / 4
                error[voxel] += np.square(measured - predicted[:, i]).sum()
    np.testing.assert_allclose(fit.cv_r, r, atol=1e-6)
    np.testing.assert_allclose(fit.cv_r2, r2, atol=1e-6)
    np.testing.assert_allclose(fit.residual_variance, error / 60, rtol=1e-5)


def test_fit_ridge_not_nested_uses_the_final_penalty(rng: np.random.Generator) -> None:
    """With nested=False R2 per voxel averages to the chosen penalty's score."""
    features, responses = make_data(rng, noise=20.0)
    folds = grouped_folds(range(120))
    fit = fit_ridge(features, responses, alphas=ALPHAS, folds=folds, share=[0] * 9, nested=False)
    assert fit.cv_r2.mean() == pytest.approx(fit.scores.max(), abs=1e-6)


def test_fit_ridge_random_features_score_zero(rng: np.random.Generator) -> None:
    """Features unrelated to the responses correlate 0 with them on held-out rows, not below."""
    features = rng.standard_normal((500, 30))
    responses = rng.standard_normal((500, 400))
    folds = grouped_folds(range(500))
    fit = fit_ridge(features, responses, alphas=[1e6, 1e8], folds=folds, share=[0] * 400)
    # The mean of 400 correlations of standard error 1 / sqrt(500) has standard error 0.0022.
    assert abs(fit.cv_r.mean()) < 0.008


def test_fit_ridge_batches_change_nothing(rng: np.random.Generator) -> None:
    """A memory limit that forces small batches gives the same fit."""
    features, responses = make_data(rng, 100, 20, 300, noise=20.0)
    folds = grouped_folds(range(100), seed=3)
    share = rng.integers(0, 3, 300)
    small = plan_memory(100, 20, 300, n_alphas=6, max_bytes=650_000)
    assert small.n_voxels_batch < 150
    for label in (share, None):
        options: dict[str, Any] = {"alphas": ALPHAS, "folds": folds, "share": label}
        whole = fit_ridge(features, responses, **options)
        parts = fit_ridge(features, responses, max_bytes=650_000, **options)
        np.testing.assert_array_equal(whole.alpha, parts.alpha)
        np.testing.assert_allclose(whole.weights, parts.weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(whole.cv_r, parts.cv_r, atol=1e-6)


@pytest.mark.slow
def test_fit_ridge_banded_equals_grid_search_over_scaled_features(
    rng: np.random.Generator,
) -> None:
    """Banded ridge is the best of grid searches over features scaled by each candidate."""
    bands = np.repeat(["early", "late"], [12, 30])
    features, responses = make_data(rng, 90, 42, 4, noise=1.0)
    responses[:, :2] = features[:, :12] @ rng.standard_normal((12, 2))
    responses += 5.0 * rng.standard_normal((90, 4))
    scales = sample_band_scales(2, 6, seed=1)
    fit = fit_ridge(
        features,
        responses,
        alphas=ALPHAS,
        folds=grouped_folds(range(90)),
        bands=bands,
        band_scales=scales,
    )
    assert fit.band_scales is not None
    for voxel in range(4):
        factors = [np.sqrt(row[[0, 1]])[(bands == "late").astype(int)] for row in scales]
        searches = [
            GridSearchCV(Ridge(), {"alpha": ALPHAS}).fit(features * factor, responses[:, voxel])
            for factor in factors
        ]
        best = int(np.argmax([search.best_score_ for search in searches]))
        assert fit.alpha[voxel] == searches[best].best_params_["alpha"]
        np.testing.assert_allclose(fit.band_scales[voxel], scales[best])
        expected = searches[best].best_estimator_.coef_ * factors[best]
        np.testing.assert_allclose(fit.weights[:, voxel], expected, atol=1e-5)
    assert (fit.band_scales[:2, 0] > 0.5).all()


def test_fit_ridge_banded_equals_himalaya(rng: np.random.Generator) -> None:
    """Given the same candidates, himalaya's group ridge chooses the same scales and weights."""
    from himalaya.ridge import solve_group_ridge_random_search
    from himalaya.scoring import r2_score as himalaya_r2

    features = rng.standard_normal((200, 16))
    weights = rng.standard_normal((16, 6))
    weights[8:] *= 0.02
    responses = features @ weights + 2.0 * rng.standard_normal((200, 6))
    folds = np.arange(200) // 40
    # himalaya centres once, over all rows, so give it folds whose means are 0 already.
    for values in (features, responses):
        for fold in range(5):
            values[folds == fold] -= values[folds == fold].mean(axis=0)
    scales = np.array([[0.5, 0.5], [0.99, 0.01], [0.01, 0.99]])
    bands = [0] * 8 + [1] * 8
    fit = fit_ridge(
        features, responses, alphas=ALPHAS, folds=folds, bands=bands, band_scales=scales
    )
    deltas, expected, _ = solve_group_ridge_random_search(
        [features[:, :8], features[:, 8:]],
        responses,
        n_iter=scales,
        alphas=ALPHAS,
        cv=KFold(5),
        score_func=himalaya_r2,
        return_weights=True,
        progress_bar=False,
    )
    assert fit.band_scales is not None
    np.testing.assert_allclose(np.exp(deltas) * fit.alpha, fit.band_scales.T, rtol=1e-6)
    np.testing.assert_allclose(fit.weights, expected, atol=1e-5)


@pytest.mark.parametrize("n_scales", [1, 3])
def test_fit_ridge_progress_counts_every_step_once(rng: np.random.Generator, n_scales: int) -> None:
    """From 1 to the number that was announced first, whatever the batches and candidates."""
    features, responses = make_data(rng, 60, 16, 300)
    bands = {
        "bands": [0] * 8 + [1] * 8,
        "band_scales": np.array([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9]]),
    }
    steps: list[tuple[int, int]] = []
    fit_ridge(
        features,
        responses,
        alphas=[1.0, 10.0],
        folds=np.arange(60) // 20,
        max_bytes=300_000,
        progress=lambda done, of: steps.append((done, of)),
        **(bands if n_scales > 1 else {}),  # type: ignore[arg-type]
    )
    n_steps = steps[0][1]
    assert n_steps % (2 * n_scales) == 0
    assert n_steps > 2 * n_scales
    assert steps == [(done, n_steps) for done in range(1, n_steps + 1)]


def test_sample_band_scales_rows_sum_to_one_and_repeat() -> None:
    """Candidates lie on the simplex, start with equal scales and depend on the seed alone."""
    scales = sample_band_scales(3, 50, seed=2)
    np.testing.assert_allclose(scales.sum(axis=1), 1.0)
    np.testing.assert_allclose(scales[0], 1 / 3)
    np.testing.assert_array_equal(scales, sample_band_scales(3, 50, seed=2))
    np.testing.assert_array_equal(sample_band_scales(3), sample_band_scales(3, 20, seed=0))


@pytest.mark.parametrize("counts", [(0, 20), (2, 0)])
def test_sample_band_scales_of_nothing_are_refused(counts: tuple[int, int]) -> None:
    """No band, or no candidate."""
    with pytest.raises(OptionError, match=rf"are needed; got {counts[0]} and {counts[1]}\. Use"):
        sample_band_scales(*counts)


@pytest.mark.parametrize("n_rows", [10, 11, 14])
def test_grouped_folds_without_repeats_equal_kfold(n_rows: int) -> None:
    """Distinct stimuli are dealt out as scikit-learn's KFold deals out rows."""
    folds = grouped_folds(range(n_rows), 4)
    for fold, (_, test) in enumerate(KFold(4).split(np.zeros(n_rows))):
        np.testing.assert_array_equal(np.flatnonzero(folds == fold), test)


def test_grouped_folds_repeats_stay_together(rng: np.random.Generator) -> None:
    """No stimulus lies in two folds, whatever the order of presentation and the seed."""
    shown = rng.integers(0, 40, 300)
    for seed in (None, 0, 1):
        folds = grouped_folds(shown, 5, seed)
        assert set(folds) == set(range(5))
        assert all(len(set(folds[shown == stimulus])) == 1 for stimulus in range(40))
        np.testing.assert_array_equal(check_folds(folds, shown), folds)


def test_grouped_folds_too_few_stimuli_says_how_many() -> None:
    """Folds without a stimulus are refused."""
    with pytest.raises(DataError, match=r"5 folds need at least 5 different stimuli; got 3"):
        grouped_folds(["a", "b", "c", "a"], 5)
    with pytest.raises(OptionError, match=r"n_folds must be at least 2; got 1"):
        grouped_folds(["a", "b"], 1)


def test_check_folds_straddling_stimulus_is_named() -> None:
    """A stimulus in two folds is refused by name; so are lengths that differ and a single fold."""
    with pytest.raises(DataError, match=r"'b.jpg' lies in 'test' and 'train'.*leave folds out"):
        check_folds(["train", "test", "train"], ["a.jpg", "b.jpg", "b.jpg"])
    with pytest.raises(ShapeError, match=r"one fold for each of the 2 rows; got shape \(3,\)"):
        check_folds([0, 1, 2], ["a", "b"])
    with pytest.raises(DataError, match=r"at least 2 folds are needed; got 1"):
        check_folds([0, 0], ["a", "b"])


def test_merge_duplicates_joins_names_and_copies() -> None:
    """Rows are joined by name, by identical features, and through both."""
    features = np.array([[1.0, 2], [3, 4], [1, 2], [5, 6], [3, 4]])
    groups = merge_duplicates(features, ["a", "b", "copy", "copy", "c"])
    np.testing.assert_array_equal(groups, [0, 1, 0, 0, 1])


def test_check_responses_bad_voxels_are_numbered(rng: np.random.Generator) -> None:
    """NaN and constant voxels are counted and numbered, with what to do."""
    responses = rng.standard_normal((10, 6))
    responses[3, 4] = np.nan
    with pytest.raises(DataError, match=r"CSI1 LOC: .* 1 of 6 are not finite \(voxels 4\)"):
        check_responses(responses, 10, "CSI1 LOC")
    responses[:, 4] = 2.0
    with pytest.raises(DataError, match=r'1 of 6 never vary \(voxels 4\).*invalid_voxels = "drop"'):
        check_responses(responses, 10, "CSI1 LOC")
    assert [list(bad) for bad in invalid_voxels(responses)] == [[], [4]]
    with pytest.raises(ShapeError, match=r"12 rows and at least one voxel; got \(10, 6\)"):
        check_responses(responses, 12, "CSI1 LOC")


def test_fit_ridge_voxel_constant_within_a_fold_counts_zero(rng: np.random.Generator) -> None:
    """A voxel that does not vary within a held-out fold scores 0 there, as in scikit-learn."""
    features, responses = make_data(rng, 50, 5, 3)
    responses[:10, 1] = 7.0
    fit = fit_ridge(
        features, responses, alphas=ALPHAS, folds=grouped_folds(range(50)), share=[0, 0, 0]
    )
    search = GridSearchCV(Ridge(), {"alpha": ALPHAS}).fit(features, responses)
    np.testing.assert_allclose(fit.scores[:, 0], search.cv_results_["mean_test_score"], atol=1e-9)
    assert np.isfinite(fit.cv_r).all()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("level", [0.0, 2.7])
def test_fit_ridge_single_precision_constant_within_a_fold_equals_double(
    rng: np.random.Generator, shared: bool, level: float
) -> None:
    """Rounding of voxels that a session does not reach, say, is no variation to be explained."""
    features, responses = make_data(rng, 300, 8, 20, noise=30.0, dtype=np.float32)
    responses[60:120, :5] = level * rng.uniform(1, 2, 5)
    options: dict[str, Any] = {
        "alphas": ALPHAS,
        "folds": grouped_folds(range(300)),
        "share": [0] * 20 if shared else None,
    }
    fit = fit_ridge(features, responses, **options)
    double = fit_ridge(features.astype(float), responses.astype(float), **options)
    np.testing.assert_array_equal(fit.alpha, double.alpha)
    for name in ("scores", "cv_r", "cv_r2"):
        np.testing.assert_allclose(getattr(fit, name), getattr(double, name), atol=1e-5)
    np.testing.assert_allclose(fit.residual_variance, double.residual_variance, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fit_ridge_one_feature_larger_than_all_others_equals_grid_search(
    rng: np.random.Generator, dtype: type[Any]
) -> None:
    """Of more features than rows none is lost beside one a million times as large."""
    features, responses = make_data(rng, 60, 90, 5, dtype=dtype)
    features[:, 0] *= 1e6
    alphas = np.logspace(1, 5, 5)
    folds = grouped_folds(range(60))
    fit = fit_ridge(features, responses, alphas=alphas, folds=folds, share=[0] * 5)
    search = GridSearchCV(Ridge(solver="svd"), {"alpha": alphas})
    search.fit(features.astype(float), responses.astype(float))
    np.testing.assert_allclose(fit.scores[:, 0], search.cv_results_["mean_test_score"], atol=1e-3)
    coef = search.best_estimator_.coef_.T
    np.testing.assert_allclose(fit.weights, coef, atol=1e-2 * np.abs(coef).max())


@pytest.mark.parametrize("p", [55, 90])
def test_fit_ridge_small_penalties_in_single_precision_equal_grid_search(
    rng: np.random.Generator, p: int
) -> None:
    """Axes along which the training rows do not vary take no part, however small the penalty."""
    features = rng.standard_normal((60, p)).astype(np.float32)
    responses = (features @ rng.standard_normal((p, 5)) + 5).astype(np.float32)
    alphas = np.logspace(-8, -4, 5)
    folds = grouped_folds(range(60))
    fit = fit_ridge(features, responses, alphas=alphas, folds=folds, share=[0] * 5)
    search = GridSearchCV(Ridge(solver="svd"), {"alpha": alphas})
    search.fit(features.astype(float), responses.astype(float))
    np.testing.assert_allclose(fit.scores[:, 0], search.cv_results_["mean_test_score"], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [6, 90, 900])
def test_fit_ridge_predictions_that_do_not_vary_within_a_fold_correlate_zero(
    rng: np.random.Generator, dtype: type[Any], p: int
) -> None:
    """Features of categories, each a fold, predict one value for the whole fold."""
    category = np.repeat(np.arange(6), 10)
    for _ in range(10):
        features = rng.standard_normal((6, p))[category].astype(dtype)
        responses = rng.standard_normal((6, 9))[category] + rng.standard_normal((60, 9))
        fit = fit_ridge(features, responses.astype(dtype), alphas=[1e-3, 1.0], folds=category)
        np.testing.assert_array_equal(fit.cv_r, 0)


def test_fit_ridge_refuses_what_does_not_fit(rng: np.random.Generator) -> None:
    """Each unusable argument has its own message."""
    features, responses = make_data(rng, 30, 4, 3)
    folds = grouped_folds(range(30))

    def fit(**changes: Any) -> None:
        options: dict[str, Any] = {
            "features": features,
            "responses": responses,
            "alphas": ALPHAS,
            "folds": folds,
        }
        options |= changes
        fit_ridge(options.pop("features"), options.pop("responses"), **options)

    with pytest.raises(OptionError, match=r"alphas must be a list of numbers above 0; got \[0\]"):
        fit(alphas=[0])
    for alphas in ([], [[1.0, 10.0]], [1.0, np.inf]):
        with pytest.raises(OptionError, match=r"alphas must be a list of numbers above 0; got \["):
            fit(alphas=alphas)
    with pytest.raises(OptionError, match=r"nested cross-validation needs at least 3 folds; got 2"):
        fit(folds=grouped_folds(range(30), 2))
    with pytest.raises(ShapeError, match=r"one row for each of the 30 fold labels; got \(29, 4\)"):
        fit(features=features[1:])
    with pytest.raises(DataError, match=r"features must be finite; row 2, feature 1 is nan"):
        broken = features.copy()
        broken[2, 1] = np.nan
        fit(features=broken)
    with pytest.raises(ShapeError, match=r"responses must have shape .* 30 rows .*got \(30,\)"):
        fit(responses=responses[:, 0])
    with pytest.raises(DataError, match=r"1 of 3 are not finite .voxels 2."):
        broken = responses.copy()
        broken[5, 2] = np.inf
        fit(responses=broken)
    with pytest.raises(DataError, match=r"got folds of \[29, 0, 1\] rows"):
        fit(folds=np.array([0] * 29 + [2]))
    with pytest.raises(ShapeError, match=r"share must have one label for each of the 3 voxels"):
        fit(share=["V1"])
    with pytest.raises(ShapeError, match=r"needs a band for each of the 4 features"):
        fit(bands=["a"], band_scales=[[1.0]])
    with pytest.raises(ShapeError, match="and band_scales; got none bands"):
        fit(band_scales=[[1.0]])
    with pytest.raises(ShapeError, match=r"shape \(n_candidates, 2\); got \(1, 3\)"):
        fit(bands=[0, 0, 1, 1], band_scales=[[1.0, 2.0, 3.0]])
    with pytest.raises(OptionError, match=r"not below 0 and not all 0"):
        fit(bands=[0, 0, 1, 1], band_scales=[[0.0, 0.0]])
    with pytest.raises(OptionError, match=r"needs at least .* MB for 30 stimuli"):
        fit(max_bytes=1000)


def test_plan_memory_counts_what_is_held() -> None:
    """Ten stimuli, 20 features, 5 voxels, 3 penalties and 2 folds, counted by hand.

    Ten centred rows have 9 axes: projections 10 x 9, axes 20 x 9, squares of 9 x 9 for 2 folds and
    6 at work. Nested, 3 choices and 4 sets of training folds. A voxel has 8 vectors of 9, two of
    the 5 rows of a fold and two of 20 features, and, if kept, rotations of 2 folds.
    """
    axes = 4 * 81
    fixed = 8 * (10 * 9 + 20 * 9 + 81 * (2 + 6))
    result = 4 * 5 * (20 + 16) + 8 * 5 * 3 * (3 * 3 + 3)
    voxel, rotations = 8 * (8 * 9 + 2 * 5 + 2 * 20), 16 * 2 * 9
    options: dict[str, Any] = {"n_alphas": 3, "n_folds": 2}
    ample = plan_memory(10, 20, 5, **options)
    assert ample.fixed_bytes == fixed + 8 * axes
    assert ample.batch_bytes == 5 * (voxel + rotations)
    assert (ample.result_bytes, ample.n_voxels_batch) == (result, 5)
    assert ample.keep_axes
    assert ample.keep_rotations
    assert ample.peak_bytes == ample.fixed_bytes + ample.batch_bytes + ample.result_bytes
    # Kept only as long as they take no more than half of the room.
    least = 2 * (fixed + result + 8 * axes)
    assert plan_memory(10, 20, 5, **options, max_bytes=least).keep_axes
    tight = plan_memory(10, 20, 5, **options, max_bytes=least - 2)
    assert not tight.keep_axes
    assert tight.fixed_bytes == fixed + 8 * 81
    once = plan_memory(10, 20, 5, **options, nested=False)
    assert once.result_bytes == 4 * 5 * (20 + 16) + 8 * 5 * 3 * (3 + 3)
    assert once.fixed_bytes == fixed + 8 * 3 * 81
    many = fixed + result + 8 * axes + 5 * voxel
    assert plan_memory(10, 20, 5, **options, max_bytes=2 * many).keep_rotations
    few = f"{(fixed + 8 * 81 + result + 64 * voxel) / 1e6:,.1f}"
    with pytest.raises(OptionError, match=rf"needs at least {few} MB for 10 stimuli x 20 features"):
        plan_memory(10, 20, 5, **options, max_bytes=fixed)
    # Ten thousand features, of which a batch of 64 voxels takes 10.3 MB.
    with pytest.raises(OptionError, match=r"needs at least 14\.5 MB for 20 stimuli x 10000"):
        plan_memory(20, 10_000, 64, **options, max_bytes=1_000_000)


def test_plan_memory_bounds_what_is_allocated(rng: np.random.Generator) -> None:
    """The measured peak of a fit stays below the plan's and the plan is not far above it."""
    import tracemalloc

    features, responses = make_data(rng, 600, 80, 3000, dtype=np.float32)
    limit = 30_000_000
    plan = plan_memory(600, 80, 3000, n_alphas=2, max_bytes=limit)
    assert plan.n_voxels_batch < 3000
    tracemalloc.start()
    fit_ridge(
        features, responses, alphas=[10.0, 100.0], folds=grouped_folds(range(600)), max_bytes=limit
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.3 * plan.peak_bytes < peak < plan.peak_bytes <= limit

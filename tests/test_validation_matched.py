"""Matched-pattern validation at four levels, and its controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from threadpoolctl import threadpool_limits

from imgtofmri.analyses.validate import (
    Comparison,
    encoding_accuracy,
    matched_patterns,
    roi_means_accuracy,
)
from imgtofmri.analyses.validate.features import leave_one_out_map, matched_features
from imgtofmri.encoder import Control, Prediction
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.measured.patterns import Patterns
from imgtofmri.stats import correlation_matrix, fdr, permutation_pearson, permutations
from imgtofmri.stimuli import luminance_features

NAMES = tuple(f"image{number:02d}.jpg" for number in range(24))
CATEGORIES = {name: ("face", "house", "tool")[at // 8] for at, name in enumerate(NAMES)}
ROIS = {"front": np.arange(60) < 25, "back": np.arange(60) >= 40}


def made(
    rng: np.random.Generator, signal: float, n_people: int = 3
) -> tuple[Patterns, Patterns, dict[str, Patterns]]:
    """Make predictions, people's noisy patterns of the same images, and their mean."""
    true = rng.standard_normal((24, 60))
    people = {
        f"subj{at}": Patterns(NAMES, signal * true + rng.standard_normal(true.shape))
        for at in range(n_people)
    }
    mean = Patterns(NAMES, np.mean([part.values for part in people.values()], axis=0))
    return Patterns(NAMES, true), mean, people


def compared(
    rng: np.random.Generator, signal: float, n_people: int = 3, **changes: Any
) -> Comparison:
    """Compare them in two ROIs and three categories."""
    whole = Comparison(*made(rng, signal, n_people), rois=ROIS, categories=CATEGORIES)
    return replace(whole, **changes)


def features_table(comparison: Comparison, features: np.ndarray, **changes: Any) -> pd.DataFrame:
    """Test features that are no picture's luminance."""
    how = {"exchange": "category", "n_permutations": 99, "seed": 0}
    how |= {"missing": "error", "unmatched": "error"}
    return matched_features(comparison, NAMES, features, "luminance", **(how | changes))


def left_out_predictions(
    features: np.ndarray, responses: np.ndarray, penalty: float = 1.0
) -> np.ndarray:
    """Fit ridge regression anew without each image, with scikit-learn."""
    centred = features - features.mean(axis=0)
    alpha = penalty * np.sum(centred**2) / len(features)
    return cross_val_predict(Ridge(alpha=alpha), features, responses, cv=LeaveOneOut())


def difference(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Write out the statistic."""
    r = correlation_matrix(predicted, measured)
    return float(np.diag(r).mean() - r[~np.eye(len(r), dtype=bool)].mean())


def test_matched_patterns_statistics_equal_each_level_written_out(
    rng: np.random.Generator,
) -> None:
    """Every row is the statistic of its own voxels, images or participant."""
    predicted, group, people = made(rng, 0.5)
    comparison = Comparison(predicted, group, people, rois=ROIS, categories=CATEGORIES)
    result = matched_patterns(comparison, n_permutations=50, n_bootstraps=20)
    got = result.table.set_index(["level", "name"])["statistic"]
    p, m = predicted.values, group.values
    assert got["group", "group"] == pytest.approx(difference(p, m))
    for name, voxels in ROIS.items():
        assert got["roi", name] == pytest.approx(difference(p[:, voxels], m[:, voxels]))
    for at, name in enumerate(("face", "house", "tool")):
        rows = slice(8 * at, 8 * at + 8)
        assert got["category", name] == pytest.approx(difference(p[rows], m[rows]))
    for name, part in people.items():
        assert got["participant", name] == pytest.approx(difference(p, part.values))
    assert len(got) == 1 + 2 + 3 + 3 == result.null.shape[1]
    assert result.table["n_images"].tolist() == [24] * 3 + [8] * 3 + [24] * 3
    assert result.table["n_voxels"].tolist() == [60, 25, 20, *[60] * 6]
    for _, part in result.table.groupby("level"):
        np.testing.assert_allclose(part["p_fdr"], fdr(part["p"]))
        assert (part["p_max"] >= part["p"] - 1e-12).all()


def test_matched_patterns_category_against_all_images_equals_written_out(
    rng: np.random.Generator,
) -> None:
    """With exchange="all" an image of the category is compared with predictions for all others."""
    predicted, group, _ = made(rng, 0.5)
    comparison = Comparison(predicted, group, categories=CATEGORIES)
    result = matched_patterns(comparison, exchange="all", n_permutations=50, n_bootstraps=200)
    r = correlation_matrix(predicted.values, group.values)
    off = ~np.eye(24, dtype=bool)
    columns = np.arange(24) // 8 == 1
    expected = np.diag(r)[columns].mean() - r[:, columns][off[:, columns]].mean()
    row = result.table.query("name == 'house'").iloc[0]
    assert row["statistic"] == pytest.approx(expected)
    assert row["lower"] < expected < row["upper"]


def test_rois_of_0_and_1_are_masks_and_others_are_refused(rng: np.random.Generator) -> None:
    """ROIs of whole numbers, as images hold them, choose the voxels that booleans do."""
    whole = compared(rng, 0.5)
    numbers = replace(whole, rois={name: 1 * region for name, region in ROIS.items()})
    for analysis in (matched_patterns, encoding_accuracy, roi_means_accuracy):
        expected = analysis(whole, n_permutations=9).table
        pd.testing.assert_frame_equal(analysis(numbers, n_permutations=9).table, expected)
    with pytest.raises(DataError, match="^the ROI V1 must hold 0 and 1; got 59 voxels of other"):
        replace(whole, rois={"V1": np.arange(1, 61)})
    labels = np.arange(60)[None]
    with pytest.raises(DataError, match="^regions must hold 0 and 1; got 58 voxels of other"):
        permutation_pearson(whole.predicted.values, whole.group.values, 9, regions=labels)


@pytest.mark.parametrize("exchange", ["category", "all"])
def test_matched_patterns_of_two_or_three_images_have_no_interval(
    exchange: Any, rng: np.random.Generator
) -> None:
    """Two images have one resample with both: its interval had no width and was never right."""
    sizes = {"pair": 2, "three": 3, "four": 4, "rest": 15}
    labels = [name for name, size in sizes.items() for _ in range(size)]
    predicted, group, _ = made(rng, 0.5)
    comparison = Comparison(predicted, group, categories=dict(zip(NAMES, labels, strict=True)))
    table = matched_patterns(comparison, exchange=exchange, n_permutations=20).table
    unknown = table.set_index("name")[["lower", "upper"]].isna().all(axis=1)
    assert unknown[["pair", "three"]].all()
    assert not unknown[["group", "four", "rest"]].any()


@pytest.mark.slow
def test_matched_patterns_true_null_gives_uniform_p_at_every_level(
    rng: np.random.Generator,
) -> None:
    """Over data sets of unrelated patterns, p is uniform in each level's first test."""
    n_sets = 1000
    levels = ("group", "roi", "category", "participant")
    p = {level: np.empty(n_sets) for level in levels}
    any_found = {level: 0 for level in levels}
    for data_set in range(n_sets):
        comparison = compared(rng, 0.0, n_people=2)
        table = matched_patterns(comparison, n_permutations=99, n_bootstraps=2, seed=data_set).table
        for level in levels:
            rows = table[table["level"] == level]
            p[level][data_set] = rows["p"].iloc[0]
            any_found[level] += int(rows["p_max"].min() <= 0.05)
    for level in levels:
        assert kstest(p[level] - 0.5 / 100, "uniform").pvalue > 0.01, level
        # The family-wise error of the maximum statistic, within four standard errors.
        assert any_found[level] < n_sets * (0.05 + 4 * np.sqrt(0.05 * 0.95 / n_sets)), level


def test_matched_patterns_planted_effect_is_found_at_every_level(rng: np.random.Generator) -> None:
    """A strong signal is found in every row, with an interval that excludes 0."""
    table = matched_patterns(compared(rng, 1.0), n_permutations=999, n_bootstraps=300).table
    assert (table["p_max"] <= 0.01).all()
    assert (table["lower"] > 0).all()
    assert (table["lower"] < table["statistic"]).all()
    assert (table["statistic"] < table["upper"]).all()
    assert (table["z"] > 3).all()


def test_matched_patterns_leaves_out_and_averages(rng: np.random.Generator) -> None:
    """Images left out by name change nothing but their absence; no group means the mean."""
    predicted, group, people = made(rng, 0.5)
    kept = [at for at in range(24) if at not in (3, 7)]
    left_out = Comparison(predicted, None, people, leave_out=(NAMES[3], "image07"))
    result = matched_patterns(left_out, n_permutations=20, n_bootstraps=5)
    assert result.names == tuple(NAMES[at] for at in kept)
    without = Comparison(
        predicted.at(kept),
        group.at(kept),
        {name: part.at(kept[::-1]) for name, part in people.items()},
    )
    expected = matched_patterns(without, n_permutations=20, n_bootstraps=5)
    np.testing.assert_allclose(
        result.table.drop(columns=["model", "level", "name"]).to_numpy(),
        expected.table.drop(columns=["model", "level", "name"]).to_numpy(),
    )


def test_matched_patterns_same_seed_same_table(rng: np.random.Generator) -> None:
    """The seed fixes every number."""
    comparison = compared(rng, 0.3)
    settings = {"n_permutations": 200, "n_bootstraps": 50}
    first = matched_patterns(comparison, seed=5, **settings)
    again = matched_patterns(comparison, seed=5, **settings)
    other = matched_patterns(comparison, seed=6, **settings)
    np.testing.assert_array_equal(first.null, again.null)
    assert first.table.equals(again.table)
    assert not np.array_equal(first.null, other.null)


def test_matched_patterns_thread_count_changes_no_p(rng: np.random.Generator) -> None:
    """One BLAS thread or two: the same p values, and the same statistics but for rounding."""
    comparison = compared(rng, 0.1)
    tables = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            result = matched_patterns(comparison, n_permutations=500, n_bootstraps=50)
            tables.append(result.table)
    exact = ["p", "p_fdr", "p_max", "n_images", "n_voxels"]
    np.testing.assert_array_equal(tables[0][exact], tables[1][exact])
    rounded = ["statistic", "lower", "upper", "null_mean", "null_sd", "z"]
    np.testing.assert_allclose(tables[0][rounded], tables[1][rounded], rtol=1e-9, atol=1e-12)


def test_matched_patterns_missing_voxels_dropped_from_all_sets(rng: np.random.Generator) -> None:
    """A voxel that one person lacks is refused, or dropped everywhere, ROIs included."""
    comparison = compared(rng, 0.5, categories=None)
    comparison.participants["subj1"].values[4, :30] = np.nan
    with pytest.raises(DataError, match=r"every voxel .* data in subj1; 30 of 60 do not"):
        matched_patterns(comparison)
    back = replace(comparison, rois={"back": ROIS["back"]})
    table = matched_patterns(back, missing="drop", n_permutations=9).table
    assert table["n_voxels"].tolist() == [30, 20, 30, 30, 30]
    with pytest.raises(DataError, match=r"ROI front must have two voxels with data .* it has 0"):
        matched_patterns(comparison, missing="drop", n_permutations=9)


def test_matched_patterns_errors_name_the_item(rng: np.random.Generator) -> None:
    """Category, participant, ROI and option at fault are named."""
    predicted, group, people = made(rng, 0.5)
    whole = Comparison(predicted, group)
    some = {name: c for name, c in CATEGORIES.items() if name != "image05.jpg"}
    with pytest.raises(
        DataError, match=r"every image must have one category; 'image05.jpg' has no"
    ):
        matched_patterns(replace(whole, categories=some))
    with pytest.raises(DataError, match=r"two images or more; 'alone' has one"):
        matched_patterns(replace(whole, categories=CATEGORIES | {"image05.jpg": "alone"}))
    short = people | {"subj2": group.at(range(1, 24))}
    with pytest.raises(DataError, match=r"^participant subj2: .* 1 only predicted \(image00"):
        matched_patterns(replace(whole, participants=short))
    with pytest.raises(ShapeError, match=r"^the ROI small must be a mask over the 60 voxels"):
        replace(whole, rois={"small": np.ones(5, bool)})
    with pytest.raises(OptionError, match=r"^exchange must be one of category, all; got 'rows'"):
        matched_patterns(whole, exchange="rows")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^the measured patterns: expected one or more sets"):
        matched_patterns(Comparison(predicted))
    flat = Patterns(NAMES, predicted.values.copy())
    flat.values[2, ROIS["front"]] = 7.0
    with pytest.raises(DataError, match=r"^ROI front: .*predicted image 'image02.jpg' is constant"):
        matched_patterns(Comparison(flat, group, rois=ROIS))
    people["subj0"].values[3] = 1.0
    with pytest.raises(DataError, match=r"^participant subj0: .*measured image 'image03.jpg'"):
        matched_patterns(replace(whole, participants=people))
    with pytest.raises(DataError, match=r"needs at least 2 images; got 1"):
        matched_patterns(Comparison(predicted.at([0]), group.at([0])))


def test_matched_patterns_controls_stand_beside_the_encoder(
    rng: np.random.Generator, make_prediction: Callable[..., Prediction], tmp_path: Path
) -> None:
    """A control's rows are those that it has as the prediction, or as features, by itself."""
    own = make_prediction(rng, folder=tmp_path)
    other = replace(make_prediction(rng), mask=own.mask)
    noisy = own.group + rng.standard_normal(own.group.shape)
    measured = Patterns(own.names, noisy, own.mask, own.affine)
    comparison = Comparison(
        Patterns.from_prediction(own), measured, rois={"PPA": own.roi_mask("PPA")}
    )
    controls = [
        Control("untrained", other, own.sources, center_crop=False),
        Control("luminance", None, own.sources, center_crop=False),
    ]
    how = {"n_permutations": 99, "n_bootstraps": 20}
    both = matched_patterns(comparison, controls, **how)
    tables = dict(list(both.table.groupby("model", sort=False)))
    assert list(tables) == ["encoder", "untrained", "luminance"]
    alone = matched_patterns(comparison, **how)
    pd.testing.assert_frame_equal(tables["encoder"], alone.table)
    np.testing.assert_array_equal(both.null, alone.null)
    swapped = replace(comparison, predicted=Patterns.from_prediction(other))
    numbers = alone.table.columns[3:]
    np.testing.assert_array_equal(
        tables["untrained"][numbers], matched_patterns(swapped, **how).table[numbers]
    )
    _, features = luminance_features(own.sources, center_crop=False)
    fitted = left_out_predictions(features, noisy)
    got = tables["luminance"].set_index("level")["statistic"]
    assert got["group"] == pytest.approx(difference(fitted, noisy))
    inside = own.roi_mask("PPA")
    assert got["roi"] == pytest.approx(difference(fitted[:, inside], noisy[:, inside]))


def test_matched_patterns_controls_are_compared_in_the_encoders_voxels(
    rng: np.random.Generator, make_prediction: Callable[..., Prediction]
) -> None:
    """A control's voxels outside the comparison's mask take no part; another grid is refused."""
    own = make_prediction(rng)
    some = np.arange(30) % 3 > 0
    predicted = Patterns.from_prediction(own).within(some)
    comparison = Comparison(predicted, predicted)
    control = Control("untrained", own, (), center_crop=False)
    table = matched_patterns(comparison, [control], n_permutations=9, n_bootstraps=9).table
    assert table["n_voxels"].tolist() == [20, 20]
    assert table["statistic"].nunique() == 1
    moved = Control("untrained", replace(own, affine=own.affine + 1.0), (), center_crop=False)
    with pytest.raises(ShapeError, match=r"^the control, against the predictions: .* affines"):
        matched_patterns(comparison, [moved], n_permutations=9, n_bootstraps=9)


def test_leave_one_out_map_equals_scikit_learn(rng: np.random.Generator) -> None:
    """The closed form equals fitting ridge regression anew without each image."""
    features, responses = 5 + rng.standard_normal((15, 6)), 3 + rng.standard_normal((15, 4))
    expected = left_out_predictions(features, responses, penalty=0.7)
    np.testing.assert_allclose(leave_one_out_map(features, 0.7) @ responses, expected, atol=1e-10)


def test_features_statistic_equals_fitted_predictions(rng: np.random.Generator) -> None:
    """Every row is the statistic of scikit-learn's leave-one-out predictions, written out."""
    comparison = compared(rng, 1.0)
    features = comparison.predicted.values[:, :10]
    table = features_table(comparison, features).set_index(["level", "name"])
    measured = comparison.group.values
    own = left_out_predictions(features, measured)
    expected = {("group", "group"): difference(own, measured)}
    for name, voxels in ROIS.items():
        expected["roi", name] = difference(own[:, voxels], measured[:, voxels])
    for at, name in enumerate(("face", "house", "tool")):
        rows = slice(8 * at, 8 * at + 8)
        expected["category", name] = difference(own[rows], measured[rows])
    for name, person in comparison.participants.items():
        fitted = left_out_predictions(features, person.values)
        expected["participant", name] = difference(fitted, person.values)
    assert table["statistic"].to_dict() == pytest.approx(expected)
    assert table["n_images"].tolist() == [24] * 3 + [8] * 3 + [24] * 3
    assert table["n_voxels"].tolist() == [60, 25, 20, *[60] * 6]


@pytest.mark.parametrize("exchange", ["category", "all"])
def test_features_null_is_of_the_categories_of_measured_images(
    exchange: Any, rng: np.random.Generator
) -> None:
    """Features are exchanged, not which image is of which category."""
    features, shared = rng.standard_normal((24, 3)), rng.standard_normal((3, 60))
    # People see that faces are alike, and houses vary most.
    spread = np.repeat([1.0, 3.0, 0.5], 8)[:, None]
    measured = np.repeat(shared, 8, axis=0) + spread * rng.standard_normal((24, 60))
    group = Patterns(NAMES, measured)
    comparison = Comparison(group, group, categories=CATEGORIES)
    table = features_table(comparison, features, exchange=exchange, n_permutations=30)
    labels = np.arange(24) // 8
    drawn = permutations(24, 30, 0, labels if exchange == "category" else None)
    expected = []
    for order in np.concatenate(list(drawn)):
        r = correlation_matrix(
            left_out_predictions(features[np.argsort(order)], measured), measured
        )
        for category in range(3):
            inside = labels == category
            rows = inside if exchange == "category" else np.ones(24, dtype=bool)
            off = np.outer(rows, inside) & ~np.eye(24, dtype=bool)
            expected.append(np.diag(r)[inside].mean() - r[off].mean())
    null = np.reshape(expected, (30, 3))
    got = table[table["level"] == "category"]
    np.testing.assert_allclose(got["null_mean"], null.mean(axis=0), atol=1e-10)
    reached = (null >= got["statistic"].to_numpy() - 1e-9).sum(axis=0)
    np.testing.assert_allclose(got["p"], (reached + 1) / 31)


@pytest.mark.slow
@pytest.mark.parametrize("n_sets", [80, pytest.param(1000, marks=pytest.mark.long)])
def test_features_true_null_is_uniform_though_the_map_is_fitted(
    rng: np.random.Generator, n_sets: int
) -> None:
    """Over data sets with features unrelated to responses, p is uniform."""
    p = np.empty((n_sets, 2))
    for data_set in range(len(p)):
        group = Patterns(NAMES, rng.standard_normal((24, 20)))
        features = rng.standard_normal((24, 3))
        comparison = Comparison(group, group, categories=CATEGORIES)
        p[data_set] = features_table(comparison, features, seed=data_set)["p"].iloc[:2]
    assert kstest(p[:, 0] - 0.5 / 100, "uniform").pvalue > 0.01
    assert kstest(p[:, 1] - 0.5 / 100, "uniform").pvalue > 0.01


def test_features_that_drive_responses_are_found(rng: np.random.Generator) -> None:
    """Features that drive the responses linearly are found."""
    features = rng.standard_normal((24, 3))
    driven = features @ rng.standard_normal((3, 60)) + 0.5 * rng.standard_normal((24, 60))
    group = Patterns(NAMES, driven)
    table = features_table(Comparison(group, group), features, n_permutations=199)
    assert table["p"].iloc[0] == 1 / 200


def test_features_that_cannot_be_fitted_are_refused(rng: np.random.Generator) -> None:
    """Equal features, a penalty of none, and a participant's flat pattern are named."""
    comparison = compared(rng, 0.5)
    with pytest.raises(DataError, match=r"features must differ between images; all are the same"):
        features_table(comparison, np.full((24, 2), 0.3))
    with pytest.raises(OptionError, match=r"^penalty must be above 0; got 0"):
        leave_one_out_map(rng.random((24, 2)), penalty=0)
    comparison.participants["subj0"].values[3] = 1.0
    with pytest.raises(DataError, match=r"^participant subj0: .*image 'image03.jpg' is constant"):
        features_table(comparison, rng.random((24, 2)))

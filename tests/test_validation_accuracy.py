"""Encoding accuracy: maps and ROI summaries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, pearsonr, sem, ttest_1samp, zscore
from scipy.stats import t as student
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from imgtofmri.analyses.validate import Comparison, encoding_accuracy, roi_means_accuracy
from imgtofmri.encoder import Control, Prediction
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.measured.patterns import Patterns
from imgtofmri.stats import explained_variance, permutations
from imgtofmri.stimuli import luminance_features

NAMES = tuple(f"image{number:02d}.jpg" for number in range(40))
MASK = np.zeros((5, 4, 3), bool)
MASK.ravel()[:50] = True
ROIS = {"strong": np.arange(50) < 20, "none": np.arange(50) >= 30}


def compared(rng: np.random.Generator) -> Comparison:
    """Make predictions and three repeats; only the first 20 voxels respond to the images."""
    true = rng.standard_normal((40, 50))
    true[:, 20:] *= 0
    predicted = true + 0.3 * rng.standard_normal(true.shape)
    repeats = tuple(
        Patterns(NAMES, true + rng.standard_normal(true.shape), MASK, np.eye(4)) for _ in range(3)
    )
    return Comparison(Patterns(NAMES, predicted, MASK, np.eye(4)), repeats=repeats, rois=ROIS)


def r_of(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Correlate each voxel over images, one after another."""
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(predicted.T, measured.T, strict=True)])


def test_encoding_accuracy_maps_equal_each_voxel_by_itself(rng: np.random.Generator) -> None:
    """Each map is what SciPy, scikit-learn and loops over shuffled images give, paired by name."""
    comparison = compared(rng)
    x = comparison.predicted.values
    stack = np.array([part.values for part in comparison.repeats])
    y = stack.mean(axis=0)
    shuffled = tuple(part.at(rng.permutation(40)) for part in comparison.repeats)
    result = encoding_accuracy(replace(comparison, repeats=shuffled), n_permutations=99)
    null = np.array([r_of(x[order], y) for order in next(permutations(40, 99))])
    left_out = np.array([r_of(np.delete(x, at, 0), np.delete(y, at, 0)) for at in range(40)])
    r = np.array([pearsonr(x[:, at], y[:, at]).statistic for at in range(50)])
    p = (1 + (null >= r).sum(axis=0)) / 100
    # Of one repeat's variance, what the sum over repeats has beyond independent noise is signal.
    each = stack.var(axis=1)
    explainable = (stack.sum(axis=0).var(axis=0) - each.sum(axis=0)) / 6 / each.mean(axis=0)
    signal = np.clip(explainable, 0, 1)
    r_max = np.sqrt(signal / (signal + (1 - signal) / 3))
    pseudo = 40 * np.arctanh(r) - 39 * np.arctanh(left_out)
    half = student.ppf(0.975, 39) * sem(pseudo)
    expected = {
        "r": r,
        "r2": r2_score(y, x, multioutput="raw_values"),
        "lower": np.tanh(pseudo.mean(axis=0) - half),
        "upper": np.tanh(pseudo.mean(axis=0) + half),
        "p": p,
        "p_fdr": false_discovery_control(p),
        "p_max": (1 + (null.max(axis=1)[:, None] >= r).sum(axis=0)) / 100,
        "explainable": explainable,
        "r_max": r_max,
        "r_normalised": np.where(r_max >= 0.1, r / np.maximum(r_max, 0.1), np.nan),
    }
    assert set(result.maps) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(result.maps[name], values, atol=1e-12, err_msg=name)
    assert result.ceiling_method == "signal-power"


def test_encoding_accuracy_is_normalised_by_the_ceiling_of_what_it_is_of(
    rng: np.random.Generator,
) -> None:
    """A perfect model reaches the ceiling of two noisy repeats, whatever else was measured."""
    names = tuple(f"{number}.jpg" for number in range(400))
    true = rng.standard_normal((400, 20))
    repeats = tuple(Patterns(names, true + rng.standard_normal(true.shape)) for _ in range(2))
    quiet = Patterns(names, true + 0.1 * rng.standard_normal(true.shape))
    comparison = Comparison(Patterns(names, true), quiet, repeats=repeats)
    maps = encoding_accuracy(comparison, n_permutations=9).maps
    r = r_of(true, np.mean([part.values for part in repeats], axis=0))
    np.testing.assert_allclose(maps["r_normalised"], r / maps["r_max"])
    assert maps["r_normalised"].mean() == pytest.approx(1, abs=0.03)
    assert maps["r"].mean() > 0.98


def test_encoding_accuracy_images_lie_where_the_voxels_do(rng: np.random.Generator) -> None:
    """A map's image holds its values, NaN outside, and says that it is on the template's grid."""
    result = encoding_accuracy(compared(rng), n_permutations=9)
    image = result.to_img("r")
    assert image.header.get_intent() == ("correlation", (len(result.names) - 2.0,), "")
    assert result.to_img("p_max").header.get_intent()[0] == "p value"
    np.testing.assert_array_equal(image.get_fdata()[MASK], result.maps["r"].astype(np.float32))
    assert np.isnan(image.get_fdata()[~MASK]).all()
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (4, 4)
    np.testing.assert_array_equal(image.affine, np.eye(4))


@pytest.mark.slow
def test_encoding_accuracy_table_summarises_each_roi(rng: np.random.Generator) -> None:
    """Rows are the ROI's means; the planted ROI is found and the empty one is not."""
    comparison = compared(rng)
    result = encoding_accuracy(comparison, n_permutations=499)
    table = result.table.set_index("roi")
    assert list(table.index) == ["all", "strong", "none"]
    for roi, voxels in ROIS.items():
        assert table.loc[roi, "mean_r"] == pytest.approx(result.maps["r"][voxels].mean())
        share = result.maps["explainable"][voxels].mean()
        assert table.loc[roi, "explainable"] == pytest.approx(share)
        assert table.loc[roi, "n_voxels"] == voxels.sum()
        assert table.loc[roi, "lower"] < table.loc[roi, "mean_r"] < table.loc[roi, "upper"]
    assert table.loc["strong", "n_significant"] == 20
    assert table.loc["none", "n_significant"] <= 1
    assert table.loc["strong", "lower"] > 0.5
    assert table.loc["strong", "p"] == 1 / 500
    assert table.loc["none", "p"] > 0.05
    x = comparison.predicted.values
    y = np.mean([part.values for part in comparison.repeats], axis=0)
    null = np.array([r_of(x[order], y) for order in next(permutations(40, 499))])
    p = [
        (1 + (null[:, voxels].mean(axis=1) >= result.maps["r"][voxels].mean()).sum()) / 500
        for voxels in (np.ones(50, bool), *ROIS.values())
    ]
    np.testing.assert_allclose(table["p"], p)
    np.testing.assert_allclose(table["p_fdr"], [p[0], *false_discovery_control(p[1:])])
    assert {roi: region.sum() for roi, region in result.regions.items()} == {
        "all": 50, "strong": 20, "none": 20,
    }  # fmt: skip
    assert table.loc["none", "lower"] < 0 < table.loc["none", "upper"]
    stack = np.array([part.values for part in comparison.repeats])
    found = explained_variance(x, stack, np.array([ROIS["strong"]])).columns()
    for name, values in found.items():
        assert table.loc["strong", name] == pytest.approx(values[0])
    # The model is the truth and a little noise; without signal nothing is said.
    true = 1 / (1 + 0.3**2)
    assert table.loc["strong", "explained_lower"] < true < table.loc["strong", "explained_upper"]
    assert table.loc["none", "explainable_lower"] < 0 < table.loc["none", "explainable_upper"]
    assert np.isnan(table.loc["none", "explained"])


def test_encoding_accuracy_leaves_out_images_and_drops_voxels(rng: np.random.Generator) -> None:
    """Images left out are left out of the repeats too; voxels without data are NaN in maps."""
    comparison = replace(compared(rng), rois={}, leave_out=("image00",))
    comparison.repeats[1].values[5, 7] = np.nan
    with pytest.raises(DataError, match=r"data in the measured patterns; 1 of 50 do not"):
        encoding_accuracy(comparison)
    result = encoding_accuracy(comparison, missing="drop", n_permutations=9)
    assert len(result.names) == 39
    for values in result.maps.values():
        assert np.isnan(values[7])
    assert result.table["n_voxels"].tolist() == [49]


def test_encoding_accuracy_without_repeats_has_no_ceiling(rng: np.random.Generator) -> None:
    """One measurement gives accuracy without a ceiling."""
    comparison = compared(rng)
    once = Comparison(comparison.predicted, comparison.repeats[0])
    result = encoding_accuracy(once, n_permutations=9)
    assert result.ceiling_method is None
    assert result.settings["ceiling_method"] is None
    assert "r_max" not in result.maps
    assert "explained" not in result.table
    with pytest.raises(OptionError, match="ceiling_method must be one of signal-power"):
        encoding_accuracy(once, ceiling_method="split")  # type: ignore[arg-type]


def test_encoding_accuracy_of_controls_stands_beside_the_encoder(
    rng: np.random.Generator, make_prediction: Callable[..., Prediction], tmp_path: Path
) -> None:
    """A network's rows are its own analysis; luminance has scikit-learn's left-out predictions."""
    own = make_prediction(rng, folder=tmp_path)
    other = replace(make_prediction(rng), mask=own.mask)
    noisy = own.group + rng.standard_normal(own.group.shape)
    noisy[:, 29] = 2.0
    measured = Patterns(own.names, noisy, own.mask, own.affine)
    regions = {"PPA": own.roi_mask("PPA"), "rest": np.arange(30) >= 20}
    comparison = Comparison(Patterns.from_prediction(own), measured, rois=regions)
    controls = [
        Control("untrained", other, own.sources, center_crop=False),
        Control("luminance", None, own.sources, center_crop=False),
    ]
    how = {"n_permutations": 19}
    tables = dict(
        list(encoding_accuracy(comparison, controls, **how).table.groupby("model", sort=False))
    )
    assert list(tables) == ["encoder", "untrained", "luminance"]
    swapped = replace(comparison, predicted=Patterns.from_prediction(other))
    for model, alone in (("encoder", comparison), ("untrained", swapped)):
        expected = encoding_accuracy(alone, **how).table.drop(columns="model")
        got = tables[model].drop(columns="model").reset_index(drop=True)
        pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    luminance = tables["luminance"].set_index("roi")
    _, features = luminance_features(own.sources, center_crop=False)
    alpha = np.sum((features - features.mean(axis=0)) ** 2) / 24
    fitted = cross_val_predict(Ridge(alpha=alpha), features, noisy, cv=LeaveOneOut())
    varying = np.arange(30) < 29
    for name, voxels in {"all": np.ones(30, bool), **regions}.items():
        x, y = fitted[:, voxels & varying], noisy[:, voxels & varying]
        assert luminance.loc[name, "mean_r"] == pytest.approx(r_of(x, y).mean(), abs=1e-6)
    assert luminance["n_voxels"].tolist() == [29, 10, 9]
    assert luminance[["n_significant", "lower", "upper", "p", "p_fdr"]].isna().all(axis=None)


def test_encoding_accuracy_of_luminance_is_of_the_encoders_voxels(
    rng: np.random.Generator, make_prediction: Callable[..., Prediction], tmp_path: Path
) -> None:
    """A voxel that one participant, or one repeat, has no data in is dropped from both."""
    own = make_prediction(rng, folder=tmp_path)
    parts = [
        Patterns(own.names, own.group + rng.standard_normal(own.group.shape), own.mask, own.affine)
        for _ in range(4)
    ]
    parts[1].values[:, 3] = 0
    parts[3].values[:, [5, 8]] = 0
    people = {"a": parts[0], "b": parts[1]}
    control = Control("luminance", None, own.sources, center_crop=False)
    predicted = Patterns.from_prediction(own)
    for chosen, n_lost in (({"participants": people}, 1), ({"repeats": tuple(parts[2:])}, 2)):
        comparison = Comparison(predicted, **chosen)
        table = encoding_accuracy(comparison, [control], n_permutations=9, missing="drop").table
        assert table["n_voxels"].tolist() == 2 * [own.group.shape[1] - n_lost]


def test_encoding_accuracy_compares_amplitudes_in_covered_voxels(
    rng: np.random.Generator, make_prediction: Callable[..., Prediction]
) -> None:
    """A z-scored prediction and its controls are averaged again, and uncovered voxels counted."""
    mean = make_prediction(rng)
    coverage = mean.coverage.copy()
    coverage[:, :3] = 0.1
    coverage[0, 5] = 0.0
    zscored = make_prediction(rng, subjects=mean.subjects, average="zscore")
    own, other = (
        replace(each, mask=mean.mask, coverage=coverage)
        for each in (zscored, make_prediction(rng, average="zscore"))
    )
    measured = Patterns(own.names, mean.group + rng.standard_normal((24, 30)), own.mask, own.affine)
    rois = {"PPA": own.roi_mask("PPA")}
    predicted = Patterns.from_prediction(own)
    comparison = Comparison(predicted, measured, rois=rois, prediction=own)
    control = Control("untrained", other, (), center_crop=False)
    result = encoding_accuracy(comparison, [control], n_permutations=9)
    weights = coverage.sum(axis=0)
    for maps, model in ((own.subjects, "encoder"), (other.subjects, "untrained")):
        r = r_of(maps.sum(axis=0)[:, 3:] / weights[3:], measured.values[:, 3:])
        rows = result.table[result.table["model"] == model].set_index("roi")
        assert rows.loc["all", "mean_r"] == pytest.approx(r.mean(), abs=1e-5)
        assert rows["n_voxels"].tolist() == [27, 7]
        assert rows["n_uncovered"].tolist() == [3, 3]
    assert np.isnan(result.maps["r"][:3]).all()
    assert "r2" not in result.maps
    assert "mean_r2" not in result.table
    assert result.settings["average"] == "mean"
    scaled = zscore(own.group.T, axis=0).T
    np.testing.assert_allclose(comparison.predicted.values, scaled, atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_amplitudes_of_zscored_files_are_told(rng: np.random.Generator) -> None:
    """Maps of mean 0 and SD 1 over voxels keep no amplitude; all others are taken as they are."""
    comparison = compared(rng)
    maps = comparison.predicted
    scaled = zscore(maps.values, axis=1).astype(np.float32)
    zscored = replace(comparison, predicted=Patterns(maps.names, scaled, maps.mask, maps.affine))
    for make in (encoding_accuracy, roi_means_accuracy):
        with pytest.warns(UserWarning, match="are z-scored over voxels, image by image"):
            make(replace(zscored), n_permutations=9)
        make(comparison, n_permutations=9)


def test_encoding_accuracy_over_people_is_students_interval(rng: np.random.Generator) -> None:
    """R_people averages each person's mean r through Fisher's z; two people have no interval."""
    comparison = compared(rng)
    people = {f"s{at}": part for at, part in enumerate(comparison.repeats)}
    comparison = Comparison(comparison.predicted, participants=people, rois=ROIS)
    row = encoding_accuracy(comparison, n_permutations=9).table.iloc[1]
    x = comparison.predicted.values[:, ROIS["strong"]]
    z = [np.arctanh(r_of(x, part.values[:, ROIS["strong"]]).mean()) for part in people.values()]
    bounds = ttest_1samp(z, 0).confidence_interval()
    expected = np.tanh([np.mean(z), bounds.low, bounds.high])
    np.testing.assert_allclose(row[["r_people", "lower_people", "upper_people"]].tolist(), expected)
    two = replace(comparison, participants={"s0": people["s0"], "s1": people["s1"]})
    table = encoding_accuracy(two, n_permutations=9).table
    assert table["r_people"].notna().all()
    assert table[["lower_people", "upper_people"]].isna().all(axis=None)


def test_encoding_accuracy_errors_name_the_item(rng: np.random.Generator) -> None:
    """ROIs without voxels, single repeats and maps without a place are refused."""
    comparison = compared(rng)
    with pytest.raises(DataError, match=r"^the ROI empty must have a voxel that varies"):
        encoding_accuracy(replace(comparison, rois={"empty": np.zeros(50, bool)}))
    with pytest.raises(DataError, match=r"^the measured patterns: expected one or more sets"):
        encoding_accuracy(replace(comparison, repeats=()))
    with pytest.raises(DataError, match=r"two repeats and two images at least; got 1 repeats"):
        encoding_accuracy(replace(comparison, repeats=comparison.repeats[:1]), n_permutations=9)
    placeless = Patterns(NAMES, comparison.predicted.values)
    once = Comparison(placeless, comparison.repeats[0])
    result = encoding_accuracy(once, n_permutations=9)
    with pytest.raises(ShapeError, match=r"needs the mask and affine of the predicted patterns"):
        result.to_img("r")

"""Encoding accuracy: maps and ROI summaries."""

from __future__ import annotations

import numpy as np
import pytest

from imgtofmri.analyses.validate import Patterns, encoding_accuracy
from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.stats import (
    bootstrap_pearson,
    ceiling_normalised,
    fdr,
    noise_ceiling,
    pearson_r,
    permutation_pearson,
    r_squared,
)

NAMES = tuple(f"image{number:02d}.jpg" for number in range(40))
MASK = np.zeros((5, 4, 3), bool)
MASK.ravel()[:50] = True
ROIS = {"strong": np.arange(50) < 20, "none": np.arange(50) >= 30}


def study(rng: np.random.Generator) -> tuple[Patterns, list[Patterns]]:
    """Make predictions and three repeats; only the first 20 voxels respond to the images."""
    true = rng.standard_normal((40, 50))
    true[:, 20:] *= 0
    predicted = true + 0.3 * rng.standard_normal(true.shape)
    repeats = [
        Patterns(NAMES, true + rng.standard_normal(true.shape), MASK, np.eye(4)) for _ in range(3)
    ]
    return Patterns(NAMES, predicted, MASK, np.eye(4)), repeats


def test_encoding_accuracy_maps_equal_the_statistics(rng: np.random.Generator) -> None:
    """Each map is the statistic of that name, on paired data in all voxels."""
    predicted, repeats = study(rng)
    shuffled = [part.at(rng.permutation(40)) for part in repeats]
    result = encoding_accuracy(
        predicted, repeats=shuffled, rois=ROIS, n_permutations=99, n_bootstraps=50
    )
    x, stack = predicted.values, np.array([part.values for part in repeats])
    y = stack.mean(axis=0)
    test = permutation_pearson(x, y, 99)
    lower, upper = bootstrap_pearson(x, y, 50)
    ceiling = noise_ceiling(stack)
    expected = {
        "r": pearson_r(x, y),
        "r2": r_squared(x, y),
        "lower": lower,
        "upper": upper,
        "p": test.p,
        "p_fdr": test.p_fdr,
        "p_max": test.p_max,
        "explainable": ceiling.explainable,
        "r_max": ceiling.r_max(),
        "r_normalised": ceiling_normalised(test.r, ceiling),
    }
    assert set(result.maps) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(result.maps[name], values, atol=1e-12, err_msg=name)
    assert result.ceiling_method == "signal-power"
    image = result.to_img("r")
    np.testing.assert_allclose(image.get_fdata()[MASK], expected["r"], atol=1e-6)
    assert np.isnan(image.get_fdata()[~MASK]).all()


def test_encoding_accuracy_table_summarises_each_roi(rng: np.random.Generator) -> None:
    """Rows are the ROI's means; the planted ROI is found and the empty one is not."""
    predicted, repeats = study(rng)
    result = encoding_accuracy(
        predicted, repeats=repeats, rois=ROIS, n_permutations=499, n_bootstraps=200
    )
    table = result.table.set_index("roi")
    assert list(table.index) == ["all", "strong", "none"]
    for roi, voxels in ROIS.items():
        assert table.loc[roi, "mean_r"] == pytest.approx(result.maps["r"][voxels].mean())
        assert table.loc[roi, "mean_r_max"] == pytest.approx(result.maps["r_max"][voxels].mean())
        assert table.loc[roi, "n_voxels"] == voxels.sum()
        assert table.loc[roi, "lower"] < table.loc[roi, "mean_r"] < table.loc[roi, "upper"]
    assert table.loc["strong", "n_significant"] == 20
    assert table.loc["none", "n_significant"] <= 1
    assert table.loc["strong", "lower"] > 0.5
    assert table.loc["strong", "p"] == 1 / 500
    assert table.loc["none", "p"] > 0.05
    y = np.mean([part.values for part in repeats], axis=0)
    inside = np.array([np.ones(50, bool), *ROIS.values()])
    test = permutation_pearson(predicted.values, y, 499, regions=inside).regions
    assert test is not None
    np.testing.assert_array_equal(table["p"], test.p)
    np.testing.assert_allclose(table["p_fdr"], [test.p[0], *fdr(test.p[1:])])
    assert {roi: region.sum() for roi, region in result.regions.items()} == {
        "all": 50, "strong": 20, "none": 20,
    }  # fmt: skip
    assert table.loc["none", "lower"] < 0 < table.loc["none", "upper"]


def test_encoding_accuracy_leaves_out_images_and_drops_voxels(rng: np.random.Generator) -> None:
    """Images left out are left out of the repeats too; voxels without data are NaN in maps."""
    predicted, repeats = study(rng)
    repeats[1].values[5, 7] = np.nan
    with pytest.raises(DataError, match=r"data in the measured patterns; 1 of 50 do not"):
        encoding_accuracy(predicted, repeats=repeats)
    result = encoding_accuracy(
        predicted,
        repeats=repeats,
        leave_out=["image00"],
        missing="drop",
        n_permutations=9,
        n_bootstraps=9,
    )
    assert len(result.names) == 39
    for values in result.maps.values():
        assert np.isnan(values[7])
    assert result.table["n_voxels"].tolist() == [49]


def test_encoding_accuracy_without_repeats_has_no_ceiling(rng: np.random.Generator) -> None:
    """One measurement gives accuracy without a ceiling."""
    predicted, repeats = study(rng)
    result = encoding_accuracy(predicted, repeats[0], n_permutations=9, n_bootstraps=9)
    assert result.ceiling_method is None
    assert "r_max" not in result.maps
    assert "mean_r_max" not in result.table


def test_encoding_accuracy_errors_name_the_item(rng: np.random.Generator) -> None:
    """ROIs without voxels, wrong masks and maps without a place are refused."""
    predicted, repeats = study(rng)
    with pytest.raises(DataError, match=r"ROI empty must have a voxel that varies"):
        encoding_accuracy(predicted, repeats[0], rois={"empty": np.zeros(50, bool)})
    with pytest.raises(ShapeError, match=r"ROI small must be a mask over the 50 voxels"):
        encoding_accuracy(predicted, repeats[0], rois={"small": np.ones(5, bool)})
    with pytest.raises(DataError, match=r"\(repeats\): expected one or more sets"):
        encoding_accuracy(predicted)
    with pytest.raises(DataError, match=r"two repeats and two images at least; got 1 repeats"):
        encoding_accuracy(predicted, repeats=repeats[:1], n_permutations=9)
    placeless = Patterns(NAMES, predicted.values)
    result = encoding_accuracy(placeless, repeats[0], n_permutations=9, n_bootstraps=9)
    with pytest.raises(ShapeError, match=r"needs the mask and affine of the patterns"):
        result.to_img("r")

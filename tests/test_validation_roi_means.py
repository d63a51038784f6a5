"""Measured ROI means against predicted ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, ttest_1samp

from imgtofmri.analyses.validate import Comparison, roi_means_accuracy
from imgtofmri.analyses.validate.figures import plot_roi_means
from imgtofmri.analyses.validate.lines import describe_validation
from imgtofmri.encoder import Control, Prediction
from imgtofmri.exceptions import DataError
from imgtofmri.measured.patterns import Patterns
from imgtofmri.stats import explained_variance, pearson_interval, permutation_pearson

MakePrediction = Callable[..., Prediction]


def compared(
    rng: np.random.Generator, prediction: Prediction, n_people: int = 4, n_repeats: int = 2
) -> Comparison:
    """Make people's and repeated measurements of what is predicted, and a region of no ROI."""

    def measured(noise: float) -> Patterns:
        values = 3 * prediction.subjects.mean(axis=0) + 40
        values = values + noise * rng.standard_normal(values.shape)
        order = rng.permutation(len(prediction))
        names = tuple(prediction.names[at] for at in order)
        return Patterns(names, values[order], prediction.mask, prediction.affine)

    return Comparison(
        Patterns.from_prediction(prediction),
        participants={f"s{at}": measured(8.0) for at in range(n_people)},
        repeats=tuple(measured(5.0) for _ in range(n_repeats)),
        rois={"LOC": prediction.roi_mask("LOC"), "rest": np.arange(30) >= 20},
        prediction=prediction,
    )


def means(patterns: Patterns, names: tuple[str, ...], voxels: np.ndarray) -> np.ndarray:
    """Average each image's voxels, image by image."""
    rows = [patterns.names.index(name) for name in names]
    return np.array([patterns.values[row][voxels].mean() for row in rows])


def test_roi_means_are_own_rois_against_measured_means(
    rng: np.random.Generator, make_prediction: MakePrediction
) -> None:
    """Numbers are those of SciPy and of the arrays' functions on means that are written out."""
    prediction = make_prediction(rng, average="zscore")
    # A person's own LOC is elsewhere in that person's native responses.
    first = {("LOC", "L"): np.array([0, 3])}
    prediction = replace(prediction, own_rois=(first, *prediction.own_rois[1:]))
    comparison = compared(rng, prediction)
    result = roi_means_accuracy(comparison, n_permutations=300)
    own = np.mean(
        [prediction.roi_responses("LOC", name).mean(axis=1) for name in prediction.subject_names],
        axis=0,
    )
    rest = prediction.subjects.mean(axis=0)[:, 20:].mean(axis=1)
    predicted = np.stack([own, rest], axis=1)
    voxels = list(comparison.rois.values())
    group, *others = (
        np.stack([means(part, prediction.names, region) for region in voxels], axis=1)
        for part in (comparison.group, *comparison.participants.values(), *comparison.repeats)
    )
    table = result.table.set_index("roi")
    assert table["predicted_from"].tolist() == ["own ROIs", "map"]
    assert table["n_voxels"].tolist() == [10, 10]
    test = permutation_pearson(predicted, group, 300)
    lower, upper = pearson_interval(predicted, group)
    signal = explained_variance(predicted, np.array(others[4:]), np.eye(2, dtype=bool))
    for at, row in enumerate(table.to_dict("records")):
        assert row["r"] == pytest.approx(pearsonr(predicted[:, at], group[:, at]).statistic)
        z = [np.arctanh(pearsonr(predicted[:, at], each[:, at]).statistic) for each in others[:4]]
        bounds = ttest_1samp(z, 0).confidence_interval()
        people = np.tanh([np.mean(z), bounds.low, bounds.high])
        got = [row[name] for name in ("r_people", "lower_people", "upper_people")]
        np.testing.assert_allclose(got, people, rtol=1e-5)
        expected = [lower[at], upper[at], test.p[at], test.p_max[at], signal.explained[at]]
        got = [row[name] for name in ("lower", "upper", "p", "p_max", "explained")]
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    wide = result.images.pivot_table(index="image", columns=["roi", "source"], values="mean")
    wide = wide.loc[list(prediction.names)]
    np.testing.assert_allclose(wide["LOC", "predicted"], own, rtol=1e-6)
    np.testing.assert_allclose(wide["rest", "measured"], group[:, 1])
    np.testing.assert_allclose(wide["rest", "s2"], others[2][:, 1])


def test_roi_means_of_controls_stand_beside_the_encoder(
    rng: np.random.Generator, make_prediction: MakePrediction, tmp_path: Path
) -> None:
    """A network's rows are its own analysis, whatever its images' order; luminance has r alone."""
    own = make_prediction(rng, folder=tmp_path)
    other = replace(make_prediction(rng), mask=own.mask)
    comparison = compared(rng, own)
    turned = replace(
        other,
        names=own.names[::-1],
        group=other.group[::-1],
        subjects=other.subjects[:, ::-1],
        native=tuple(part[::-1] for part in other.native),
    )
    controls = [
        Control("untrained", turned, own.sources, center_crop=False),
        Control("luminance", None, own.sources, center_crop=False),
    ]
    tables = dict(list(roi_means_accuracy(comparison, controls).table.groupby("model", sort=False)))
    swapped = replace(comparison, predicted=Patterns.from_prediction(other), prediction=other)
    expected = roi_means_accuracy(swapped).table.drop(columns="model")
    got = tables["untrained"].drop(columns="model").reset_index(drop=True)
    pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    luminance = tables["luminance"]
    assert luminance["r"].notna().all()
    assert luminance[["p", "lower", "explained", "r_people"]].isna().all(axis=None)


def test_roi_means_say_what_is_not_known(
    rng: np.random.Generator, make_prediction: MakePrediction
) -> None:
    """Two people have no interval over people, and without repeats nothing is said of signal."""
    comparison = compared(rng, make_prediction(rng), n_people=2, n_repeats=0)
    result = roi_means_accuracy(comparison, n_permutations=300)
    assert "explained" not in result.table
    assert result.table[["lower_people", "upper_people"]].isna().all(axis=None)
    lines = list(describe_validation(_nothing(comparison), roi_means=result))
    said = [line for line in lines if "mean of 2 people's r" in line]
    assert len(said) == 2
    assert all("too few for an interval" in line for line in said)
    assert lines[-1].startswith("no repeats: what noise allows at most is not known")


def _nothing(comparison: Comparison) -> object:
    """Return the matched patterns of a comparison without tests, for lines of the rest."""
    from imgtofmri.analyses.validate import MatchedPatterns

    empty = pd.DataFrame({"model": []})
    return MatchedPatterns(empty, np.zeros((0, 0)), np.zeros((0, 0)), (), comparison)


def test_plot_roi_means_shows_each_image_in_each_roi(
    rng: np.random.Generator, make_prediction: MakePrediction
) -> None:
    """A panel's points are an ROI's predicted and measured means, its title their r."""
    result = roi_means_accuracy(compared(rng, make_prediction(rng)), n_permutations=9)
    panels = plot_roi_means(result).axes
    assert len(panels) == 2
    for axes, row in zip(panels, result.table.to_dict("records"), strict=True):
        (points,) = axes.lines
        r = pearsonr(points.get_xdata(), points.get_ydata()).statistic
        assert r == pytest.approx(row["r"])
        assert axes.get_title(loc="left").startswith(f"{row['roi']}\nr = {r:+.2f} (")


def test_roi_means_errors_name_the_roi(
    rng: np.random.Generator, make_prediction: MakePrediction
) -> None:
    """No ROI, one without data, and a mean that never changes are refused by name."""
    comparison = compared(rng, make_prediction(rng))
    with pytest.raises(DataError, match=r"^ROI means need ROIs; the comparison has none"):
        roi_means_accuracy(replace(comparison, rois={}))
    empty = {"LOC": np.zeros(30, bool)}
    with pytest.raises(DataError, match=r"^the ROI LOC must have voxels with data; it has none"):
        roi_means_accuracy(replace(comparison, rois=empty))
    for part in comparison.repeats:
        part.values[:, 20:] = 4.0
    flat = replace(comparison, participants={}, measured=comparison.repeats[0])
    with pytest.raises(DataError, match=r"^the ROI rest: its measured mean must differ between"):
        roi_means_accuracy(flat)

"""The figure of encoding accuracy shows the numbers of its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

from imgtofmri.analyses.validate import (
    Comparison,
    EncodingAccuracy,
    encoding_accuracy,
    matched_patterns,
    save_validation,
)
from imgtofmri.analyses.validate.figures import plot_accuracy
from imgtofmri.analyses.validate.files import accuracy_by_voxel
from imgtofmri.figures.style import significance_mark
from imgtofmri.measured.patterns import Patterns

NAMES = tuple(f"image{at:02d}" for at in range(30))
ROIS = {"front": np.arange(40) < 15, "back": np.arange(40) >= 25}


@pytest.fixture(params=[0, 3])
def result(request: pytest.FixtureRequest, rng: np.random.Generator) -> EncodingAccuracy:
    """Return the accuracy of predictions in two ROIs, without and with repeats."""
    true = rng.standard_normal((30, 40))
    true[:, 25:] = 0
    predicted = Patterns(NAMES, true + 0.5 * rng.standard_normal(true.shape))
    again = [Patterns(NAMES, true + rng.standard_normal(true.shape)) for _ in range(3)]
    measured = again[0] if request.param == 0 else None
    repeats = tuple(again[: request.param])
    comparison = Comparison(predicted, measured, repeats=repeats, rois=ROIS)
    return encoding_accuracy(comparison, n_permutations=199)


def test_plot_accuracy_shows_every_row(result: EncodingAccuracy, tmp_path: Path) -> None:
    """Points are mean r with their interval, circles the controls', violins hold the voxels."""
    control = pd.DataFrame({"model": "luminance", "roi": ["all", "back"], "n_voxels": [40, 15]})
    control["mean_r"] = [0.1, -0.1]
    figure = plot_accuracy(replace(result, table=pd.concat([result.table, control])))
    axes = figure.axes[0]
    (points,) = (line for line in axes.lines if line.get_markersize() == 3.5)
    np.testing.assert_allclose(points.get_ydata(), result.table["mean_r"])
    (circles,) = (line for line in axes.lines if line.get_markersize() == 3.2)
    np.testing.assert_allclose(circles.get_ydata(), [0.1, np.nan, -0.1])
    labels = [text.get_text().split("\n")[:2] for text in axes.get_xticklabels()]
    assert labels == [["all", "40 voxels"], ["front", "15 voxels"], ["back", "15 voxels"]]
    marks = ["".join(text.get_text().split()) for text in axes.texts]
    expected = [significance_mark(p) for p in result.table["p_fdr"]]
    assert [mark for mark in marks if mark] == [mark for mark in expected if mark]
    violins = [c for c in axes.collections if isinstance(c, PolyCollection)]
    assert len(violins) == 3
    if result.ceiling_method:
        said = [text.get_text().split("\n")[3] for text in axes.get_xticklabels()]
        front, back = result.table["explained"][1:]
        assert said[1] == f"{front:.0%} of signal"
        assert np.isnan(back)
        assert said[2] == "no sure signal"


@pytest.mark.slow
def test_saved_tables_of_accuracy_hold_what_is_drawn(
    result: EncodingAccuracy, tmp_path: Path
) -> None:
    """The figure comes with its voxels, whose means are the table's."""
    matched = matched_patterns(result.comparison, n_permutations=9, n_bootstraps=9)
    without = save_validation(matched, tmp_path / "without")
    files = save_validation(matched, tmp_path, result)
    assert sorted(files) == sorted(path for path in tmp_path.iterdir() if path.is_file())
    more = {path.name for path in files} - {path.name for path in without}
    tables = {"accuracy.tsv", "accuracy.json", "accuracy_voxels.tsv", "accuracy_voxels.json"}
    assert more == tables | {"accuracy.png", "accuracy.svg"}
    voxels = pd.read_csv(tmp_path / "accuracy_voxels.tsv", sep="\t")
    means = voxels.groupby("roi", sort=False)["r"].mean()
    np.testing.assert_allclose(means, result.table["mean_r"], atol=1e-5)
    assert ("explainable" in voxels) == (result.ceiling_method is not None)
    back = accuracy_by_voxel(result).query("roi == 'back'")
    np.testing.assert_array_equal(back["voxel"], np.arange(25, 40))
    assert (tmp_path / "accuracy.png").stat().st_size > 5000

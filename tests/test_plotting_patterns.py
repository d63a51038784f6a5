"""Figures of matched-pattern validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imgtofmri.analyses.validate import Comparison, MatchedPatterns, matched_patterns
from imgtofmri.analyses.validate.figures import plot_correlations, plot_matched_patterns
from imgtofmri.exceptions import DataError
from imgtofmri.figures.style import save_figure, significance_mark
from imgtofmri.measured.patterns import Patterns

NAMES = tuple(f"image{at}" for at in range(12))
CATEGORIES = {name: ("face", "house")[at % 2] for at, name in enumerate(NAMES)}


@pytest.fixture
def result(rng: np.random.Generator) -> MatchedPatterns:
    """Validate strong predictions at all levels, 17 participants among them."""
    true = rng.standard_normal((12, 30))
    people = {
        f"s{at:02d}": Patterns(NAMES, true + rng.standard_normal(true.shape)) for at in range(17)
    }
    regions = {"front": np.arange(30) < 15, "back": np.arange(30) >= 15}
    comparison = Comparison(
        Patterns(NAMES, true), participants=people, rois=regions, categories=CATEGORIES
    )
    return matched_patterns(comparison, n_permutations=99, n_bootstraps=50)


def test_plot_matched_patterns_shows_every_test(result: MatchedPatterns, tmp_path: Path) -> None:
    """Each level has a panel with a violin, a point and a mark for each of its tests."""
    control = result.table.assign(model="luminance", statistic=0.01)
    both = replace(result, table=pd.concat([result.table, control]))
    figure = plot_matched_patterns(both, corrected="p_max")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["encoder", "luminance"]
    panels = {panel.get_title(loc="left"): panel for panel in figure.get_axes()}
    assert list(panels) == ["Group", "ROIs", "Categories", "Participants"]
    levels = dict(zip(panels, ("group", "roi", "category", "participant"), strict=True))
    for title, panel in panels.items():
        table = result.table[result.table["level"] == levels[title]]
        assert [text.get_text() for text in panel.get_xticklabels()] == table["name"].tolist()
        n_bodies = sum(
            "FillBetween" in type(c).__name__ or hasattr(c, "get_paths") for c in panel.collections
        )
        assert n_bodies >= len(table)
        points = [line.get_ydata() for line in panel.lines if line.get_marker() == "o"]
        np.testing.assert_allclose(points[0], table["statistic"])
        np.testing.assert_allclose(points[1], 0.01)
        marks = ["".join(text.get_text().split()) for text in panel.texts]
        expected = [significance_mark(p) for p in table["p_max"]]
        assert [mark for mark in marks if mark and mark not in "abcd"] == [m for m in expected if m]
    files = save_figure(figure, tmp_path / "matched", dpi=60)
    assert all(path.stat().st_size > 5000 for path in files)


def test_plot_correlations_orders_by_category(result: MatchedPatterns) -> None:
    """Images of a category lie together, framed; without categories the order is kept."""
    figure = plot_correlations(result, [CATEGORIES[name] for name in result.names])
    axes = figure.get_axes()[0]
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    np.testing.assert_array_equal(
        axes.images[0].get_array(), result.correlations[np.ix_(order, order)]
    )
    assert [text.get_text() for text in axes.texts] == ["face", "house"]
    plain = plot_correlations(result).get_axes()[0]
    np.testing.assert_array_equal(plain.images[0].get_array(), result.correlations)
    with pytest.raises(DataError, match=r"name one for each of the 12 images; got 2"):
        plot_correlations(result, ["face", "house"])

"""Figures of contrasts, geometry and selections show the numbers of their tables."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from imgtofmri.analyses.contrast import Contrast, compute_contrast, contrast_properties
from imgtofmri.analyses.contrast.figures import THRESHOLDS, plot_contrast, plot_controls
from imgtofmri.analyses.rsa import GeometryComparison, compare_geometry
from imgtofmri.analyses.rsa.figures import plot_comparison, plot_mds, plot_rdms
from imgtofmri.analyses.select import Goal, StimulusSelection, select_stimuli
from imgtofmri.analyses.select.figures import plot_checks, plot_contact_sheet
from imgtofmri.encoder import Control, Prediction
from imgtofmri.exceptions import OptionError
from imgtofmri.rsa import RDMs, calculate_rdm, embed_rdm

NAMES = tuple(f"image{number:02d}.png" for number in range(24))


@pytest.fixture
def maps(make_prediction: Callable[..., Prediction], rng: np.random.Generator) -> Prediction:
    """Return two ROIs of 20 voxels; the first half of the images drives the first."""
    subjects = rng.normal(size=(24, 40)) + 0.3 * rng.normal(size=(3, 24, 40))
    subjects[:, :12, :20] += 2.0
    return make_prediction(rng, subjects=subjects, rois={("PPA", "L"): 20, ("LOC", "L"): 20})


@pytest.fixture
def result(maps: Prediction) -> Contrast:
    """Return a contrast of the two halves."""
    return compute_contrast(maps, ["house"] * 12 + ["face"] * 12, "house - face", 99)


@pytest.fixture
def comparison(rng: np.random.Generator) -> tuple[RDMs, GeometryComparison]:
    """Return two models compared with four subjects who carry the first."""
    patterns = rng.normal(size=(2, 12, 30))
    models = RDMs(calculate_rdm(patterns), NAMES[:12], ("PPA", "LOC"))
    subjects = calculate_rdm(patterns[0] + rng.normal(size=(4, 12, 30)))
    measured = RDMs(subjects, NAMES[:12], ("a", "b", "c", "d"))
    return models, compare_geometry(models, measured, n_permutations=99)


@pytest.fixture
def selection(maps: Prediction) -> StimulusSelection:
    """Return two sets of four and a reference."""
    goals = (Goal("high", "PPA"), Goal("over", "LOC", "PPA"))
    return select_stimuli(maps, goals, 4, n_random=50)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_plot_contrast_bars_are_condition_means(result: Contrast, threshold: str) -> None:
    """Bars stand at the group's means, positive weights first, whatever the brain shows."""
    figure = plot_contrast(result, threshold)
    bars = next(axes for axes in figure.axes if len(axes.patches) == 4)
    table = result.condition_table.query("subject == 'group' and hemi == 'both'")
    heights = table.set_index(["condition", "roi"])["mean"]
    order = [(condition, roi) for condition in ("house", "face") for roi in ("PPA", "LOC")]
    drawn = [bar.get_height() for bar in bars.patches]
    np.testing.assert_allclose(drawn, heights.loc[order])


def test_plot_contrast_nothing_to_show_is_drawn_empty(result: Contrast) -> None:
    """A threshold that no voxel passes leaves the brain empty and says 0 voxels."""
    figure = plot_contrast(result, "p_max", alpha=1e-9)
    assert any("0 voxels" in text.get_text() for text in figure.texts)


def test_plot_contrast_unknown_threshold_is_named(result: Contrast) -> None:
    """An unknown threshold is refused with those there are."""
    with pytest.raises(OptionError, match=re.escape("got 'fdr'")):
        plot_contrast(result, "fdr")


def test_plot_comparison_bars_are_means(comparison: tuple[RDMs, GeometryComparison]) -> None:
    """Bars stand at the models' means, each subject is a circle."""
    axes = plot_comparison(comparison[1]).axes[0]
    heights = [patch.get_height() for patch in axes.patches][-2:]
    np.testing.assert_allclose(heights, comparison[1].table["mean"])
    circles = [line.get_ydata() for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(np.sort(circles), np.sort(comparison[1].similarity))


def test_plot_mds_places_thumbnails_at_the_points(
    comparison: tuple[RDMs, GeometryComparison], rng: np.random.Generator
) -> None:
    """Each image is drawn where the embedding puts it, and the title tells the stress."""
    models = comparison[0]
    pictures = {name: rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for name in NAMES[:12]}
    figure = plot_mds(models, pictures, ["a", "b"] * 6)
    points, stress = embed_rdm(models.dissimilarities[0])
    places = [artist.xy for artist in figure.axes[0].artists]
    np.testing.assert_allclose(places, points)
    assert f"stress {stress:.2f}" in figure.axes[0].get_title(loc="left")


def test_plot_rdms_shows_percentiles(comparison: tuple[RDMs, GeometryComparison]) -> None:
    """Ranked matrices go from near 0 to near 100, symmetric, one panel for each."""
    figure = plot_rdms(comparison[0])
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(images) == 2
    off_diagonal = images[0][~np.eye(12, dtype=bool)]
    assert 0 < off_diagonal.min() < 1
    assert 99 < off_diagonal.max() < 100


def test_plot_contact_sheet_shows_every_picture(
    selection: StimulusSelection, rng: np.random.Generator
) -> None:
    """Every chosen picture is drawn once, in the order of its set."""
    pictures = {name: rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) for name in NAMES}
    figure = plot_contact_sheet(selection, pictures, n_columns=3)
    chosen = [name for members in selection.sets.values() for name in members]
    assert len(figure.axes) == len(chosen) == 12
    for axes, name in zip(figure.axes, chosen, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), pictures[name])


def test_plot_checks_shows_every_effect(selection: StimulusSelection) -> None:
    """Each row of the table of checks is one mark, the in-sample one a diamond."""
    figure = plot_checks(selection)
    marks = [line for axes in figure.axes for line in axes.lines if line.get_marker() in ("o", "D")]
    drawn = sorted(float(line.get_ydata()[0]) for line in marks)
    np.testing.assert_allclose(drawn, np.sort(selection.checks["effect"]))
    assert sum(line.get_marker() == "D" for line in marks) == 2


def test_plot_comparison_controls_stand_beside_their_models(
    comparison: tuple[RDMs, GeometryComparison], rng: np.random.Generator
) -> None:
    """A control of each ROI is a grey bar beside the ROI's, one for all stands at the end."""
    models, result = comparison
    measured = RDMs(rng.random((4, 66)), models.conditions, tuple("abcd"))
    beside = compare_geometry(models, measured, n_permutations=19)
    single = RDMs(models.dissimilarities[:1], models.conditions, ("luminance",))
    alone = compare_geometry(single, measured, n_permutations=19)
    figure = plot_comparison(result, {"untrained": beside, "luminance": alone})
    axes = figure.axes[0]
    bars = [bar for bar in axes.patches if bar.get_height() in
            {*result.table["mean"], *beside.table["mean"], *alone.table["mean"]}]  # fmt: skip
    expected = [*result.table["mean"], *beside.table["mean"], *alone.table["mean"]]
    np.testing.assert_allclose([bar.get_height() for bar in bars], expected)
    places = np.array([bar.get_x() + bar.get_width() / 2 for bar in bars])
    np.testing.assert_array_equal(np.round(places), [0, 1, 0, 1, 2])
    assert (places[2:4] > places[:2]).all()
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["PPA", "LOC", "luminance"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["untrained"]


def test_plot_controls_bars_are_t(maps: Prediction, rng: np.random.Generator) -> None:
    """Each model's t in each ROI, and each property's, is a bar."""
    conditions = ["house"] * 12 + ["face"] * 12
    results = [compute_contrast(maps, conditions, "house - face", 19, seed) for seed in (0, 1)]
    table = pd.concat(
        result.roi_table.assign(model=name)
        for name, result in zip(("encoder", "untrained"), results, strict=True)
    )
    table.loc[table["model"] == "untrained", "t"] *= -0.5
    images = pd.DataFrame({"luminance": rng.random(24), "contrast": np.ones(24)})
    contrasted = contrast_properties(images, conditions, "house - face", 19)
    figure = plot_controls(table, contrasted)
    shown = table.query("subject == 'group' and hemi == 'both'").set_index(["model", "roi"])["t"]
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    order = [(model, roi) for model in ("encoder", "untrained") for roi in ("PPA", "LOC")]
    np.testing.assert_allclose(heights, shown.loc[order])
    drawn = [bar.get_height() for bar in figure.axes[1].patches]
    np.testing.assert_allclose(drawn, [contrasted["t"][0], 0.0])
    assert len(plot_controls(table).axes) == 1


def test_plot_checks_controls_stand_beside(maps: Prediction, rng: np.random.Generator) -> None:
    """Each row of every model is one mark, and a legend tells the models apart."""
    properties = pd.DataFrame({"stimulus": NAMES, "luminance": rng.random(24)})
    selection = select_stimuli(
        maps, (Goal("high", "PPA"), Goal("low", "PPA")), 4, properties, n_random=20,
        controls=[Control(name, model, (), False) for name, model in
                  (("untrained", maps), ("luminance", None))],
    )  # fmt: skip
    figure = plot_checks(selection)
    assert len(figure.axes) == 2
    marks = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s", "^", "D")]
    drawn = sorted(float(line.get_ydata()[0]) for line in marks)
    shown = selection.checks.query("set == 'PPA-high'")
    np.testing.assert_allclose(drawn, np.sort(shown["effect"]))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["encoder", "untrained", "luminance"]

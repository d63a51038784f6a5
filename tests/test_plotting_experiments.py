"""Figures of contrasts and selections show the numbers of their tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imgtofmri.analyses.contrast import Contrast, compute_contrast, contrast_properties
from imgtofmri.analyses.contrast.figures import THRESHOLDS, plot_contrast, plot_controls
from imgtofmri.analyses.select import Goal, StimulusSelection, select_stimuli
from imgtofmri.analyses.select.figures import plot_checks, plot_contact_sheet
from imgtofmri.encoder import Control, Prediction
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.stimuli import Frame, read_images

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


def test_contrast_plot_controls_is_of_all_its_models(
    maps: Prediction, make_prediction: Callable[..., Prediction], rng: np.random.Generator
) -> None:
    """Bars are the t of the joined table; without controls there is nothing to draw."""
    conditions = ["house"] * 12 + ["face"] * 12
    other = make_prediction(rng, rois={("PPA", "L"): 20, ("LOC", "L"): 20}, n_voxels=40)
    controls = [Control("untrained", other, (), False)]
    result = compute_contrast(maps, conditions, "house - face", 19, controls=controls)
    table = result.joined("roi_table")
    assert table.columns[0] == "model"
    assert table["model"].tolist() == ["encoder"] * (len(table) // 2) + ["untrained"] * (
        len(table) // 2
    )
    shown = table.query("subject == 'group' and hemi == 'both'")
    heights = [bar.get_height() for bar in result.plot_controls().axes[0].patches]
    np.testing.assert_allclose(heights, shown["t"])
    with pytest.raises(OptionError, match="table must be one of roi_table, condition_table"):
        result.joined("rois")
    with pytest.raises(OptionError, match="controls must have been given"):
        compute_contrast(maps, conditions, "house - face", 19).plot_controls()


def test_selection_plot_shows_the_files_and_says_which_is_gone(
    make_prediction: Callable[..., Prediction], rng: np.random.Generator, tmp_path: Path
) -> None:
    """The contact sheet is of the chosen files; a file that is gone, or never was one, is named."""
    pool = make_prediction(rng, folder=tmp_path)
    chosen = select_stimuli(pool, ["high PPA"], 4, n_random=20)
    names = [name for members in chosen.sets.values() for name in members]
    for axes, name in zip(chosen.plot(n_columns=4).axes, names, strict=True):
        pixels = next(iter(read_images(tmp_path / name)))
        assert isinstance(pixels, Frame)
        np.testing.assert_array_equal(axes.images[0].get_array(), pixels.pixels)
    assert len(chosen.plot_checks().axes) == 1
    (tmp_path / names[2]).unlink()
    with pytest.raises(DataError, match=f"{names[2]}: expected an image file"):
        chosen.plot()
    with pytest.raises(DataError, match=r"expected an image file, .* got a picture in memory"):
        select_stimuli(make_prediction(rng), ["high PPA"], 4, n_random=20).plot()


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
    shown = selection.checks.query("set == 'PPA_high'")
    np.testing.assert_allclose(drawn, np.sort(shown["effect"]))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["encoder", "untrained", "luminance"]

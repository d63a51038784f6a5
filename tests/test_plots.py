"""Figures from Python: what they show, and that their scales and units are said."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from imgtofmri.analyses.contrast import compute_contrast
from imgtofmri.encoder import Prediction
from imgtofmri.exceptions import OptionError
from imgtofmri.training.figures import plot_layers

Make = Callable[..., Prediction]


def texts(figure: Any) -> str:
    """Return all that is written beside the panels."""
    return "\n".join(text.get_text() for text in figure.texts)


@pytest.fixture
def prediction(make_prediction: Make, rng: np.random.Generator, tmp_path: Path) -> Prediction:
    """Return a prediction of three pictures that are files."""
    return make_prediction(rng, n_stimuli=3, folder=tmp_path)


@pytest.mark.slow
def test_plot_glass_shows_the_picture_and_a_symmetric_scale(prediction: Prediction) -> None:
    """The picture of that name; limits on both sides of 0; title, unit and encoder are said."""
    figure = prediction.plot("glass", "image01.png")
    picture = next(axes.images[0].get_array() for axes in figure.axes if axes.images)
    assert picture.shape == (12, 16, 3)
    said = texts(figure)
    assert "image01.png: group" in said
    assert "predicted response (model units)" in said
    assert "Encoder small; MNI152NLin6Asym" in " ".join(said.split())
    limits = [image.get_clim() for axes in figure.axes for image in axes.images[-1:]]
    biggest = np.percentile(np.abs(prediction.group[1]), 99)
    assert (-biggest, biggest) in [pytest.approx(limit, rel=1e-5) for limit in limits]
    assert not plt.get_fignums()


@pytest.mark.parametrize("kind", ["glass", "slices"])
def test_plot_colours_end_where_they_are_told_to(prediction: Prediction, kind: str) -> None:
    """Figures that shall be compared have the same limits."""
    figure = prediction.plot(kind, vmax=7.5)
    limits = [image.get_clim() for axes in figure.axes for image in axes.images[-1:]]
    assert (-7.5, 7.5) in [pytest.approx(limit) for limit in limits]


def test_plot_slices_marks_left_and_says_z(prediction: Prediction) -> None:
    """A z-scored group says so, a person of it is in the models' units."""
    scored = replace(
        prediction,
        provenance=replace(
            prediction.provenance, settings=replace(prediction.settings, average="zscore")
        ),
    )
    said = texts(scored.plot("slices"))
    assert "z over the mask" in said
    assert "L is left" in " ".join(said.split())
    assert "model units" in texts(scored.plot("slices", subject="CSI2"))


def test_plot_rois_bars_are_roi_means(prediction: Prediction) -> None:
    """A bar for each ROI and picture, of the group's height; circles are people."""
    figure = prediction.plot("rois")
    (axes,) = figure.axes
    heights = np.array([bar.get_height() for bar in axes.patches]).reshape(3, 2)
    means = prediction.roi_means()
    both = [number for number, (_, hemi) in enumerate(means.places) if hemi == "both"]
    np.testing.assert_allclose(heights, means.group[both].T)
    circles = np.stack([line.get_ydata() for line in axes.lines[:9]])
    np.testing.assert_allclose(circles[1], means.values[both][:, 1, 0])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["PPA", "LOC"]


def test_plot_rois_of_a_movie_are_lines_over_time(prediction: Prediction) -> None:
    """The group's line of each ROI over the onsets."""
    movie = replace(prediction, onsets_s=np.array([0.0, 0.5, 1.0]))
    figure = movie.plot("rois")
    assert [axes.get_ylabel() for axes in figure.axes] == ["PPA", "LOC"]
    line = figure.axes[0].lines[3]
    np.testing.assert_array_equal(line.get_xdata(), movie.onsets_s)
    place = movie.roi_means().places.index(("PPA", "both"))
    np.testing.assert_allclose(line.get_ydata(), movie.roi_means().group[place])


@pytest.mark.slow
def test_plot_surface_has_both_hemispheres(prediction: Prediction) -> None:
    """Each from three sides, named."""
    said = texts(prediction.plot("surface"))
    assert all(
        f"{hemi}, {view}" in said
        for hemi in ("left", "right")
        for view in ("lateral", "medial", "ventral")
    )


def test_plot_refuses_what_it_cannot_draw(
    prediction: Prediction, make_prediction: Make, rng: np.random.Generator
) -> None:
    """Unknown kinds, and more bars than can stand side by side."""
    with pytest.raises(OptionError, match="kind must be one of glass, slices, surface, rois"):
        prediction.plot("glas")
    with pytest.raises(OptionError, match="stimulus must be named where there are more than 8"):
        make_prediction(rng).plot("rois")


@pytest.mark.slow
def test_contrast_plot_is_the_figure_of_the_command(
    make_prediction: Make, rng: np.random.Generator
) -> None:
    """Its name, images and encoder are said."""
    conditions = ["a"] * 12 + ["b"] * 12
    result = compute_contrast(make_prediction(rng), conditions, n_permutations=20)
    said = texts(result.plot("none"))
    assert "n = 12" in said
    assert "no threshold" in said
    assert "Encoder small" in said


def test_a_notebook_shows_figures_without_being_told_how(
    make_prediction: Make, rng: np.random.Generator
) -> None:
    """A figure is a picture wherever IPython runs, also where nothing imported pyplot."""
    shells = pytest.importorskip("IPython.core.interactiveshell", reason="needs IPython")
    shell = shells.InteractiveShell.instance()
    try:
        figure = make_prediction(rng, n_stimuli=3).plot("rois")
        shown, _ = shell.display_formatter.format(figure)
    finally:
        shells.InteractiveShell.clear_instance()
    assert shown["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("ceiling", [0.5, np.nan])
def test_layers_figure_says_what_its_lines_are(ceiling: float) -> None:
    """The dashed line is explained where there is one."""
    table = pd.DataFrame(
        {
            "roi": "PPA",
            "subject": ["S1", "S1", "S2", "S2"],
            "layer": ["a", "b"] * 2,
            "median_r": [0.1, 0.2, 0.2, 0.1],
            "noise_ceiling_r": ceiling,
        }
    )
    (legend,) = plot_layers(table).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[:3] == ["mean over people", "one person", "best layer"]
    assert ("mean noise ceiling" in labels) == (ceiling == 0.5)


def test_notebook_shows_means_thumbnails_and_brain(
    make_prediction: Make, rng: np.random.Generator, tmp_path: Path
) -> None:
    """Twelve rows of the group's means, each with its picture; small, and without any script."""
    prediction = make_prediction(rng, n_stimuli=14, folder=tmp_path)
    shown = prediction._repr_html_()
    assert len(shown.encode()) < 300_000
    assert shown.count("data:image/jpeg;base64,") == 12
    assert shown.count("data:image/png;base64,") == 1
    assert "<script" not in shown
    cells = np.array(re.findall(r"<td[^>]*>(-?[0-9.]+)</td>", shown), float).reshape(12, 2)
    means = prediction.roi_means()
    both = [number for number, (_, hemi) in enumerate(means.places) if hemi == "both"]
    np.testing.assert_allclose(cells, means.group[both, :12].T, atol=5e-4)
    assert "and 2 more" in shown
    assert "of 14 images," in shown
    assert "of 2 frames," in replace(prediction[:2], onsets_s=np.arange(2.0))._repr_html_()


@pytest.mark.slow
def test_notebook_escapes_all_that_it_is_told(
    make_prediction: Make, rng: np.random.Generator
) -> None:
    """Names of stimuli, ROIs and encoders are text, wherever they stand."""
    bad = '"><script>alert(1)</script>'
    plain = make_prediction(rng, n_stimuli=2, rois={(bad, "L"): 10})
    provenance = replace(plain.provenance, encoder=bad, space=bad)
    shown = replace(plain, names=(bad, "b"), provenance=provenance)._repr_html_()
    assert "<script" not in shown
    assert shown.count(html.escape(bad)) >= 5


def test_dollars_in_names_begin_no_formula(prediction: Prediction, tmp_path: Path) -> None:
    """A name that is no valid formula is drawn as it is."""
    named = replace(prediction, names=("5$_$.png", "b", "c"))
    named.plot("rois").savefig(tmp_path / "rois.png")
    assert r"5\$_\$.png" in texts(named[0].plot("rois"))

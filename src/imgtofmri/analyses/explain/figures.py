"""The figure of an attribution: a picture, and on it what each place contributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgtofmri.encoder.attribution import METHODS, OCCLUSION, SPLIT, Attribution
from imgtofmri.encoder.regions import GROUP, MODEL_UNIT
from imgtofmri.exceptions import check_choice
from imgtofmri.figures.style import DIVERGING, journal_style, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_attribution"]

PANEL_IN, TITLE_IN, NOTE_IN, BAR_IN = 1.6, 0.55, 0.38, 0.75

METHOD_NOTES = {
    SPLIT: "Split: response = sum of the places + intercept, exactly.",
    OCCLUSION: f"Occlusion: {METHODS[OCCLUSION]}.",
}

OPACITY = 0.6
"""Of the overlay: the picture, in greys, is seen through it."""


def plot_attribution(
    attribution: Attribution, stimulus: str, target: str, vmax: float | None = None
) -> Figure:
    """Draw a picture and on it how much each place contributes to a response.

    Parameters
    ----------
    attribution : Attribution
    stimulus : str
        The picture's name.
    target : str
        The ROI, or the voxel.
    vmax : float, optional
        Where the colours end, for figures that shall be compared; by default the largest
        contribution in this figure.

    Returns
    -------
    matplotlib.figure.Figure
        The picture as the network saw it; the group; each person who has the ROI. All share one
        scale, symmetric about 0, in the models' own units.

    Raises
    ------
    OptionError
        If there is no such stimulus or target.
    """
    from matplotlib.figure import Figure

    check_choice("stimulus", stimulus, attribution.names)
    check_choice("target", target, attribution.targets)
    number, at = attribution.names.index(stimulus), attribution.targets.index(target)
    shown = [
        index
        for index in range(len(attribution.owners))
        if not np.isnan(attribution.intercepts[at, index])
    ]
    maps = attribution.contributions[at, shown, number]
    limit = vmax or float(abs(maps).max()) or 1.0
    n_panels = 1 + len(shown)
    picture = attribution.pictures[number]
    with journal_style():
        width, height = PANEL_IN * n_panels + BAR_IN, PANEL_IN + TITLE_IN + NOTE_IN
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("none")

        def panel(place: int) -> Axes:
            box = (PANEL_IN * place + 0.05, NOTE_IN, PANEL_IN - 0.1, PANEL_IN - 0.1)
            axes = figure.add_axes(
                (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
            )
            axes.set_axis_off()
            return axes

        seen = panel(0)
        seen.imshow(picture)
        seen.set_title("what the network sees", fontsize=7)
        grey = np.repeat(picture.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
        for place, (index, values) in enumerate(zip(shown, maps, strict=True), start=1):
            axes = panel(place)
            axes.imshow(grey)
            image = axes.imshow(
                values,
                cmap=DIVERGING,
                vmin=-limit,
                vmax=limit,
                alpha=OPACITY,
                extent=(-0.5, picture.shape[1] - 0.5, picture.shape[0] - 0.5, -0.5),
                interpolation="nearest",
            )
            axes.set_title(_said(attribution, at, index, number), fontsize=7, linespacing=1.3)
        bar = figure.add_axes(
            ((PANEL_IN * n_panels + 0.05) / width, NOTE_IN / height, 0.09 / width, 1.5 / height)
        )
        figure.colorbar(image, cax=bar)
        bar.set_ylabel(f"contribution ({MODEL_UNIT})", fontsize=6.5)
        bar.tick_params(labelsize=6)
        figure.text(
            0.05 / width,
            1 - 0.06 / height,
            f"{plain(stimulus)}: where the predicted response of {plain(target)} comes from "
            f"({attribution.method})",
            fontsize=8,
            va="top",
        )
        figure.text(
            0.05 / width,
            0.05 / height,
            f"{METHOD_NOTES[attribution.method]}\n{attribution.provenance.note}",
            fontsize=5.5,
            va="bottom",
            linespacing=1.4,
        )
    return figure


def _said(attribution: Attribution, at: int, index: int, number: int) -> str:
    """Return a panel's title: whose response, how large, and what it is made of."""
    owner = attribution.owners[index]
    response = attribution.responses[at, index, number]
    who = "group (mean of people)" if owner == GROUP else owner
    if attribution.method != SPLIT:
        return f"{who}\nresponse {response:.2f}"
    intercept = attribution.intercepts[at, index]
    return f"{who}\n{response:.2f} = {response - intercept:.2f} {intercept:+.2f}"

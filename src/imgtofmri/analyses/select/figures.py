"""Figures of a selection: the chosen pictures, and whether held-out subjects confirm them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.select.analysis import StimulusSelection
from imgtofmri.encoder.controls import ENCODER
from imgtofmri.figures.style import colour_of, journal_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_checks", "plot_contact_sheet"]

WIDTH_IN = 7.2


def plot_contact_sheet(
    selection: StimulusSelection, pictures: Mapping[str, NDArray[np.uint8]], n_columns: int = 10
) -> Figure:
    """Draw the chosen pictures, set by set, best first.

    Parameters
    ----------
    selection : StimulusSelection
    pictures : mapping of str to array of shape (height, width, 3), uint8
        One for each chosen stimulus.
    n_columns : int
        Pictures in a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    rows_of = {name: -(-len(members) // n_columns) for name, members in selection.sets.items()}
    side = WIDTH_IN / n_columns
    title_in = 0.22
    height = sum(rows * side + title_in for rows in rows_of.values())
    with journal_style():
        figure = Figure(figsize=(WIDTH_IN, height))
        figure.set_layout_engine("none")
        top = height
        for number, (name, members) in enumerate(selection.sets.items()):
            top -= title_in
            figure.text(
                0.005, (top + 0.04) / height, name, color=colour_of(number), fontweight="bold"
            )
            for place, stimulus in enumerate(members):
                row, column = divmod(place, n_columns)
                left, bottom = column * side, top - (row + 1) * side
                box = (left + 0.02, bottom + 0.02, side - 0.04, side - 0.04)
                axes = figure.add_axes(
                    (box[0] / WIDTH_IN, box[1] / height, box[2] / WIDTH_IN, box[3] / height)
                )
                axes.imshow(pictures[stimulus], aspect="equal")
                axes.set_axis_off()
            top -= rows_of[name] * side
    return figure


def plot_checks(selection: StimulusSelection) -> Figure:
    """Draw each set's effect where it was chosen and where it was held out.

    Parameters
    ----------
    selection : StimulusSelection

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each goal: the biased in-sample effect as a diamond, the effect on each
        held-out subject as circles, filled where p < .05; "half 1" and "half 2" are chosen from
        one half of the pool and measured against the other. Controls stand beside, in grey.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    checks = selection.checks
    # Without the differences between sets, which are only of the images' properties.
    goals = list(dict.fromkeys(checks.loc[checks["model"] == ENCODER, "set"]))
    models = list(dict.fromkeys(checks["model"]))
    with journal_style():
        n_columns = min(4 if len(models) == 1 else 2, len(goals))
        n_rows = -(-len(goals) // n_columns)
        width = min(WIDTH_IN, (2.0 + 0.4 * len(models)) * n_columns)
        figure = Figure(figsize=(width, 2.1 * n_rows + 0.2 * (len(models) > 1)))
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for number, (panel, goal) in enumerate(zip(panels, goals, strict=False)):
            _draw_goal(panel, checks[checks["set"] == goal], models, colour_of(number))
            panel.set_title(goal)
        for panel in panels[len(goals) :]:
            panel.set_axis_off()
        panels[0].set_ylabel("effect (SD of the pool; alike: Δr)")
        if len(models) > 1:
            handles = [
                Line2D([], [], ls="none", marker=_MARKERS[at % 4], color=_shade(at, "0.0"), ms=4)
                for at in range(len(models))
            ]
            figure.legend(handles, models, loc="outside upper right", ncols=len(models))
    return figure


_MARKERS = ("o", "s", "^", "v")


def _shade(number: int, colour: str) -> str:
    """Return the colour of a model: the goal's for the encoder, greys for controls."""
    return colour if number == 0 else str(0.3 + 0.15 * ((number - 1) % 3))


def _draw_goal(panel: Axes, rows: pd.DataFrame, models: list[str], colour: str) -> None:
    """Draw one goal's effects: a column for each check, and in it one for each model."""
    kinds = list(dict.fromkeys(rows["check"]))
    step = 0.8 / len(models)
    for place, kind in enumerate(kinds):
        for number, model in enumerate(models):
            part = rows[(rows["check"] == kind) & (rows["model"] == model)]
            middle = place + (number - (len(models) - 1) / 2) * step
            spread = np.linspace(-0.19, 0.19, len(part)) * step if len(part) > 1 else np.zeros(1)
            shade = _shade(number, colour)
            for shift, effect, p in zip(spread, part["effect"], part["p"], strict=True):
                panel.plot(
                    middle + shift,
                    effect,
                    "D" if kind == "in-sample" else _MARKERS[number % 4],
                    mec=shade,
                    mfc=shade if p < 0.05 else "white",
                    ms=4 if number == 0 else 3,
                    mew=0.8,
                )
    panel.axhline(0.0, color="0.5", lw=0.6, zorder=0)
    labels = [
        kind.replace("other subject, half ", "half\n").replace("-", "\n").replace(" ", "\n")
        for kind in kinds
    ]
    panel.set_xticks(range(len(kinds)), labels, fontsize=5)
    panel.tick_params(axis="x", length=0)
    panel.set_xlim(-0.5, len(kinds) - 0.5)
    low, high = float(rows["effect"].min()), float(rows["effect"].max())
    low, high = min(low, 0.0), max(high, 0.0)
    room = 0.1 * (high - low) + 1e-9  # for the markers at the edges, which else are cut
    panel.set_ylim(low - room, high + room)

"""Figures of matched-pattern validation: each statistic against its null distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError
from imgtofmri.figures.style import (
    MARK_ROW_POINTS,
    MARKS_LINE,
    colour_of,
    journal_style,
    label_panels,
    mark_significance,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imgtofmri.analyses.validate.matched import MatchedPatterns

__all__ = ["plot_correlations", "plot_matched_patterns"]

WIDTH_IN = 7.2
"""Two columns of a journal."""

TITLES = {
    "group": "Group",
    "roi": "ROIs",
    "category": "Categories",
    "participant": "Participants",
}


def plot_matched_patterns(
    result: MatchedPatterns, controls: Sequence[pd.DataFrame] = (), corrected: str = "p_fdr"
) -> Figure:
    """Draw each statistic with its interval over the violin of its null distribution.

    Parameters
    ----------
    result : MatchedPatterns
        From `imgtofmri.analyses.validate.matched_patterns`.
    controls : sequence of pandas.DataFrame
        Tables of controls; their statistics are drawn as open circles beside.
    corrected : {"p_fdr", "p_max", "p"}
        Which p values the marks show.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each level.
    """
    from matplotlib.figure import Figure

    levels = list(dict.fromkeys(result.table["level"]))
    counts = [int((result.table["level"] == level).sum()) for level in levels]
    rows = _in_rows(counts)
    with journal_style():
        figure = Figure(figsize=(WIDTH_IN, 2.3 * len(rows) + 0.3))
        panels = []
        lines = figure.add_gridspec(len(rows), 1)
        for line, members in enumerate(rows):
            widths = [counts[at] + 1.5 for at in members]
            places = lines[line, 0].subgridspec(1, len(members), width_ratios=widths)
            for place, at in enumerate(members):
                panel = figure.add_subplot(places[0, place])
                _draw_level(panel, levels[at], result, controls, corrected)
                panels.append(panel)
            panels[-len(members)].set_ylabel("matched − mismatched r")
        label_panels(panels)
        if controls:
            handles, labels = panels[0].get_legend_handles_labels()
            # matplotlib puts error bars last; the encoder comes first.
            handles, labels = [handles[-1], *handles[:-1]], [labels[-1], *labels[:-1]]
            figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        which = {"p_fdr": "FDR-corrected", "p_max": "corrected by maximum statistic", "p": ""}
        caption = f"{MARKS_LINE} {which[corrected]}"
        figure.supxlabel(caption, x=0.01, ha="left", fontsize=5.5)
    return figure


def _in_rows(counts: Sequence[int], most: int = 16) -> list[list[int]]:
    """Put panels side by side as long as a row holds no more violins than fit."""
    rows: list[list[int]] = []
    for at, count in enumerate(counts):
        if rows and sum(counts[i] for i in rows[-1]) + count <= most:
            rows[-1].append(at)
        else:
            rows.append([at])
    return rows


def _draw_level(
    axes: Axes,
    level: str,
    result: MatchedPatterns,
    controls: Sequence[pd.DataFrame],
    corrected: str,
) -> None:
    chosen = (result.table["level"] == level).to_numpy()
    table = result.table[chosen]
    null = result.null[:, chosen]
    x = np.arange(len(table))
    _violins(axes, null, x)
    axes.axhline(0, color="0.7", linewidth=0.5, zorder=0)
    statistic = table["statistic"].to_numpy()
    below = np.maximum(statistic - table["lower"].to_numpy(), 0)
    above = np.maximum(table["upper"].to_numpy() - statistic, 0)
    axes.errorbar(
        x,
        statistic,
        yerr=np.vstack([below, above]),
        fmt="o",
        markersize=3.5,
        color=colour_of(0),
        elinewidth=1,
        label=str(table["model"].iloc[0]),
    )
    for number, control in enumerate(controls):
        same = control[control["level"] == level].set_index("name")
        heights = [same["statistic"].get(name, np.nan) for name in table["name"]]
        axes.plot(
            x + 0.18 * (number + 1),
            heights,
            "o",
            markersize=3,
            markerfacecolor="white",
            color=colour_of(number + 1),
            label=str(control["model"].iloc[0]),
        )
    axes.set_xlim(-0.7, len(table) - 0.3)
    axes.set_xticks(x, table["name"])
    if len(table) > 4:
        axes.tick_params(axis="x", rotation=45)
    axes.set_title(TITLES.get(level, level))
    # Room for a row of marks above the highest interval, in a panel about 120 points high.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + (high - low) * 2 * MARK_ROW_POINTS / 120)
    mark_significance(axes, x.tolist(), table[corrected].tolist())


def _violins(axes: Axes, null: NDArray[np.float64], x: NDArray[np.int64]) -> None:
    """Draw the null distributions; one without spread has no density and is a line."""
    for place, values in zip(x, null.T, strict=True):
        if np.ptp(values) > 0:
            drawn = axes.violinplot(values, [int(place)], widths=0.75, showextrema=False)
            bodies: Any = drawn["bodies"]
            for body in bodies:
                body.set(facecolor="0.75", edgecolor="none", alpha=1)
        else:
            axes.hlines(values[0], place - 0.3, place + 0.3, color="0.75")


def plot_correlations(result: MatchedPatterns, categories: Sequence[str] | None = None) -> Figure:
    """Draw the group's correlations of all predicted with all measured patterns.

    Parameters
    ----------
    result : MatchedPatterns
        From `imgtofmri.analyses.validate.matched_patterns`.
    categories : sequence of str, optional
        Each image's category, in the order of ``result.names``; images of a category are framed.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If there is not one category for each image.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    if categories is not None and len(categories) != len(result.names):
        message = (
            f"plot_correlations: categories must name one for each of the {len(result.names)} "
            f"images; got {len(categories)}. Give them in the order of the result's names."
        )
        raise DataError(message)
    matrix = result.correlations
    order = list(range(len(matrix)))
    if categories is not None:
        order.sort(key=lambda at: list(categories).index(categories[at]))
    limit = float(np.abs(matrix).max())
    with journal_style():
        figure = Figure(figsize=(3.5, 3.1))
        axes = figure.subplots()
        image = axes.imshow(
            matrix[np.ix_(order, order)], cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True
        )
        axes.set(xlabel="measured image", ylabel="predicted image", xticks=[], yticks=[])
        figure.colorbar(image, ax=axes, label="Pearson's r", shrink=0.8)
        if categories is not None:
            start = 0
            for name in dict.fromkeys(categories[at] for at in order):
                size = list(categories).count(name)
                corner = (start - 0.5, start - 0.5)
                axes.add_patch(Rectangle(corner, size, size, fill=False, linewidth=0.7))
                axes.text(start + size / 2 - 0.5, -1, name, ha="center", va="bottom", fontsize=6)
                start += size
    return figure

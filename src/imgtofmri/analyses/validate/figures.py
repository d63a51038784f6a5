"""Figures of a validation: statistics over their nulls, correlations, voxels, ROI means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.encoder.controls import ENCODER
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

    from imgtofmri.analyses.validate.accuracy import EncodingAccuracy
    from imgtofmri.analyses.validate.matched import MatchedPatterns
    from imgtofmri.analyses.validate.roi_means import RoiMeansAccuracy

__all__ = ["plot_accuracy", "plot_correlations", "plot_matched_patterns", "plot_roi_means"]

WIDTH_IN = 7.2
"""Two columns of a journal."""

ACCURACY_HEIGHT_IN = 3.0

HALF_WIDTH = 0.36
"""Of a violin of accuracy, in units of the distance between ROIs."""

TITLES = {
    "group": "Group",
    "roi": "ROIs",
    "category": "Categories",
    "participant": "Participants",
}


def plot_matched_patterns(result: MatchedPatterns, corrected: str = "p_fdr") -> Figure:
    """Draw each statistic with its interval over the violin of its null distribution.

    Parameters
    ----------
    result : MatchedPatterns
        From `imgtofmri.analyses.validate.matched_patterns`; statistics of controls are drawn as
        open circles beside.
    corrected : {"p_fdr", "p_max", "p"}
        Which p values the marks show.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each level.
    """
    from matplotlib.figure import Figure

    table, controls = _by_model(result.table)
    levels = list(dict.fromkeys(table["level"]))
    counts = [int((table["level"] == level).sum()) for level in levels]
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
                chosen = (table["level"] == levels[at]).to_numpy()
                null = result.null[:, chosen]
                _draw_level(panel, levels[at], table[chosen], null, controls, corrected)
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


def _by_model(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the encoder's rows of a table, and each control's by its name."""
    models = {str(model): rows for model, rows in table.groupby("model", sort=False)}
    return models.pop(ENCODER), models


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
    table: pd.DataFrame,
    null: NDArray[np.float64],
    controls: Mapping[str, pd.DataFrame],
    corrected: str,
) -> None:
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
        label=ENCODER,
    )
    for number, (model, control) in enumerate(controls.items()):
        same = control[control["level"] == level].set_index("name")
        heights = [same["statistic"].get(name, np.nan) for name in table["name"]]
        axes.plot(
            x + 0.18 * (number + 1),
            heights,
            "o",
            markersize=3,
            markerfacecolor="white",
            color=colour_of(number + 1),
            label=model,
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
            f"categories must name one for each of the {len(result.names)} "
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


def plot_accuracy(result: EncodingAccuracy) -> Figure:
    """Draw the r of each ROI's voxels, with its mean.

    Parameters
    ----------
    result : EncodingAccuracy
        From `imgtofmri.analyses.validate.encoding_accuracy`; the mean r of controls is drawn as
        open marks beside.

    Returns
    -------
    matplotlib.figure.Figure
        Coloured: distribution of r over voxels. Point: mean r, with its interval over images. Below
        each ROI: its voxels, the share with p_fdr <= .05, and with repeats how much of the signal's
        variance is explained. Marks: p of mean r, adjusted over ROIs.
    """
    from matplotlib.figure import Figure

    table, controls = _by_model(result.table)
    places = np.arange(len(table))
    width = min(WIDTH_IN, 1.6 + 0.85 * len(table))
    with journal_style():
        figure = Figure(figsize=(width, ACCURACY_HEIGHT_IN))
        axes = figure.subplots()
        axes.axhline(0.0, color="0.7", lw=0.5, zorder=0)
        for place, roi in zip(places, table["roi"], strict=True):
            region = result.regions[roi] & ~np.isnan(result.maps["r"])
            # All voxels together, the first row, are dark grey; ROIs have colours of their own.
            colour = colour_of(int(place) - 1) if place else "0.5"
            _draw_voxels(axes, result.maps["r"][region], int(place), colour)
        handles = _draw_means(axes, table, controls, "mean_r")
        _label_rois(axes, table, places)
        # Room for a row of marks above the tallest violin.
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + (high - low) * 1.3 * MARK_ROW_POINTS / 150)
        mark_significance(axes, places.tolist(), table["p_fdr"].tolist())
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
        figure.supxlabel(
            f"Interval: over {len(result.names)} images. {MARKS_LINE}, permutation, FDR over ROIs",
            x=0.01,
            ha="left",
            fontsize=5.5,
        )
    return figure


def _draw_means(
    axes: Axes, table: pd.DataFrame, controls: Mapping[str, pd.DataFrame], column: str
) -> list[Any]:
    """Draw a column with its interval, the controls' as open marks beside; return the legend."""
    from matplotlib.lines import Line2D

    places = np.arange(len(table))
    mean = table[column].to_numpy()
    # An interval of few images need not hold the estimate in its middle, nor quite hold it.
    error = np.maximum([mean - table["lower"], table["upper"] - mean], 0)
    axes.errorbar(places, mean, yerr=error, fmt="o", color="black", ms=3.5, lw=0.9, zorder=4)
    label = column.replace("_", " ")
    handles: list[Any] = [Line2D([], [], marker="o", color="black", ms=3.5, label=label)]
    for number, (model, control) in enumerate(controls.items()):
        same = control.set_index("roi")[column]
        heights = [same.get(roi, np.nan) for roi in table["roi"]]
        style: dict[str, Any] = {
            "marker": "os^Dv"[number % 5],
            "mfc": "white",
            "mec": "0.2",
            "ms": 3.2,
        }
        axes.plot(places - 0.13 * (number + 1), heights, ls="none", mew=0.8, zorder=5, **style)
        handles.append(Line2D([], [], ls="none", mew=0.8, label=model, **style))
    return handles


def plot_roi_means(result: RoiMeansAccuracy) -> Figure:
    """Draw measured against predicted ROI means, an ROI a panel and an image a point.

    Parameters
    ----------
    result : RoiMeansAccuracy
        From `imgtofmri.analyses.validate.roi_means_accuracy`.

    Returns
    -------
    matplotlib.figure.Figure
        Each panel's title has r with its interval over images.
    """
    from matplotlib.figure import Figure

    table, _ = _by_model(result.table)
    wide = result.images.pivot_table(index=["roi", "image"], columns="source", values="mean")
    n_columns = min(len(table), 4)
    n_rows = -(-len(table) // n_columns)
    with journal_style():
        figure = Figure(figsize=(1.8 * n_columns, 1.9 * n_rows + 0.2))
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for number, row in enumerate(table.to_dict("records")):
            means, axes = wide.loc[row["roi"]], panels[number]
            axes.plot(
                means["predicted"], means["measured"], "o", ms=2.2, mew=0, color=colour_of(number)
            )
            axes.set_title(
                f"{row['roi']}\nr = {row['r']:+.2f} ({row['lower']:+.2f} to {row['upper']:+.2f})",
                fontsize=6.5,
            )
        for axes in panels[len(table) :]:
            axes.set_visible(False)
        figure.supxlabel("predicted mean response (model units)", fontsize=7)
        figure.supylabel("measured mean response", fontsize=7)
    return figure


def _draw_voxels(axes: Axes, values: NDArray[np.float64], place: int, colour: str) -> None:
    """Draw the density of voxels' values; values without spread have none and are a line."""
    if values.size < 3 or np.ptp(values) < 1e-9:
        axes.hlines(values.mean(), place - HALF_WIDTH, place + HALF_WIDTH, color=colour)
        return
    drawn = axes.violinplot(values, [place], widths=2 * HALF_WIDTH, showextrema=False)
    bodies: Any = drawn["bodies"]
    for body in bodies:
        body.set(facecolor=colour, edgecolor="none", alpha=0.75)


def _label_rois(axes: Axes, table: pd.DataFrame, places: NDArray[np.intp]) -> None:
    """Name the ROIs, with their voxels, the share that is significant and what is explained."""
    labels = []
    for row in table.to_dict("records"):
        share = row["n_significant"] / max(row["n_voxels"], 1)
        label = f"{row['roi']}\n{row['n_voxels']:,} voxels\n{share:.0%} p$_\\mathrm{{FDR}}$ ≤ .05"
        if "explained" in row:
            part = row["explained"]
            label += "\nno sure signal" if np.isnan(part) else f"\n{part:.0%} of signal"
        labels.append(label)
    axes.set_xticks(places, labels)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(table) - 0.4)
    axes.set_ylabel("Pearson's r over images")

"""Figure of encoding accuracy: the voxels of each ROI against what noise allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.figures.style import (
    MARK_ROW_POINTS,
    MARKS_LINE,
    colour_of,
    journal_style,
    mark_significance,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imgtofmri.analyses.validate import EncodingAccuracy

__all__ = ["plot_accuracy"]

WIDTH_IN, HEIGHT_IN = 7.2, 3.0

#: Of a violin, in units of the distance between ROIs.
HALF_WIDTH = 0.36


def plot_accuracy(result: EncodingAccuracy, controls: Sequence[pd.DataFrame] = ()) -> Figure:
    """Draw each ROI's voxels: r on the left of a violin, its noise ceiling on the right.

    Parameters
    ----------
    result : EncodingAccuracy
        From `imgtofmri.analyses.validate.encoding_accuracy`.
    controls : sequence of pandas.DataFrame
        Tables of controls; their mean r is drawn as open circles beside.

    Returns
    -------
    matplotlib.figure.Figure
        Coloured: distribution of r over voxels (the whole violin without repeats). Grey:
        distribution of the noise ceiling r_max, with its mean as a bar. Point: mean r, with the
        bootstrap's interval over images. Below each ROI: its voxels, and the share with
        p_fdr <= .05. Marks: p of mean r, adjusted over ROIs.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    table = result.table
    places = np.arange(len(table))
    ceiling = "r_max" in result.maps
    width = min(WIDTH_IN, 1.6 + 0.85 * len(table))
    with journal_style():
        figure = Figure(figsize=(width, HEIGHT_IN))
        axes = figure.subplots()
        axes.axhline(0.0, color="0.7", lw=0.5, zorder=0)
        for place, roi in zip(places, table["roi"], strict=True):
            region = result.regions[roi] & ~np.isnan(result.maps["r"])
            sides = "left" if ceiling else "both"
            _draw_half(axes, result.maps["r"][region], int(place), sides, _colour(int(place)))
            if ceiling:
                highest = result.maps["r_max"][region]
                _draw_half(axes, highest, int(place), "right", "0.8")
                axes.hlines(highest.mean(), place, place + HALF_WIDTH, color="0.45", lw=1)
        mean = table["mean_r"].to_numpy()
        error = np.maximum([mean - table["lower"], table["upper"] - mean], 0)
        axes.errorbar(places, mean, yerr=error, fmt="o", color="black", ms=3.5, lw=0.9, zorder=4)
        handles: list[Any] = [Line2D([], [], marker="o", color="black", ms=3.5, label="mean r")]
        for number, control in enumerate(controls):
            same = control.set_index("roi")["mean_r"]
            heights = [same.get(roi, np.nan) for roi in table["roi"]]
            style: dict[str, Any] = {
                "marker": "os^Dv"[number % 5],
                "mfc": "white",
                "mec": "0.2",
                "ms": 3.2,
            }
            axes.plot(places - 0.13 * (number + 1), heights, ls="none", mew=0.8, zorder=5, **style)
            label = str(control["model"].iloc[0])
            handles.append(Line2D([], [], ls="none", mew=0.8, label=label, **style))
        if ceiling:
            handles.append(Patch(facecolor="0.8", label=f"noise ceiling ({result.ceiling_method})"))
        _label(axes, table, places)
        # Room for a row of marks above the tallest violin.
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + (high - low) * 1.3 * MARK_ROW_POINTS / 150)
        mark_significance(axes, places.tolist(), table["p_fdr"].tolist())
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
        figure.supxlabel(
            f"Interval: bootstrap over {len(result.names)} images. "
            f"{MARKS_LINE}, permutation, FDR over ROIs",
            x=0.01,
            ha="left",
            fontsize=5.5,
        )
    return figure


def _colour(place: int) -> str:
    """Return the colour of a row: all voxels together are dark grey, ROIs have their own."""
    return "0.5" if place == 0 else colour_of(place - 1)


def _draw_half(axes: Axes, values: NDArray[np.float64], place: int, side: str, colour: str) -> None:
    """Draw the density of voxels' values on one side of a place, or on both.

    Values without spread have no density and are a line.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return
    left = place - HALF_WIDTH * (side != "right")
    right = place + HALF_WIDTH * (side != "left")
    if finite.size < 3 or np.ptp(finite) < 1e-9:
        axes.hlines(finite.mean(), left, right, color=colour)
        return
    drawn = axes.violinplot(finite, [place], widths=2 * HALF_WIDTH, showextrema=False)
    bodies: Any = drawn["bodies"]
    for body in bodies:
        body.set(facecolor=colour, edgecolor="none", alpha=0.75 if side != "right" else 1.0)
        outline = body.get_paths()[0].vertices
        outline[:, 0] = np.clip(outline[:, 0], left, right)


def _label(axes: Axes, table: pd.DataFrame, places: NDArray[np.intp]) -> None:
    """Name the ROIs, with their number of voxels and the share that is significant."""
    labels = []
    for row in table.to_dict("records"):
        share = row["n_significant"] / max(row["n_voxels"], 1)
        labels.append(
            f"{row['roi']}\n{row['n_voxels']:,} voxels\n{share:.0%} p$_\\mathrm{{FDR}}$ ≤ .05"
        )
    axes.set_xticks(places, labels)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(table) - 0.4)
    axes.set_ylabel("Pearson's r over images")

"""The figure of a layer search: how well each layer predicts each ROI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgtofmri.figures.style import colour_of, journal_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["plot_layers"]

PANEL_IN = 1.8
PERSON, CEILING = "0.7", "0.4"
"""Shades of the lines that are no ROI's own."""


def plot_layers(table: pd.DataFrame) -> Figure:
    """Draw each ROI's cross-validated r over layers.

    Parameters
    ----------
    table : pandas.DataFrame
        As `imgtofmri.training.layer_search` returns it.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each ROI: thin lines are subjects' medians over voxels, the thick line is
        their mean, the ring its highest point; the dashed line is the mean noise ceiling, where
        stimuli were repeated.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rois = list(dict.fromkeys(table["roi"]))
    layers = list(dict.fromkeys(table["layer"]))
    n_columns = min(4, len(rois))
    n_rows = -(-len(rois) // n_columns)
    width = max(PANEL_IN, 0.22 * len(layers) + 0.6)
    has_ceiling = False
    with journal_style():
        figure = Figure(figsize=(width * n_columns, (PANEL_IN + 0.4) * n_rows + 0.3))
        panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).ravel()
        for number, (panel, roi) in enumerate(zip(panels, rois, strict=False)):
            rows = table[table["roi"] == roi]
            scores = rows.pivot_table(index="subject", columns="layer", values="median_r")[layers]
            places = np.arange(len(layers))
            panel.plot(places, scores.to_numpy().T, color=PERSON, lw=0.6)
            mean = scores.mean(axis=0).to_numpy()
            panel.plot(places, mean, color=colour_of(number), marker="o", ms=3)
            best = int(np.argmax(mean))
            panel.plot(best, mean[best], "o", mfc="none", mec=colour_of(number), ms=8)
            ceiling = rows["noise_ceiling_r"].mean()
            if np.isfinite(ceiling):
                panel.axhline(ceiling, color=CEILING, lw=0.6, ls="--")
                has_ceiling = True
            panel.axhline(0.0, color="0.8", lw=0.6, zorder=0)
            panel.set_title(roi)
            panel.set_xticks(places, layers, rotation=60, ha="right", rotation_mode="anchor")
        handles = [
            Line2D([], [], color="black", marker="o", ms=3, label="mean over people"),
            Line2D([], [], color=PERSON, lw=0.6, label="one person"),
            Line2D(
                [], [], ls="none", marker="o", mfc="none", mec="black", ms=7, label="best layer"
            ),
        ]
        if has_ceiling:
            dashed = Line2D([], [], color=CEILING, lw=0.6, ls="--", label="mean noise ceiling")
            handles.append(dashed)
        columns = min(len(handles), 2 * n_columns)
        figure.legend(handles=handles, loc="outside upper left", ncols=columns)
        for panel in panels[len(rois) :]:
            panel.set_axis_off()
        for panel in panels[::n_columns]:
            panel.set_ylabel("cross-validated r (median of voxels)")
    return figure

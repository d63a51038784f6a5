"""Figures of a movie's dynamics: similarity over time, agreement, averages around boundaries."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics.comparison import (
    MEASURED,
    BoundaryEffects,
    RegionDynamics,
    p_over_regions,
)
from imgtofmri.encoder.regions import GROUP
from imgtofmri.figures.style import (
    DIVERGING,
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

__all__ = [
    "plot_agreement",
    "plot_boundary_averages",
    "plot_courses",
    "plot_similarity",
    "region_name",
    "region_title",
]

WIDTH_IN = 7.2
"""Two columns of a journal."""

_CHARACTER_IN = 0.05
"""How wide a character of the line below a figure is at most."""


def plot_courses(courses: pd.DataFrame) -> Figure:
    """Draw the predicted time course of each ROI, both hemispheres together.

    Parameters
    ----------
    courses : pandas.DataFrame
        As `imgtofmri.analyses.dynamics.tables.course_table` returns it.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each ROI: the group's course, and those of the encoder's people, thin.
    """
    from matplotlib.figure import Figure

    both = courses[courses["hemi"] == "both"]
    rois = list(dict.fromkeys(both["roi"]))
    with journal_style():
        figure = Figure(figsize=(WIDTH_IN, 0.6 + 0.95 * len(rois)))
        panels = figure.subplots(len(rois), 1, squeeze=False, sharex=True)[:, 0]
        for panel, roi in zip(panels, rois, strict=True):
            panel.axhline(0, color="0.6", linewidth=0.5, zorder=0)
            for subject, rows in both[both["roi"] == roi].groupby("subject", sort=False):
                group = subject == GROUP
                panel.plot(
                    rows["time_s"],
                    rows["response"],
                    color=colour_of(0) if group else "0.6",
                    linewidth=1.1 if group else 0.5,
                    zorder=3 if group else 2,
                )
            panel.set_title(roi)
            panel.set_xlim(0, both["time_s"].max())
        figure.supylabel("Predicted response (model units)", fontsize=7)
        panels[-1].set_xlabel("Time (s)")
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=colour_of(0), linewidth=1.1, label="Mean over people"),
            Line2D([], [], color="0.6", linewidth=0.5, label="People the encoder was fitted on"),
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def plot_similarity(
    similarity: Mapping[str, NDArray[np.float64]],
    tr_s: float,
    boundaries: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw the measured similarity matrix, where there is one, and each model's side by side.

    Parameters
    ----------
    similarity : dict of str to array of shape (n_timepoints, n_timepoints)
        Of the models and, under "measured", of the brains.
    tr_s : float
        Repetition time in seconds.
    boundaries : array of shape (n_boundaries,), int, optional
        Volumes at which events begin; each event is framed on the diagonal.
    title : str
        What stands above.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    names = sorted(similarity, key=lambda name: name != MEASURED)
    end_s = len(similarity[names[0]]) * tr_s
    with journal_style():
        n_rows = -(-len(names) // 5)
        n_columns = -(-len(names) // n_rows)
        width = min(WIDTH_IN, 2.4 * n_columns)
        figure = Figure(figsize=(width, (width / n_columns + 0.55) * n_rows))
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for panel, name in zip(panels, names, strict=False):
            matrix = similarity[name]
            limit = _limit(matrix)
            image = panel.imshow(
                matrix,
                cmap=DIVERGING,
                vmin=-limit,
                vmax=limit,
                extent=(0, end_s, end_s, 0),
                interpolation="none",
            )
            for side in ("top", "right"):
                panel.spines[side].set_visible(True)
            if boundaries is not None:
                _frame_events(panel, np.asarray(boundaries) * tr_s, end_s)
            panel.set_title(name.capitalize())
            panel.set_xlabel("Time (s)")
            bar = figure.colorbar(
                image, ax=panel, orientation="horizontal", shrink=0.7, aspect=18, pad=0.02
            )
            bar.outline.set_linewidth(0.4)
            bar.set_ticks([-limit, 0, limit], labels=[f"−{limit:.2g}", "0", f"{limit:.2g}"])
            bar.set_label("Pattern correlation (r)", size=6.5)
        for panel in panels[::n_columns]:
            panel.set_ylabel("Time (s)")
        for panel in panels[len(names) :]:
            panel.set_axis_off()
        figure.suptitle(title, x=0.01, ha="left", fontsize=8, fontweight="bold")
    return figure


def plot_agreement(
    regions: Sequence[RegionDynamics], tr_s: float, boundaries: ArrayLike | None = None
) -> Figure:
    """Draw models' agreement with the measurement over the movie, and its mean.

    Parameters
    ----------
    regions : sequence of RegionDynamics
        One row each; the models are the same in all.
    tr_s : float
        Repetition time in seconds.
    boundaries : array of shape (n_boundaries,), int, optional
        Volumes at which events begin, marked by lines.

    Returns
    -------
    matplotlib.figure.Figure
        Lines and points are the agreement with the mean over subjects, bands and bars its 95 %
        interval over people (none of few); grey bars hold 95 % of phase-randomised surrogates, and
        marks are p corrected over regions.
    """
    from matplotlib.figure import Figure

    with journal_style():
        figure = Figure(figsize=(WIDTH_IN, 0.75 + 1.05 * len(regions)))
        grid = figure.subplots(
            len(regions), 2, squeeze=False, sharex="col", sharey="row", width_ratios=(5.2, 1)
        )
        corrected = p_over_regions(regions)
        for row, region in enumerate(regions):
            course, means = grid[row]
            _draw_course(course, region, tr_s, boundaries)
            _draw_means(means, region, corrected[row])
            _finish_row([course, means], 1, height_points=55.0)
            course.set_title(region_title(region))
            course.set_ylabel("Agreement (r)")
        grid[-1, 0].set_xlabel("Time (s)")
        grid[0, 1].set_title("Mean over movie")
        _legend(figure, regions[0].models, boundaries is not None)
        _explain(figure, "corrected over regions")
        label_panels(list(grid[0]))
    return figure


def plot_boundary_averages(effects: Sequence[BoundaryEffects], tr_s: float) -> Figure:
    """Draw agreement around event boundaries, and what the first model adds to each baseline.

    Parameters
    ----------
    effects : sequence of BoundaryEffects
        One column each; the models are the same in all.
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    matplotlib.figure.Figure
        Lines are the mean over boundaries, bands its 95 % interval over people and boundaries (none
        of few people); marks are p against surrogates, one-sided, corrected over lags.
    """
    from matplotlib.figure import Figure

    models = [name for name in effects[0].names if " - " not in name]
    differences = [name for name in effects[0].names if " - " in name]
    n_rows = 2 if differences else 1
    with journal_style():
        width = max(3.4, min(1.5 + 1.75 * len(effects), 11.5))
        figure = Figure(figsize=(width, 0.85 + (1.75 + 0.12 * len(models)) * n_rows))
        grid = figure.subplots(n_rows, len(effects), squeeze=False, sharex=True, sharey="row")
        for column, effect in enumerate(effects):
            _draw_average(grid[0, column], effect, models, 0, tr_s)
            n_boundaries = len(effect.boundaries)
            grid[0, column].set_title(f"{region_name(effect.roi)} ({n_boundaries} boundaries)")
            if differences:
                _draw_average(grid[1, column], effect, differences, 1, tr_s)
            grid[-1, column].set_xlabel("Time from boundary (s)")
        grid[0, 0].set_ylabel("Agreement (r)")
        if differences:
            grid[1, 0].set_ylabel(f"{models[0].capitalize()} minus baseline (Δr)")
        for row, names in zip(grid, (models, differences), strict=False):
            _finish_row(list(row), len(names), height_points=115.0)
        _legend(figure, models, False)
        _explain(figure, "corrected over lags")
        label_panels(list(grid[:, 0]))
    return figure


def _draw_course(
    panel: Axes, region: RegionDynamics, tr_s: float, boundaries: ArrayLike | None
) -> None:
    """Draw the course of each model's agreement, the first one's on top."""
    time_s = np.arange(region.n_timepoints) * tr_s
    low, high = region.limits()
    mean = region.agreement
    if boundaries is not None:
        for start in np.asarray(boundaries):
            panel.axvline(start * tr_s, color="0.45", linewidth=0.6, dashes=(3, 2), zorder=0)
    for index in reversed(range(len(region.models))):
        first = index == 0
        colour = colour_of(index)
        shade = 0.28 if first else 0.12
        panel.fill_between(time_s, low[index], high[index], color=colour, alpha=shade, linewidth=0)
        panel.plot(time_s, mean[index], color=colour, linewidth=1.1 if first else 0.7)
    panel.set_xlim(0, time_s[-1])


def _draw_means(panel: Axes, region: RegionDynamics, p: NDArray[np.float64]) -> None:
    """Draw the mean of each model's agreement over the movie, its limits, surrogates and mark."""
    low, high = region.mean_limits()
    places = np.arange(len(region.models))
    for index, mean in enumerate(region.mean_agreement[: len(places)]):
        colour = colour_of(index)
        if region.is_tested:
            chance = np.percentile(region.mean_null[0, index], [2.5, 97.5])
            panel.plot([index, index], chance, color="0.85", linewidth=6, solid_capstyle="butt")
        panel.plot([index, index], [low[index], high[index]], color=colour, linewidth=1.1)
        panel.plot(index, mean, "o", color=colour, markersize=3.5)
    panel.set_xlim(-0.7, len(region.models) - 0.3)
    panel.set_xticks(places, [])
    mark_significance(panel, list(places), list(p[: len(places)]))


def _draw_average(
    panel: Axes, effect: BoundaryEffects, names: Sequence[str], offset: int, tr_s: float
) -> None:
    """Draw averages around boundaries with bands and, above them, a row of marks for each."""
    average = effect.average
    lags_s = average.lags * tr_s
    panel.axvline(0, color="0.45", linewidth=0.6, dashes=(3, 2), zorder=0)
    for row, name in enumerate(names):
        index = effect.names.index(name)
        colour = colour_of(row + offset)
        panel.fill_between(
            lags_s,
            average.lower[index],
            average.upper[index],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        panel.plot(lags_s, average.mean[index], color=colour, marker="o", markersize=1.8)
        mark_significance(panel, list(lags_s), list(effect.p_max[index]), row=row, colour=colour)
    panel.set_xlim(lags_s[0] - 0.5 * tr_s, lags_s[-1] + 0.5 * tr_s)


def _finish_row(panels: Sequence[Axes], n_marks: int, height_points: float) -> None:
    """Make room for rows of marks in panels that share an axis, and draw zero where it is seen."""
    from matplotlib.ticker import MaxNLocator

    bottom, top = panels[0].get_ylim()
    share = min(MARK_ROW_POINTS * n_marks / height_points, 0.6)
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(bottom, top)
    for panel in panels:
        panel.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    panels[0].set_ylim(bottom, top + (top - bottom) * share / (1 - share))
    panels[0].set_yticks([tick for tick in ticks if bottom <= tick <= min(top, 1.0)])


def _legend(figure: Figure, models: Sequence[str], boundaries: bool) -> None:
    """Write one legend above all panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour_of(index), label=name.capitalize())
        for index, name in enumerate(models)
    ]
    if boundaries:
        style: dict[str, Any] = {"color": "0.45", "linewidth": 0.6, "dashes": (3, 2)}
        handles.append(Line2D([], [], label="Event boundary", **style))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))


def _explain(figure: Figure, corrected: str) -> None:
    """Write what marks mean below all panels."""
    text = f"{MARKS_LINE}; against surrogates of the models, {corrected}"
    lines = textwrap.wrap(text, int(figure.get_figwidth() / _CHARACTER_IN))
    figure.supxlabel("\n".join(lines), fontsize=6, color="0.35", x=0.99, ha="right")


def _frame_events(panel: Axes, starts_s: NDArray[np.float64], end_s: float) -> None:
    """Draw a frame around each event's square on the diagonal."""
    from matplotlib.patches import Rectangle

    edges = [0.0, *starts_s, end_s]
    for start, stop in itertools.pairwise(edges):
        size = stop - start
        panel.add_patch(
            Rectangle((start, start), size, size, fill=False, edgecolor="black", linewidth=0.6)
        )


def _limit(matrix: NDArray[np.float64]) -> float:
    """Return a colour limit that neighbours in time and a few extremes do not set."""
    rows, columns = np.triu_indices(len(matrix), k=max(1, min(5, len(matrix) // 3)))
    limit = float(np.percentile(np.abs(matrix[rows, columns]), 99))
    return limit if limit > 0 else 1.0


def region_title(region: RegionDynamics) -> str:
    """Name a region and say how much was measured in it."""
    name = region_name(region.roi)
    return f"{name} ({region.n_subjects} subjects, {region.n_voxels} voxels)"


def region_name(roi: str) -> str:
    """Write a region's name for a title."""
    return "All ROIs" if roi == "all" else roi

"""The figure of a simulation: what is shown when, and what regions answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgtofmri.analyses.simulate.analysis import Simulation
from imgtofmri.experiments import Run
from imgtofmri.figures.style import colour_of, journal_style, plain
from imgtofmri.tables import MISSING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 7.2
COURSE_IN, CONDITION_IN = 1.3, 0.13

MOST_RUNS = 6
"""Further runs are in the table alone."""

MOST_CONDITIONS = 12
"""With more, all events stand in one row."""


def plot_courses(simulation: Simulation, courses: pd.DataFrame) -> Figure:
    """Draw one person's runs.

    Parameters
    ----------
    simulation : Simulation
    courses : pandas.DataFrame
        From `region_courses`, with a row at least.

    Returns
    -------
    matplotlib.figure.Figure
        For each run: above, the signal of each region without noise, of the first person; below,
        when each condition is shown. Of a run that is repeated the first is drawn.
    """
    from matplotlib.figure import Figure

    subject = next(iter(simulation.subjects))
    distinct = {id(run): number for number, run in reversed([*enumerate(simulation.runs)])}
    drawn = sorted(distinct.values())[:MOST_RUNS]
    shown = [_conditions(simulation.runs[number]) for number in drawn]
    heights = [each for events in shown for each in (COURSE_IN, CONDITION_IN * (len(events) + 1))]
    with journal_style():
        figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.5))
        panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        for place, number in enumerate(drawn):
            upper, lower = panels[2 * place : 2 * place + 2]
            rows = courses[(courses["subject"] == subject) & (courses["run"] == number + 1)]
            for index, (roi, course) in enumerate(rows.groupby("roi", sort=False)):
                colour = colour_of(index)
                upper.plot(course["time_s"], course["signal"], color=colour, label=str(roi), lw=0.8)
            upper.axhline(0.0, color="0.3", lw=0.6)
            upper.set_ylabel("signal (%)")
            upper.set_title(f"run {number + 1} of {len(simulation.runs)}, {plain(subject)}")
            upper.tick_params(labelbottom=False)
            _raster(lower, shown[place])
            end_s = simulation.runs[number].n_volumes * simulation.scan.tr_s
            for panel in (upper, lower):
                panel.set_xlim(0.0, end_s)
        panels[-1].set_xlabel("time in the run (s)")
        labels = panels[0].get_legend_handles_labels()
        figure.legend(*labels, loc="outside upper right", ncols=8)
    return figure


def _conditions(run: Run) -> dict[str, list[tuple[float, float]]]:
    """Return when each condition is shown: onsets and durations in seconds."""
    found: dict[str, list[tuple[float, float]]] = {}
    for cell in run.cells:
        if cell.get("stim_file", MISSING) != MISSING:
            name = cell.get("trial_type", "events")
            span = float(cell["onset"]), float(cell["duration"])
            found.setdefault(name, []).append(span)
    if len(found) > MOST_CONDITIONS:
        return {f"{len(found)} conditions": [span for spans in found.values() for span in spans]}
    return dict(sorted(found.items()))


def _raster(panel: Axes, events: dict[str, list[tuple[float, float]]]) -> None:
    """Draw a row of bars for each condition."""
    for row, spans in enumerate(events.values()):
        panel.broken_barh(spans, (row - 0.4, 0.8), facecolor="0.25", lw=0.4, edgecolor="0.25")
    panel.set_yticks(range(len(events)), [plain(name) for name in events])
    panel.set_ylim(len(events) - 0.5, -0.5)
    panel.spines["left"].set_visible(False)
    panel.tick_params(axis="y", length=0)

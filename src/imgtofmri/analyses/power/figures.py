"""The figure of a plan: one person's t over runs, and power over people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgtofmri.analyses.power.analysis import Plan
from imgtofmri.figures.style import colour_of, journal_style, label_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN = 7.2


def plot_plan(plan: Plan) -> Figure:
    """Draw what a plan expects.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    matplotlib.figure.Figure
        (a) One person's expected t after each number of runs: thin lines are the encoder's people,
        thick ones their mean. (b) Power over people with all runs; bands reach from the power if
        the mean were the weakest person's to that if it were the strongest's. Dashed: the power
        that is wanted.
    """
    from matplotlib.figure import Figure

    asked = plan.settings
    with journal_style():
        figure = Figure(figsize=(WIDTH_IN, 2.8))
        left, right = figure.subplots(1, 2)
        for number, roi in enumerate(plan.rois):
            colour = colour_of(number)
            people = plan.people[plan.people["roi"] == roi]
            for _, one in people.groupby("subject"):
                left.plot(one["n_runs"], one["t"], color=colour, lw=0.5, alpha=0.6)
            mean = people.groupby("n_runs")["t"].mean()
            left.plot(mean.index, mean, "o-", color=colour, ms=2.5, label=roi)
            rows = plan.group.query("roi == @roi and n_runs == @asked.n_runs")
            right.plot(rows["n_people"], rows["power"], color=colour)
            bounds = (rows["power_low"].astype(float), rows["power_high"].astype(float))
            right.fill_between(rows["n_people"], *bounds, color=colour, alpha=0.12, lw=0)
        left.axhline(0.0, color="0.3", lw=0.6)
        left.set_xlabel("runs")
        left.set_ylabel("expected t in one person")
        left.set_xticks(range(1, asked.n_runs + 1, max(1, asked.n_runs // 8)))
        right.axhline(asked.target, color="0.3", lw=0.6, ls="--")
        right.set_ylim(0.0, 1.02)
        right.set_xlabel("people")
        runs = "1 run" if asked.n_runs == 1 else f"{asked.n_runs} runs"
        right.set_ylabel(f"power, {runs} each")
        figure.suptitle(plan.contrast, fontsize=8)
        figure.legend(loc="outside right upper")
        label_panels([left, right])
    return figure

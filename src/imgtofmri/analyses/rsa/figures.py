"""Figures of representational geometry: matrices, models against the ceiling, maps of images."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.rsa.comparison import ModelComparison
from imgtofmri.figures.style import colour_of, journal_style, significance_mark
from imgtofmri.rsa import RDMs, embed_rdm, to_square
from imgtofmri.rsa.compare import mean_ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_comparison", "plot_mds", "plot_rdms"]

WIDTH_IN = 7.2

STARS_LINE = "* p < .05, ** p < .01, *** p < .001, **** p < .0001"
"""What the stars mean, for the caption."""

_STATISTICS = {
    "spearman": "Spearman's ρ",
    "kendall": "Kendall's τ-a",
    "pearson": "Pearson's r",
    "cosine": "cosine",
}


def plot_rdms(rdms: RDMs, ranked: bool = True) -> Figure:
    """Draw dissimilarity matrices side by side.

    Parameters
    ----------
    rdms : RDMs
    ranked : bool
        Colour by percentile, as comparisons by rank see a matrix; else by value.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    values = rdms.dissimilarities
    if ranked:
        values = 100.0 * (mean_ranks(values) - 0.5) / values.shape[1]
    squares = to_square(values)
    n_columns = min(5, len(squares))
    n_rows = -(-len(squares) // n_columns)
    with journal_style():
        size = WIDTH_IN / 5
        figure = Figure(figsize=(size * n_columns + 0.7, (size + 0.3) * n_rows))
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        limits = (float(values.min()), float(values.max()))
        for panel, square, name in zip(panels, squares, rdms.names, strict=False):
            shown = panel.imshow(square, cmap="viridis", vmin=limits[0], vmax=limits[1])
            panel.set_title(name)
            panel.set_xticks([])
            panel.set_yticks([])
        for panel in panels[len(squares) :]:
            panel.set_axis_off()
        bar = figure.colorbar(shown, ax=list(panels), shrink=0.7, aspect=25)
        bar.set_label("dissimilarity" + (" (percentile)" if ranked else ""))
    return figure


def plot_comparison(
    result: ModelComparison,
    others: Mapping[str, ModelComparison] | None = None,
    models: Collection[str] = (),
    title: str = "",
) -> Figure:
    """Draw each model's similarity to the measured subjects beside the noise ceiling.

    Parameters
    ----------
    result : ModelComparison
    others : mapping of str to ModelComparison, optional
        Of the same measured people. A control of a model's name stands beside the model; others
        stand at the end.
    models : collection of str
        Which of the others are models rather than controls.
    title : str
        Such as which measured set it is.

    Returns
    -------
    matplotlib.figure.Figure
        Bars: score, with its interval; open circles: people; grey band: noise ceiling, lower to
        upper, hatched where it is unreliable; stars: ``p_people_and_images_fdr``, with one person
        ``p_same_people_max``. Controls are grey.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    others = others or {}
    bars = _bars(result, others, models)
    n_places = int(max(bar.place for bar in bars)) + 1
    labels = list(result.models) + [bar.label for bar in bars if bar.place >= len(result.models)]
    with journal_style():
        width = 0.5 * len(bars) + 0.1 * n_places + 1.3
        width = min(WIDTH_IN, max(2.4, width))
        crowded = n_places >= 9 or max(map(len, labels)) > 12
        # Slanted labels take of the height.
        figure = Figure(figsize=(width, 2.6 + crowded * 0.04 * max(map(len, labels))))
        axes = figure.subplots()
        if result.ceiling is not None:
            band = (result.ceiling.lower, result.ceiling.upper)
            if result.ceiling_is_reliable:
                axes.axhspan(*band, color="0.9", lw=0)
            else:
                axes.axhspan(*band, facecolor="none", edgecolor="0.8", hatch="////", lw=0)
        for bar in bars:
            _draw_bar(axes, bar, result.ceiling is not None)
        axes.axhline(0.0, color="0.3", lw=0.6)
        axes.set_title(title)
        axes.margins(y=0.12)
        slanted: dict[str, Any] = {"rotation": 45, "ha": "right"} if crowded else {}
        axes.set_xticks(range(n_places), labels, **slanted)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(f"similarity to measured ({_STATISTICS[result.method]})")
        beside = [name for name, other in others.items() if len(other.models) > 1]
        if beside:
            handles = [Patch(facecolor=_GREYS[k % 3], label=name) for k, name in enumerate(beside)]
            figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
        caption = "; ".join([STARS_LINE, *_told(result)])
        figure.supxlabel(textwrap.fill(caption, int(24 * width)), fontsize=5)
    return figure


def stars(p: float) -> str:
    """Return the stars for a p value; nothing at .05 and above, where the null would be, too.

    Examples
    --------
    >>> [stars(p) for p in (0.07, 0.03, 0.004)]
    ['', '*', '**']
    """
    return significance_mark(p) if p < 0.05 else ""


def _told(result: ModelComparison) -> list[str]:
    """Say what the figure shows, for its caption."""
    if result.ceiling is None:
        return [
            "bars: one person, interval over images",
            "p: permuted conditions, corrected by the maximum",
        ]
    if result.ceiling_is_reliable:
        band = "grey band: noise ceiling"
    else:
        band = "hatched band: noise ceiling, UNRELIABLE (its lower bound is not above chance)"
    return [
        "p and intervals: bootstrap over people and images, false discovery rate over the bars of "
        "one model",
        "circles: people",
        band,
    ]


_GREYS = ("0.45", "0.62", "0.75")


@dataclass(frozen=True)
class _Bar:
    """One model or control in the figure: where it stands, and its row of the table."""

    place: float
    width: float
    colour: str
    label: str
    row: Mapping[Any, Any]
    similarity: NDArray[np.float64]


def _bars(
    result: ModelComparison, others: Mapping[str, ModelComparison], models: Collection[str]
) -> list[_Bar]:
    """Put each model's bar and its controls' side by side, and what belongs to no ROI after."""
    beside = [name for name, other in others.items() if len(other.models) > 1]
    width = 0.7 / (1 + len(beside))
    rows = result.table.to_dict("records")
    found = [
        _Bar(k - (len(beside)) * width / 2, width, colour_of(k), str(row["model"]), row, values)
        for k, (row, values) in enumerate(zip(rows, result.similarity, strict=True))
    ]
    after = len(rows)
    for name, other in others.items():
        records = zip(other.table.to_dict("records"), other.similarity, strict=True)
        for row, values in records:
            if name in beside:
                number = beside.index(name)
                place = result.models.index(row["model"]) + (number + 1 - len(beside) / 2) * width
                found.append(_Bar(place, width, _GREYS[number % 3], name, row, values))
            else:
                colour = colour_of(after) if name in models else _GREYS[0]
                found.append(_Bar(float(after), width, colour, name, row, values))
                after += 1
    return found


def _draw_bar(axes: Axes, bar: _Bar, several: bool) -> None:
    """Draw one bar with its interval, people (where there are several) and stars."""
    score = bar.row["score"]
    axes.bar(bar.place, score, 0.94 * bar.width, color=bar.colour)
    error = [[score - bar.row["ci_low"]], [bar.row["ci_high"] - score]]
    axes.errorbar(bar.place, score, yerr=error, fmt="none", color="black", lw=0.8)
    top = max(float(bar.similarity.max()), bar.row["ci_high"])
    if several:
        spread = np.linspace(-0.3, 0.3, bar.similarity.size) * bar.width
        axes.plot(bar.place + spread, bar.similarity, "o", mfc="none", mec="0.25", ms=2.2, mew=0.5)
    axes.annotate(
        stars(bar.row["p_people_and_images_fdr" if several else "p_same_people_max"]),
        (bar.place, max(top, 0.0)),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=7,
    )


def plot_mds(
    rdms: RDMs,
    thumbnails: Mapping[str, NDArray[np.uint8]] | None = None,
    groups: Sequence[str] | None = None,
    thumbnail_in: float = 0.24,
) -> Figure:
    """Place images in a plane so that near ones have similar patterns, one panel for each matrix.

    Parameters
    ----------
    rdms : RDMs
    thumbnails : mapping of str to array of shape (height, width, 3), optional
        Pictures of the conditions; conditions without one are points.
    groups : sequence of str, length n_conditions, optional
        Colours the frames (or points) by category.
    thumbnail_in : float
        Longest side of a thumbnail in inches.

    Returns
    -------
    matplotlib.figure.Figure
        Titles give stress-1, the misfit of the picture: above 0.2 read it with care.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    pictures = thumbnails or {}
    kinds = list(dict.fromkeys(groups)) if groups is not None else []
    colours = ["0.4"] * len(rdms.conditions)
    if groups is not None:
        colours = [colour_of(kinds.index(group)) for group in groups]
    n_columns = min(3, len(rdms.names))
    n_rows = -(-len(rdms.names) // n_columns)
    with journal_style():
        size = min(WIDTH_IN / n_columns, 3.6)
        figure = Figure(figsize=(size * n_columns, (size + 0.2) * n_rows + 0.2))
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for panel, vector, name in zip(panels, rdms.dissimilarities, rdms.names, strict=False):
            points, stress = embed_rdm(vector)
            panel.scatter(points[:, 0], points[:, 1], s=8, c=colours, lw=0)
            for condition, point, colour in zip(rdms.conditions, points, colours, strict=True):
                if condition in pictures:
                    _draw_thumbnail(panel, pictures[condition], point, colour, thumbnail_in)
            panel.set_title(f"{name}   (stress {stress:.2f})")
            panel.set_aspect("equal", adjustable="datalim")
            panel.margins(0.08)
            panel.set_axis_off()
        for panel in panels[len(rdms.names) :]:
            panel.set_axis_off()
        if kinds:
            handles = [
                Line2D([], [], marker="s", ls="", color=colour_of(number), label=kind, ms=4)
                for number, kind in enumerate(kinds)
            ]
            figure.legend(handles=handles, loc="outside upper right", ncols=6)
    return figure


def _draw_thumbnail(
    axes: object,
    picture: NDArray[np.uint8],
    point: NDArray[np.float64],
    colour: str,
    longest_in: float,
) -> None:
    """Put a small framed picture at a point."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    # Offset images are sized in pixels at 72 to the inch.
    zoom = longest_in * 72.0 / max(picture.shape[:2])
    box = AnnotationBbox(
        OffsetImage(picture, zoom=zoom, interpolation="bilinear"),
        (float(point[0]), float(point[1])),
        pad=0.06,
        bboxprops={"edgecolor": colour, "lw": 0.8},
    )
    axes.add_artist(box)  # type: ignore[attr-defined]

"""What all figures share: type, colours, marks of significance, and how they are written."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgtofmri.exceptions import OptionError, choice_message
from imgtofmri.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Figure

__all__ = [
    "COLOURS",
    "DIVERGING",
    "FORMATS",
    "colour_of",
    "journal_style",
    "label_panels",
    "mark_significance",
    "save_figure",
    "significance_mark",
]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's colours, which people with colour blindness can tell apart."""

DIVERGING = "RdBu_r"
"""The colour map of values on both sides of zero."""

FORMATS = ("png", "svg")
"""The formats that figures are saved in."""

MARKS = ((1e-4, "****"), (1e-3, "***"), (1e-2, "**"), (0.05, "*"), (0.10, "†"))
"""Below which p each mark is due."""

MARK_ROW_POINTS = 11.0
"""Height of a row of marks: four stars, one on the other."""

MARKS_LINE = "† p < .10, * p < .05, ** p < .01, *** p < .001, **** p < .0001"
"""What the marks mean, for captions."""

FOOTNOTE = (
    "Predicted responses are no measurements. How far they can be trusted: imgtofmri describe, "
    "docs/explanation/validity.md"
)
"""What stands below every figure of predictions."""

_FOOTNOTE_LINE_IN, _FOOTNOTE_CHARACTER_IN = 0.07, 0.036

_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "lines.linewidth": 1.1,
    # Of what notebooks show: type of 7 points is to be read on a page.
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "imgtofmri",
    "figure.constrained_layout.use": True,
}


@contextmanager
def journal_style() -> Iterator[None]:
    """Draw in the package's style inside the block, and leave the user's settings alone."""
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        # A machine has one of the sans-serif fonts and warns of those before it in the list.
        mpl.rcParams["font.sans-serif"] = [_first_font(_SETTINGS["font.sans-serif"])]
        yield
    _let_notebooks_show()


def _let_notebooks_show() -> None:
    """Have a notebook show figures as pictures where nothing has told it how.

    It knows once pyplot is imported, which nothing of this package needs, and would show a line of
    text until then.
    """
    from matplotlib.figure import Figure

    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    formatter = shell.display_formatter.formatters["image/png"]
    try:
        formatter.lookup_by_type(Figure)
    except KeyError:
        formatter.for_type(Figure, _png)


def _png(figure: Figure) -> bytes:
    """Return a figure as a notebook shows it."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=figure.dpi, bbox_inches="tight")
    return picture.getvalue()


def significance_mark(p: float) -> str:
    """Return the mark for a p value: a dagger below .10, a star below .05, and so on.

    Parameters
    ----------
    p : float
        NaN, where nothing could be computed, has no mark.

    Returns
    -------
    str
        Empty where p is .10 or more.

    Examples
    --------
    >>> [significance_mark(p) for p in (0.2, 0.07, 0.03, 0.004, 0.0002, 0.00001)]
    ['', '†', '*', '**', '***', '****']
    """
    return next((mark for limit, mark in MARKS if p < limit), "")


def mark_significance(
    axes: Axes, x: Sequence[float], p: Sequence[float], *, row: int = 0, colour: str = "black"
) -> None:
    """Write marks below a panel's upper edge, star under star, so that neighbours stay apart.

    Parameters
    ----------
    axes : Axes
        The panel.
    x : sequence of float
        Where the marks go.
    p : sequence of float
        Their p values.
    row : int
        Which row, from the top, each `MARK_ROW_POINTS` high.
    colour : str
        Of the marks.
    """
    for place, value in zip(x, p, strict=True):
        mark = significance_mark(float(value))
        if mark:
            axes.annotate(
                "\n".join(mark),
                (place, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -MARK_ROW_POINTS * (row + 1)),
                textcoords="offset points",
                ha="center",
                va="bottom",
                linespacing=0.42,
                fontsize=6,
                color=colour,
            )


def plain(text: str) -> str:
    r"""Return a name of a user's as figures show it: dollars begin no formula.

    Examples
    --------
    >>> plain("5$_a$.jpg")
    '5\\$_a\\$.jpg'
    """
    return text.replace("$", r"\$")


def colour_of(index: int) -> str:
    """Return the colour of the model at an index, over again after the last."""
    return COLOURS[index % len(COLOURS)]


def label_panels(axes: Sequence[Axes], letters: str = "abcdefghijklmnopqrstuvwxyz") -> None:
    """Write bold letters at the upper left of panels, as far as the letters go."""
    for panel, letter in zip(axes, letters, strict=False):
        panel.annotate(
            letter,
            (0, 1),
            xycoords="axes fraction",
            xytext=(-16, 4),
            textcoords="offset points",
            fontweight="bold",
            fontsize=9,
        )


def save_figure(
    figure: Figure,
    stem: Path,
    formats: Sequence[str] = FORMATS,
    *,
    dpi: int = 300,
    footnote: str = FOOTNOTE,
    note: str = "",
) -> tuple[Path, ...]:
    """Write a figure in each format, each file whole or not at all.

    The footnote stands below the figure, on a strip of its own.

    Parameters
    ----------
    figure : Figure
        What to write.
    stem : Path
        The files' path without the suffix.
    formats : sequence of {"png", "svg", "pdf"}, default ("png", "svg")
        Formats; text in SVG stays text.
    dpi : int, default 300
        Dots an inch of PNG.
    footnote : str
        By default, where to read how far predictions can be trusted.
    note : str
        What comes before it: which encoder and network, `Provenance.note`.

    Returns
    -------
    tuple of Path
        The files.

    Raises
    ------
    OptionError
        If a format is not known.
    OutputError
        If the folder cannot be written to.
    """
    known = (*FORMATS, "pdf")
    for name in formats:
        if name not in known:
            raise OptionError(choice_message("", "formats", name, known))
    from matplotlib.transforms import Bbox

    width, height = figure.get_size_inches()
    lines = textwrap.wrap(
        ". ".join(filter(None, (note, footnote))),
        max(1, int((width - 0.06) / _FOOTNOTE_CHARACTER_IN)),
    )
    strip = _FOOTNOTE_LINE_IN * (len(lines) + 1) if lines else 0.0
    with journal_style():
        below = figure.text(
            0.03 / width, -_FOOTNOTE_LINE_IN / 4 / height, "\n".join(lines), fontsize=4, va="top"
        )
    shown = Bbox([[0, -strip], [width, height]])
    _make_readable(figure)
    files, layout = [], figure.get_layout_engine()
    for name in formats:
        path = stem.with_name(f"{stem.name}.{name}")
        # Without a date the same figure gives the same bytes.
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(name)
        with journal_style(), atomic_path(path) as temporary:
            figure.savefig(
                temporary,
                format=name,
                dpi=dpi,
                metadata=metadata,
                facecolor="white",
                bbox_inches=shown,
            )
        files.append(path)
        # Placed once: every format looks alike.
        figure.set_layout_engine("none")
    figure.set_layout_engine(layout)
    below.remove()
    return tuple(files)


def _make_readable(figure: Figure) -> None:
    """Show what is no text in the names of files as escapes."""
    from matplotlib.text import Text

    for item in figure.findobj(Text):
        assert isinstance(item, Text)
        shown = item.get_text()
        text = shown.encode("utf-8", "backslashreplace").decode()
        if text != shown:
            item.set_text(text)


def _first_font(names: Sequence[str]) -> str:
    """Return the first of some fonts that this machine has."""
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in names if name in there), names[-1])

"""Text that is shown: of unknown origin, made fit for it; and tables."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any


class Brief:
    """A dataclass that shows itself in one line: what it holds, and how much, not the numbers."""

    __slots__ = ()

    def __repr__(self) -> str:
        own: Any = self
        said = (f"{field.name}={_brief(getattr(self, field.name))}" for field in fields(own))
        return f"{type(self).__name__}({', '.join(said)})"


def _brief(value: object) -> str:
    if value is None or isinstance(value, str | int | float | Path):
        return reprlib.repr(value)
    kind = type(value).__name__
    if hasattr(value, "shape"):
        return f"<{kind} {tuple(value.shape)}>"
    return f"<{kind} of {len(value)}>" if hasattr(value, "__len__") else f"<{kind}>"


def visible(text: str) -> str:
    r"""Return a line of text in which whatever is not to be seen is spelt out.

    A name in a file can hold what a terminal obeys: colours, jumps of the cursor, a new title. So
    can bytes of a file's name that are no UTF-8, and letters that turn the direction of writing.

    Examples
    --------
    >>> print(visible("Zürich \x1b[31m\udce9"))
    Zürich \u001b[31m\udce9
    """
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable()
        else f"\\u{ord(letter):04x}"
        if ord(letter) < 0x10000
        else f"\\U{ord(letter):08x}"
        for letter in text
    )


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of text as lines whose columns stand under each other.

    Examples
    --------
    >>> table_lines([("roi", "voxels"), ("EarlyVis", "7")])
    ['roi       voxels', 'EarlyVis  7']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]

"""What commands print, fit to be shown: names of files and in files are of unknown origin."""

from __future__ import annotations

import json
from typing import Any

import typer

from imgtofmri.text import visible


def say(text: str, *, err: bool = False) -> None:
    """Print lines in which whatever a terminal would obey is spelt out.

    Parameters
    ----------
    text : str
        One line, or several.
    err : bool
        Whether to print to standard error, where what is no result goes.
    """
    for line in text.split("\n"):
        typer.echo(visible(line), err=err)


def say_json(value: Any) -> None:
    """Print a value as JSON, whose own way of spelling letters out is kept."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    say(
        "".join(
            char if char == "\n" or char.isprintable() else json.dumps(char)[1:-1] for char in text
        )
    )

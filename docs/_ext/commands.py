"""A page for each command, with its help as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import write_pages
from sphinx.application import Sphinx
from typer.main import get_command

from imgtofmri.cli.app import app as program

FOLDER = "reference/commands"
WIDTH = 96


def command_paths() -> Iterator[tuple[str, ...]]:
    """Yield the words of each command, groups' own commands one by one."""
    yield from _below(get_command(program), ())


def command_of(words: tuple[str, ...]) -> Any:
    """Return a command by its words."""
    command: Any = get_command(program)
    for word in words:
        command = command.commands[word]
    return command


def _below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, each in command.commands.items():
        if getattr(each, "commands", None):
            yield from _below(each, (*words, name))
        else:
            yield (*words, name)


def _write_pages(app: Sphinx) -> None:
    pages = {f"{'-'.join(words)}.md": _page(words) for words in command_paths()}
    write_pages(Path(app.srcdir) / FOLDER, pages)


def _page(words: tuple[str, ...]) -> str:
    path = ":".join(words)
    said = " ".join(("imgtofmri", *words))
    return (
        f"# `{said}`\n\n```{{typer}} imgtofmri.cli.app.app:{path}\n:prog: {said}\n"
        f":width: {WIDTH}\n:preferred: text\n```\n"
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the pages before any is read."""
    app.connect("builder-inited", _write_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

"""``imgtofmri report``: a run's results as one page; and how commands end with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.say import say


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder that a command wrote to.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page; FOLDER/report.html."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Make the page of a run's results: one file that opens from disk, by mail, and offline.

    It holds the maps as numbers: any stimulus, or the mean of any group, minus any other is drawn
    at once, in slices and on inflated surfaces, with the means of ROIs. Commands write it, too,
    unless --no-report says not to.

    **Examples**

    imgtofmri report out/

    imgtofmri report out/contrast.json -o contrast.html
    """
    from imgtofmri.report import write_report

    _say_open(write_report(folder, output, progress=not quiet))


def make_page(folder: Path, wanted: bool) -> None:
    """End a command with its page, or without one; a page of an earlier run is never left."""
    if wanted:
        from imgtofmri.report import write_report

        write_report(folder)
    show_page(folder, wanted)


def show_page(folder: Path, wanted: bool) -> None:
    """Say what to open, where there is a page of this run; remove an earlier run's."""
    from imgtofmri.outputs.folder import PAGE, remove_page

    if not wanted:
        remove_page(folder)
    elif (folder / PAGE).is_file():
        _say_open(folder / PAGE)


def _say_open(page: Path) -> None:
    say(f"open {page}", err=True)

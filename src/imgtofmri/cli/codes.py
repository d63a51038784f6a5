"""How a command ends: its exit code, and what it says of inputs that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from imgtofmri.stimuli import Failure

DONE, FAILED, USAGE, PARTIAL, ALL_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130


def report_failures(failures: Sequence[Failure], n_done: int) -> int:
    """Name what failed on standard error and return the exit code."""
    for failure in failures:
        typer.echo(f"imgtofmri: {failure.error}", err=True)
    if not failures:
        return DONE
    return PARTIAL if n_done else ALL_FAILED

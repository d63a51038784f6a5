"""How a command ends: its exit code, and what it says of errors and of inputs that failed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imgtofmri.cli.options import SETTINGS
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.stimuli import Failure

OF_RUNS = ("overwrite", "resume", "rois_only")
"""What messages of commands that read another's results say of the command that wrote them."""

DONE, FAILED, USAGE, PARTIAL, ALL_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130


def in_options(error: Exception, options: Mapping[str, str] | None = None) -> str:
    """Return an error's message with parameters called as the command line calls them.

    Parameters
    ----------
    error : Exception
        Whose message has parameters in backquotes, or begins with the one that it is about.
    options : mapping of str to str, optional
        The option of each of a command's parameters. Those of `imgtofmri.Settings` are known, and
        those that a run is done again with.
    """
    known = {name: f"--{name.replace('_', '-')}" for name in (*SETTINGS, *OF_RUNS)}
    known |= dict(options or {})
    message, about = str(error), getattr(error, "option", "")
    if about in known and message.startswith(about):
        message = f"`{about}`{message.removeprefix(about)}"
    return re.sub(r"`([a-z0-9_]+)`", lambda found: known.get(found[1], found[0]), message)


def report_failures(failures: Sequence[Failure], n_done: int) -> int:
    """Name what failed on standard error and return the exit code."""
    for failure in failures:
        say(f"imgtofmri: {in_options(failure.error)}", err=True)
    return ending(len(failures), n_done)


def ending(n_failed: int, n_done: int) -> int:
    """Return the exit code of what can fail item by item."""
    if not n_failed:
        return DONE
    return PARTIAL if n_done else ALL_FAILED

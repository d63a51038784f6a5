"""How a command reads its arguments and shows its flags, where people expect more than Typer."""

from __future__ import annotations

import os
import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

ROIS = "--rois"

_NAME = re.compile(r"[A-Za-z]\w*")


class _PlainFlags:
    """Flags show no type."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, those that Typer adds included."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class Group(_PlainFlags, TyperGroup):
    """A command of commands."""


class Command(_PlainFlags, TyperCommand):
    """A command whose ``--rois`` takes several names.

    Attributes
    ----------
    rois : str
        What that option is called.
    takes_inputs : bool
        Whether inputs may follow its names.
    """

    rois = ROIS
    takes_inputs = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        return super().parse_args(ctx, several_rois(args, self.rois, self.takes_inputs))


def several_rois(arguments: list[str], option: str = ROIS, takes_inputs: bool = True) -> list[str]:
    """Write ``--rois LOC PPA`` as the parser needs it: the option before each name.

    A word counts as a name as long as it looks like one and, where inputs may follow, no file is
    called so.

    Examples
    --------
    >>> several_rois(["--rois", "LOC", "PPA", "photos/", "-o", "out"])
    ['--rois', 'LOC', '--rois', 'PPA', 'photos/', '-o', 'out']
    """
    found: list[str] = []
    inside = False
    for word in arguments:
        if inside and found[-1] != option:
            is_input = takes_inputs and os.path.lexists(word)
            inside = bool(_NAME.fullmatch(word)) and not is_input
            found += [option] if inside else []
        found.append(word)
        inside = inside or word == option
    return found

"""Texts and JSON of unknown origin, read within limits."""

from __future__ import annotations

import errno
import json
import re
import stat
from itertools import accumulate
from pathlib import Path
from typing import Any

from imgtofmri.limits import limit, variable

# A string, in which brackets do not count and which may lack its end, or anything but a bracket.
_NO_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[^\[\]{}"]++', re.DOTALL)


def read_text(path: Path, *, errors: str = "strict") -> str:
    """Read a file of text in UTF-8, with or without a byte order mark.

    Parameters
    ----------
    path : Path
        The file.
    errors : {"strict", "replace", "surrogateescape"}
        What is done about bytes that are none.

    Raises
    ------
    OSError
        If it cannot be read, is a device or a pipe, which may have no end, or is beyond the limit.
    UnicodeDecodeError
        If it is no UTF-8.
    """
    status = path.stat()
    # Asked before it is opened: opening a pipe waits for whoever writes to it.
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise OSError(errno.EINVAL, "it is a device or a pipe")
    most = limit("text_mb")
    if status.st_size > most * 1e6:
        reason = (
            f"it has {status.st_size / 1e6:.0f} MB, above the limit of {most:g} that "
            f"{variable('text_mb')} sets"
        )
        raise OSError(errno.EFBIG, reason)
    return path.read_text(encoding="utf-8-sig", errors=errors)


def parse_json(text: str) -> Any:
    """Return what a text of JSON says.

    Raises
    ------
    ValueError
        If it is none, or lists and objects lie in one another beyond the limit.
    """
    most = limit("nesting")
    # Fewer brackets than may lie in one another need no counting.
    if text.count("[") + text.count("{") > most and _depth(text) > most:
        reason = f"nested more than {most} deep, the limit that {variable('nesting')} sets"
        raise ValueError(reason)
    try:
        return json.loads(text)
    except RecursionError as error:
        reason = "nested too deep"
        raise ValueError(reason) from error


def _depth(text: str) -> int:
    """Return how many brackets lie in one another, at most."""
    brackets = _NO_BRACKETS.sub("", text)
    return max(accumulate(1 if mark in "[{" else -1 for mark in brackets), default=0)

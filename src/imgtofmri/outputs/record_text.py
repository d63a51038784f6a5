"""The text of a record: its head laid out, then lists with one line of JSON an entry.

A run may have a million inputs: entries stay lines until somebody asks what they say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from imgtofmri.documents import parse_json
from imgtofmri.outputs.journal import NOT_TEXT

_INPUTS = ' "inputs": ['
_TOGETHER = 1000
"""So many lines are parsed, or written, at once: sooner than each by itself."""


def record_bytes(head: Mapping[str, Any], lists: Mapping[str, Iterable[str]]) -> Iterator[bytes]:
    """Yield a record's text, piece by piece.

    Parameters
    ----------
    head : mapping
        JSON values.
    lists : mapping of str to iterable of str
        By name, the lines of entries.
    """
    said = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    for key, lines in lists.items():
        said += f',\n "{key}": ['
        rest, between, after = iter(lines), "\n  ", "]"
        while some := list(islice(rest, _TOGETHER)):
            yield (said + between + ",\n  ".join(some)).encode("utf-8", NOT_TEXT)
            said, between, after = "", ",\n  ", "\n ]"
        said += after
    yield f"{said}\n}}\n".encode("utf-8", NOT_TEXT)


def take_apart(text: str) -> tuple[Any, list[str]]:
    """Return what a record says, and the first of its inputs as the lines that they are.

    Parameters
    ----------
    text : str

    Returns
    -------
    content : object
        JSON's, but for these inputs.
    lines : list of str
        One for each: all but the last of a record as it was written, none of another layout.

    Raises
    ------
    ValueError
        If it is no JSON.
    """
    # No text of JSON goes over a line's end: these are between entries.
    lines = text.split("\n")
    try:
        first = lines.index(_INPUTS) + 1
        # A line without its comma is the last, or damage, and JSON's to tell.
        last = next(
            k
            for k in range(first, len(lines))
            if not (lines[k].startswith('  {"') and lines[k].endswith("},"))
        )
    except (ValueError, StopIteration):
        return parse_json(text), []
    if not lines[last].lstrip().startswith("{"):
        return parse_json(text), []
    content = parse_json("\n".join((*lines[:first], *lines[last:])))
    return content, [line[2:-1] for line in lines[first:last]]


def parse_lines(lines: Sequence[str]) -> Iterator[Any]:
    """Yield what lines of JSON say.

    Raises
    ------
    ValueError
        If one is no JSON.
    """
    for first in range(0, len(lines), _TOGETHER):
        yield from parse_json(f"[{','.join(lines[first : first + _TOGETHER])}]")

"""A record's text: laid out in pieces, and read without all of it being parsed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imgtofmri.outputs.journal import json_line
from imgtofmri.outputs.record_text import parse_lines, record_bytes, take_apart

HEAD: dict[str, Any] = {"command": "predict", "settings": {"rois": ["PPA"], "inputs": [1]}}


def entries(n: int) -> list[dict[str, Any]]:
    """Return entries of names with what JSON escapes, and what looks like a record's lines."""
    return [{"name": f'{k}"\n "inputs": [\n ]é', "outputs": [{"file": "a"}]} for k in range(n)]


def text_of(inputs: list[dict[str, Any]]) -> str:
    """Return the text of a record."""
    lists = {"inputs": map(json_line, inputs), "outputs": [], "failures": ['{"name": "x"}']}
    return b"".join(record_bytes(HEAD, lists)).decode()


@pytest.mark.parametrize("n", [0, 1, 2, 1000, 1001, 2500])
def test_a_record_is_json_with_a_line_for_each_entry(n: int) -> None:
    """However many pieces it is written in; another reader gets what was put in."""
    text = text_of(entries(n))
    assert json.loads(text) == HEAD | {
        "inputs": entries(n),
        "outputs": [],
        "failures": [{"name": "x"}],
    }
    assert sum(line.startswith('  {"') for line in text.split("\n")) == n + 1
    content, lines = take_apart(text)
    assert content == json.loads(text) | {"inputs": entries(n)[-1:]}
    assert list(parse_lines(lines)) == entries(n)[:-1]


def test_a_record_that_was_laid_out_by_others_is_read_too() -> None:
    """On one line, indented, or edited: what are no lines of their own is in the content."""
    whole = json.loads(text_of(entries(3)))
    for text in (json.dumps(whole), json.dumps(whole, indent=1), json.dumps(whole, indent=2)):
        assert take_apart(text) == (whole, [])
    second = json_line(entries(2)[1])
    edited = text_of(entries(3)).replace(f"  {second},\n", '  {\n   "name": "new"},\n', 1)
    assert edited != text_of(entries(3))
    content, lines = take_apart(edited)
    assert [*parse_lines(lines), *content["inputs"]] == json.loads(edited)["inputs"]


@pytest.mark.parametrize("damage", ["cut", "no end", "half a line", "no comma", "a comma more"])
def test_a_damaged_record_is_no_json(damage: str) -> None:
    """What is left of one is never taken for a shorter one."""
    text = text_of(entries(3))
    damaged = {
        "cut": text[: text.index("\n ],")],
        "no end": text[: text.rindex(" ]")],
        "half a line": text[: len(text) // 2],
        "no comma": text.replace("},\n", "}\n", 1),
        "a comma more": text.replace("}\n ],", "},\n ],", 1),
    }
    assert text not in damaged.values()
    with pytest.raises(ValueError, match=r"\w"):
        _, lines = take_apart(damaged[damage])
        list(parse_lines(lines))

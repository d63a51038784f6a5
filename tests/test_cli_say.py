"""Nothing that a terminal would obey is printed as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgtofmri import cli
from imgtofmri.cli.say import say, say_json

HOSTILE = "\x1b]0;title\x07 \u202e \x9b31m \U000e0001 Zürich\t\udce9"


def test_say_spells_out_what_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line; what can be seen stays."""
    say(f"a: {HOSTILE}\nb")
    said = "a: \\u001b]0;title\\u0007 \\u202e \\u009b31m \\U000e0001 Zürich\\u0009\\udce9\nb\n"
    assert capsys.readouterr().out == said
    say("c", err=True)
    assert capsys.readouterr() == ("", "c\n")


def test_say_json_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is spelt out is so in JSON's own way, and comes back as it was."""
    value = {HOSTILE: [HOSTILE, 1.5, None]}
    say_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert "Zürich" in said
    assert all(line.isprintable() for line in said.split("\n"))


def test_commands_print_by_say_alone() -> None:
    """No command prints names as they are."""
    modules = Path(cli.__file__).parent.glob("*.py")
    raw = [path.name for path in modules if "typer.echo(" in path.read_text(encoding="utf-8")]
    assert raw == ["say.py"]

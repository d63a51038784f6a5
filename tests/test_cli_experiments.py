"""What the commands that take controls have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtofmri.cli import main


@pytest.mark.parametrize("command", ["contrast", "select", "rsa", "validate"])
def test_controls_unknown_are_refused_before_anything_is_read(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A control that is none is named with those there are, and nothing is written."""
    inputs = ["--stimuli", "a", "--measured", "b"] if command == "validate" else ["a", "b"]
    goal = ["-g", "high PPA"] if command == "select" else []
    common = [command, *inputs, *goal, "-o", str(tmp_path / "out")]
    assert main([*common, "--control", "noise"]) == 2
    assert "--control must be one of untrained, untrained:SEED" in capsys.readouterr().err
    assert main([*common, "--control", "untrained:one"]) == 2
    assert "'untrained:SEED', with a whole number; got 'untrained:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

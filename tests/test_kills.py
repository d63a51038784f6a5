"""Commands that are killed at any step of their writing are finished by the next run."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "trust_kills.py"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked")


def _kill(*options: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "IMGTOFMRI_CACHE"}
    command = [sys.executable, str(TOOL), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_predict_and_simulate_killed_are_finished_byte_for_byte() -> None:
    """No visible file is wrong, the next run ends as if undisturbed and leaves nothing hidden."""
    said = _kill(
        "--kills", "2", "--seed", "3", "--only", "predict nifti", "--only", "simulate again"
    )
    assert "2 kills, 0 problems" in said


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_command_killed_is_finished_byte_for_byte() -> None:
    """All commands, twice each."""
    assert ", 0 problems" in _kill("--kills", "24", "--seed", "4")


def test_harness_sees_what_is_wrong() -> None:
    """A file that no run made, a file that differs and a hidden one are problems."""
    tool = runpy.run_path(str(TOOL))
    good = [{"a": b"1", "b": b"2"}, {"a": b"0"}]
    assert tool["wrong"]({"a": b"0", "b": b"2", ".x.part": b""}, good) == []
    assert tool["wrong"]({"a": b"3", "c": b""}, good) == ["a", "c"]
    assert tool["is_hidden"]("figures/.x.part")
    assert not tool["is_hidden"](".bidsignore")

"""The bounds of the dependencies are those that are tried."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_lowest_constraints_are_the_lower_bounds() -> None:
    """Every bound of the package and of its tests is pinned at its lowest, and nothing else is."""
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("needs the source tree")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = ("scale", "serve", "train", "test")
    wanted = [*project["dependencies"], *(each for name in named for each in extras[name])]
    bounds = {}
    for requirement in wanted:
        found = re.match(r"([a-z0-9-]+)>=([0-9.]+)", requirement)
        if found is None:
            assert requirement.startswith("imgtofmri["), requirement
        elif found[1] != "pip":  # It installs itself.
            bounds[found[1]] = found[2]
    lines = (ROOT / "constraints" / "lowest.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert sorted(pinned) == sorted(bounds)
    for name, bound in bounds.items():
        assert re.sub(r"(\.0)+$", "", pinned[name]) == re.sub(r"(\.0)+$", "", bound), name

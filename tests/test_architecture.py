"""What holds the parts of the package apart names them all."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "imgtofmri"


@pytest.fixture(scope="module")
def contracts() -> list[dict[str, Any]]:
    """Return what import-linter checks; skip where only the package is there."""
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("needs the source tree")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found: list[dict[str, Any]] = project["tool"]["importlinter"]["contracts"]
    return found


def _names(folder: Path) -> set[str]:
    """Return the modules and packages of a folder."""
    modules = {path.stem for path in folder.glob("*.py")}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return {name for name in modules | packages if not name.startswith("__")}


def test_every_room_has_a_layer_and_a_line_on_the_page(contracts: list[dict[str, Any]]) -> None:
    """A module that no layer names may import anything, unseen."""
    (layers,) = (one["layers"] for one in contracts if one["type"] == "layers")
    assert {name for layer in layers for name in layer.split(" | ")} == _names(PACKAGE)
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    rooms = re.findall(r"^\| (`.*`) \|", page.partition("## Rooms")[2], re.MULTILINE)
    named = {name.strip("`/ ") for row in rooms for name in row.split(",")}
    assert named == _names(PACKAGE)


def test_every_analysis_is_kept_apart_from_the_others(contracts: list[dict[str, Any]]) -> None:
    """An analysis that is left out could import another, and no linter would mind."""
    (apart,) = (one["modules"] for one in contracts if one["type"] == "independence")
    assert apart == ["imgtofmri.analyses.*"]


def test_every_analysis_has_its_name_on_the_page() -> None:
    """The plan of the house says which there are."""
    if not (ROOT / "docs").exists():
        pytest.skip("needs the source tree")
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    (said,) = re.findall(r"^\| `analyses/` \| ([^:]*):", page, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", said)) == _names(PACKAGE / "analyses")

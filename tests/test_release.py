"""What goes out with a release agrees with itself."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from imgtofmri import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """Return the project's metadata; skip where only the package is there."""
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("needs the source tree")
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def test_one_version_and_the_code_s_licence_are_named_everywhere(project: dict[str, Any]) -> None:
    """The citation, the newest entry of the changelog, and the package."""
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    noted = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"^version: (\S+)$", citation, re.MULTILINE) == [__version__]
    assert noted[0] == __version__
    assert re.findall(r"^license: (\S+)$", citation, re.MULTILINE) == [
        project["license"].partition(" AND ")[0]
    ]


def test_every_dependency_is_listed_with_its_licence(project: dict[str, Any]) -> None:
    """Those that are named in the project's metadata, of all extras that users install."""
    licences = runpy.run_path(str(ROOT / "tools" / "make_licences.py"))
    page = (ROOT / "docs" / "reference" / "licences.md").read_text("utf-8")
    rows = re.findall(r"^\| (\S+) \| \S+ \| (\S.*) \|$", page, re.MULTILINE)
    listed = {name for name, _ in rows}
    extras = project["optional-dependencies"]
    used = [name for name in extras if name not in licences["TOOLS"]]
    named = [*project["dependencies"], *(one for name in used for one in extras[name])]
    names = {licences["normal"](re.split(r"[^\w-]", one)[0]) for one in named} - {"imgtofmri"}
    assert names <= listed


def test_licence_is_spdx_of_whatever_metadata_say(tmp_path: Path) -> None:
    """An expression, the old field, other words, a classifier; else it is asked for."""
    from importlib.metadata import PathDistribution

    licence = runpy.run_path(str(ROOT / "tools" / "make_licences.py"))["licence"]
    said = {
        "License-Expression: BSD-3-Clause": "BSD-3-Clause",
        "License: Apache License v2.0": "Apache-2.0",
        "Classifier: License :: OSI Approved :: ISC License (ISCL)": "ISC",
        "License: All of this text\nClassifier: License :: OSI Approved :: MIT License": "MIT",
    }
    for number, (lines, expected) in enumerate(said.items()):
        folder = tmp_path / f"a{number}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: a\nVersion: 1\n{lines}\n")
        assert licence(PathDistribution(folder)) == expected
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: a\nClassifier: License :: OSI Approved :: BSD License\n"
    )
    with pytest.raises(SystemExit, match="a: expected a licence in its metadata"):
        licence(PathDistribution(folder))


@pytest.mark.parametrize(
    ("name", "is_leftover"),
    [
        ("imgtofmri/__pycache__/a.cpython-311.pyc", True),
        ("demo-output/report.html", True),
        ("tests/out/horse.jpg.nii.gz", True),
        (".git/HEAD", True),
        ("imgtofmri/report/build.py", False),
        ("docs/how-to/build.md", False),
        ("imgtofmri/backbones/graphs/resnet18.onnx", False),
    ],
)
def test_leftovers_are_told_from_what_belongs(name: str, is_leftover: bool) -> None:
    """What runs leave behind is found anywhere in an archive; modules with such words are not."""
    leftovers = runpy.run_path(str(ROOT / "tools" / "release_check.py"))["LEFTOVERS"]
    assert bool(leftovers.search(name)) == is_leftover

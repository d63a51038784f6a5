"""The public names."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import imgtofmri


def test_every_public_name_is_there() -> None:
    """What `__all__` promises can be imported and is documented, and `dir` shows it in order."""
    for name in set(imgtofmri.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(imgtofmri, name)), name
    assert dir(imgtofmri) == sorted(imgtofmri.__all__)


def test_type_checkers_see_the_names_that_are_there() -> None:
    """Each name is imported for type checkers from where it is imported when it is used."""
    seen = {
        alias.asname: str(node.module)
        for node in ast.walk(ast.parse(Path(imgtofmri.__file__).read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("imgtofmri.")
        for alias in node.names
    }
    assert seen == {name: f"imgtofmri.{home}" for name, home in imgtofmri._HOMES.items()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'predict_everything'"):
        _ = imgtofmri.predict_everything


@pytest.mark.parametrize(
    "module", ["imgtofmri", "imgtofmri.cli.app", "imgtofmri.compat.img2fmri.command"]
)
def test_importing_the_package_or_its_command_line_imports_nothing_heavy(module: str) -> None:
    """Help must answer at once."""
    heavy = "onnxruntime nilearn nibabel matplotlib pandas av sklearn scipy PIL"
    heavy += " numpy" if module == "imgtofmri" else ""
    code = (
        f"import sys, {module}; print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_only_modules_of_figures_draw() -> None:
    """Matplotlib is imported in modules, or below packages, that are called figures."""
    root = Path(imgtofmri.__file__).parent
    drawing = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "import matplotlib" in (text := path.read_text("utf-8")) or "from matplotlib" in text
    ]
    assert drawing
    assert all("figures" in path for path in drawing), drawing

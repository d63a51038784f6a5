"""The public names."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


DEFAULTS = {
    "exclusion": 2,
    "in_order": False,
    "n_bootstraps": 1000,
    "n_brains": 100,
    "n_random": 1000,
    "n_surrogates": 1000,
    "overwrite": False,
    "quiet": False,
    "resume": False,
    "rois_only": False,
    "reference": True,
    "seed": 0,
    "share_of_ceiling": False,
    "tolerance": 0.1,
    "unfinished": False,
}
"""What a word is by default wherever it is a parameter of the package's own functions."""
SILENT = {
    "analyses.simulate.files.save_simulation",
    "backbones.extractor.FeatureExtractor.features",
    "backbones.extractor.FeatureExtractor.movie",
    "backbones.load.load_backbone",
    "backbones.load.load_untried",
    "distillation.emulate.distil_head",
    "distillation.heads.observe",
    "encoder.encoder.Encoder.features",
    "experiments.encoding.encode_stimuli",
    "report.build.write_report",
    "report.contents.predicted",
    "training.stimuli.load_settings",
}
"""What is short, or part of something longer, and shows no progress unless it is told to."""


def own_defaults() -> Iterator[tuple[str, str, Any]]:
    """Yield function, parameter and default of all that is not the published interface again."""
    root = f"{imgtofmri.__name__}."
    for found in pkgutil.walk_packages(imgtofmri.__path__, root):
        if found.name.startswith(f"{root}compat") or found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        for own in vars(module).values():
            if getattr(own, "__module__", "") != found.name:
                continue
            members = vars(own).values() if inspect.isclass(own) else [own]
            for function in filter(inspect.isfunction, members):
                where = f"{found.name}.{function.__qualname__}".removeprefix(root)
                for name, parameter in inspect.signature(function).parameters.items():
                    if parameter.default is not parameter.empty:
                        yield where, name, parameter.default


def test_a_word_has_one_default_wherever_it_is_a_parameter() -> None:
    """Nothing is replaced unasked, and no function draws another sample than its neighbours."""
    pytest.importorskip("starlette", reason="needs the extra [serve]: its modules are read, too")
    found = list(own_defaults())
    assert {name for _, name, _ in found} > {*DEFAULTS, "progress"}
    other = [
        (where, name, default)
        for where, name, default in found
        # None is for what is told elsewhere, or not done.
        if name in DEFAULTS and default is not None and default != DEFAULTS[name]
    ]
    assert other == []


def test_long_work_shows_its_progress_unless_told_not_to() -> None:
    """In a function of a library, too: who waits for a minute wants to know for what."""
    pytest.importorskip("starlette", reason="needs the extra [serve]: its modules are read, too")
    told = {where: default for where, name, default in own_defaults() if name == "progress"}
    assert {where for where, default in told.items() if default is False} == SILENT
    assert sum(default is True for default in told.values()) > 30


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

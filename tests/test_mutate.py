"""The tool that changes the code: what it changes, what it leaves, and whether tests notice."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE = '''
"""A module of 3 lines."""
from typing import TypeAlias

Number: TypeAlias = int
LEAST = 2


def clip(x: int, table: dict[str, int]) -> int:
    """Return 5."""
    if not x < LEAST and x != 7:
        message = f"expected {x + 1}, got" + "nothing"
        raise ValueError(message)
    print(x)
    return min(-x, *map(sum, zip([x], strict=True)), sum([x], start=table["least"]))
'''


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the tool."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import mutate

    return mutate


@pytest.fixture
def module(mutate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a module, as one of the package's."""
    monkeypatch.setattr(mutate, "SOURCE", tmp_path)
    path = tmp_path / "some" / "clipping.py"
    path.parent.mkdir()
    path.write_text(MODULE)
    return path


def test_mutants_are_one_change_each_of_what_is_computed(mutate: ModuleType, module: Path) -> None:
    """Every kind of change is made; what people read stays as it is."""
    before = ast.unparse(ast.parse(MODULE))
    made = {mutant.name: ast.unparse(mutant.tree()) for mutant in mutate.mutants_of(module)}
    assert len(set(made.values())) == len(made)
    found = {text for text in made.values()}
    for old, new in (
        ("LEAST = 2", "LEAST = 3"),
        ("if not x < LEAST and x != 7:", "if not x < LEAST or x != 7:"),
        ("if not x < LEAST and x != 7:", "if bool(x < LEAST) and x != 7:"),
        ("if not x < LEAST and x != 7:", "if not x <= LEAST and x != 7:"),
        ("if not x < LEAST and x != 7:", "if not x < LEAST and x == 7:"),
        ("if not x < LEAST and x != 7:", "if not x < LEAST and x != 8:"),
        ("if not x < LEAST and x != 7:", "if not (not x < LEAST and x != 7):"),
        ("    print(x)", "    None"),
        ("min(-x", "max(-x"),
        ("min(-x", "min(+x"),
        (', start=table["least"]'.replace('"', "'"), ""),
        ("table['least']", "table['leastX']"),
    ):
        assert old in before
        assert before.replace(old, new) in found
        found.remove(before.replace(old, new))
    assert not found


@pytest.mark.slow
def test_tests_that_do_not_notice_are_told_from_those_that_do(
    mutate: ModuleType, module: Path, tmp_path: Path
) -> None:
    """A change survives, is found, never ends, or ends Python; the code as it is passes."""
    file = tmp_path / "test_clipping.py"
    file.write_text(
        f"import os, sys\nsys.path.insert(0, {str(module.parent)!r})\nimport clipping\n\n"
        "def test_survived():\n    assert clipping.clip(1, {'least': 0}) == -1\n\n"
        "def test_killed():\n    assert clipping.LEAST == 2\n\n"
        "def test_timeout():\n    while clipping.LEAST > 2: pass\n\n"
        "def test_crashed():\n    clipping.LEAST == 2 or os._exit(9)\n"
    )
    names = [mutant.name for mutant in mutate.mutants_of(module)]
    place = names.index("some/clipping.py:6:constant:0")
    # In a Python of its own: this one has imported what it would change.
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r}); import mutate, pathlib\n"
        "mutate._preload()\n"
        f"mutate.SOURCE = pathlib.Path({str(tmp_path)!r})\n"
        f"mutant = mutate.mutants_of(pathlib.Path({str(module)!r}))[{place}]\n"
        "for ended in ('survived', 'killed', 'timeout', 'crashed'):\n"
        f"    tests = [{str(file)!r} + '::test_' + ended]\n"
        "    limit_s = 4.0 if ended == 'timeout' else 60.0\n"
        "    plain = mutate.try_tests(tests, None, 60.0)[0]\n"
        "    print(plain, mutate.try_tests(tests, mutant, limit_s)[0])\n"
    )
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == [
        word
        for ended in ("survived", "killed", "timeout", "crashed")
        for word in ("survived", ended)
    ]


def test_tests_are_those_of_the_line_the_most_specific_first(
    mutate: ModuleType, module: Path
) -> None:
    """What runs on import is tried by the module's tests, what never runs by none.

    Those that take too long are left out, those that execute little come first.
    """
    by_line = {mutant.line: mutant for mutant in mutate.mutants_of(module)}
    seconds = {"a": 3.0, "b": 0.1, "c": 70.0, "d": 7.0}
    sizes = {"a": 5, "b": 9, "c": 2, "d": 12}
    executed = {6: set(), 11: {"a", "b", "d"}, 15: {"a", "c"}}
    tests_for = mutate.tests_for
    assert tests_for(by_line[6], executed, sizes, seconds, set()) == [["a", "b"], ["d"]]
    assert tests_for(by_line[11], executed, sizes, seconds, {"b"}) == [["a"], ["d"]]
    assert tests_for(by_line[14], executed, sizes, seconds, set()) == []

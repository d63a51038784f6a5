"""What the public names say of themselves: the reference of functions is made of it."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import imgtofmri

SECTION = re.compile(r"^(\w[\w ]*)\n-+$", re.MULTILINE)
ARRAY = re.compile(r"\barrays?\b")
SHAPE = re.compile(r"shape|\(n_|\(\.\.\.")


def _modules() -> list[str]:
    """Return the modules that say what of them is public."""
    walked = pkgutil.walk_packages(imgtofmri.__path__, "imgtofmri.")
    names = [found.name for found in walked if not found.name.endswith("__main__")]
    return ["imgtofmri", *(name for name in names if hasattr(_import(name), "__all__"))]


def _import(name: str) -> Any:
    return importlib.import_module(name)


def _members(thing: type) -> Iterator[tuple[str, Any]]:
    kinds = (classmethod, staticmethod, property, cached_property)
    for name, value in vars(thing).items():
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, kinds)):
            yield name, value


def _described(module: str) -> Iterator[tuple[str, Any]]:
    """Yield the functions and classes of a module, and the latter's members."""
    for name in _import(module).__all__:
        thing = getattr(_import(module), name)
        if inspect.isclass(thing):
            yield name, thing
            for member, value in _members(thing):
                inner = getattr(value, "__func__", None) or getattr(value, "fget", None)
                yield f"{name}.{member}", inner or getattr(value, "func", value)
        elif inspect.isroutine(thing) or inspect.ismodule(thing):
            yield name, thing


def _sections(thing: Any) -> tuple[str, dict[str, str]]:
    head, *rest = SECTION.split(inspect.getdoc(thing) or "")
    return head, dict(zip(rest[::2], rest[1::2], strict=True))


def _items(section: str) -> Iterator[tuple[str, str]]:
    """Yield the line of each item, and what is said below it."""
    for item in re.split(r"\n(?=\S)", section.strip("\n")):
        line, _, below = item.partition("\n")
        yield line, below


def _text_below(module: str, name: str) -> str | None:
    """Return the text below a constant, in the module that it comes from."""
    path = Path(str(_import(module).__file__))
    body = ast.parse(path.read_text("utf-8")).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            return str(following.value.value) if is_text else None
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("imgtofmri"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _text_below(str(node.module), alias.name)
    return None


@pytest.mark.parametrize("module", _modules())
def test_every_public_name_of_a_module_says_what_it_is(module: str) -> None:
    """Functions, classes and their members have a docstring, constants a text below them."""
    described = dict(_described(module))
    silent = [name for name, thing in described.items() if not inspect.getdoc(thing)]
    constants = set(_import(module).__all__) - set(described) - {"__version__"}
    silent += [name for name in sorted(constants) if not _text_below(module, name)]
    assert not silent


@pytest.mark.parametrize("module", _modules())
def test_every_array_of_a_public_name_has_a_shape(module: str) -> None:
    """An array that is a parameter, a result or an attribute has a shape."""
    shapeless = []
    for name, thing in _described(module):
        head, sections = _sections(thing)
        for title in ("Parameters", "Returns", "Yields", "Attributes"):
            for line, below in _items(sections.get(title, "")):
                kind = line.partition(" : ")[2] or line
                if ARRAY.search(kind) and not SHAPE.search(line + below + head):
                    shapeless.append(f"{name}: {line}")
    assert not shapeless


def _parameters(function: Callable[..., Any]) -> set[str]:
    kinds = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {
        kinds.get(parameter.kind, "") + name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "cls")
    }


@pytest.mark.parametrize(
    ("name", "function"),
    [
        (name, thing)
        for name, thing in _described("imgtofmri")
        if inspect.isfunction(thing) and _parameters(thing)
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_public_function_says_what_it_takes_and_gives(
    name: str, function: Callable[..., Any]
) -> None:
    """At the top of the package each parameter has a line, and so has what is returned."""
    _, sections = _sections(function)
    lines = [line for line, _ in _items(sections.get("Parameters", ""))]
    named = {word.strip() for line in lines for word in line.partition(" : ")[0].split(",")}
    assert named == _parameters(function)
    if inspect.signature(function).return_annotation != "None":
        assert {"Returns", "Yields"} & set(sections), name

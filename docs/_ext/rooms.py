"""The package's rooms: a page for each module that says what of it is public, from docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from pages import write_pages
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import imgtofmri

ROOT = "imgtofmri"
# A tree of errors has no list of what is public: all of it is.
WHOLE = ("imgtofmri.exceptions",)
FOLDER = "reference/api"


@cache
def rooms() -> dict[str, tuple[str, ...]]:
    """Return the modules that say what of them is public, by the room that they belong to.

    A module with a list of its own inside a package with one, such as an analysis' figures, stands
    on the package's page.
    """
    walked = pkgutil.walk_packages(imgtofmri.__path__, f"{ROOT}.")
    names = [found.name for found in walked if not found.name.endswith("__main__")]
    public = [name for name in names if public_names(name)]
    found: dict[str, list[str]] = {}
    for name in sorted(public):
        room = next((each for each in found if name.startswith(f"{each}.")), name)
        found.setdefault(room, []).append(name)
    return {room: tuple(modules) for room, modules in found.items()}


@cache
def public_names(module: str) -> tuple[str, ...]:
    """Return what a module says is public."""
    loaded = importlib.import_module(module)
    if module in WHOLE:
        return tuple(
            name
            for name, value in vars(loaded).items()
            if inspect.isclass(value) and value.__module__ == module and not name.startswith("_")
        )
    return tuple(getattr(loaded, "__all__", ()))


@cache
def homes() -> dict[int, str]:
    """Return where each public thing is described: where users import it from."""
    found: dict[int, str] = {}
    for module in (ROOT, *(each for group in rooms().values() for each in group)):
        for name in public_names(module):
            found.setdefault(id(getattr(importlib.import_module(module), name)), f"{module}.{name}")
    return found


class Room(SphinxDirective):
    """Describe what modules say is public, each thing once in the whole site."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return what is described."""
        lines: list[str] = []
        for number, module in enumerate(self.arguments[0].split()):
            lines += [".. rubric:: " + module, ""] if number else []
            lines += list(_module(module))
        text = "\n".join(lines)
        return self.parse_text_to_nodes(f"`````{{eval-rst}}\n{text}\n`````\n")


def _module(module: str) -> Iterator[str]:
    # No index entry and no members: those that are public follow one by one.
    yield from (f".. automodule:: {module}", "   :no-members:", "")
    # Examples are written as their module sees itself.
    yield from (".. testsetup:: *", "", "   from pathlib import Path", "   import numpy as np")
    yield from (f"   from {module} import *", "")
    for name in public_names(module):
        value = getattr(importlib.import_module(module), name)
        if name == "__version__":
            continue
        home = homes()[id(value)] if _is_described(value) else f"{module}.{name}"
        if inspect.ismodule(value):
            yield from (f"`{name}`: :py:mod:`{value.__name__}`.", "")
        elif home != f"{module}.{name}":
            yield from (f"`{name}`: see :py:obj:`{home}`.", "")
        elif inspect.isclass(value):
            kind = "exception" if issubclass(value, BaseException) else "class"
            yield from (f".. auto{kind}:: {module}.{name}", "")
        elif callable(value) and hasattr(value, "__code__"):
            yield from (f".. autofunction:: {module}.{name}", "")
        else:
            yield from _constant(module, name, value)


def _is_described(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def _constant(module: str, name: str, value: Any) -> Iterator[str]:
    """Describe a constant by the text below it, wherever in the package that is."""
    yield from (f".. py:data:: {name}", f"   :module: {module}")
    shown = repr(value)
    if isinstance(value, (str, int, float, tuple)) and len(shown) <= 100:
        yield f"   :value: {shown}"
    yield ""
    for line in constant_docs(module, name):
        yield f"   {line}"
    yield ""


def constant_docs(module: str, name: str) -> list[str]:
    """Return the text below a constant where it is defined, [] where there is none."""
    docs = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name))
    if docs:
        return list(docs)
    text = Path(str(importlib.import_module(module).__file__)).read_text("utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(ROOT):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return constant_docs(node.module, alias.name)
    return []


def _write_pages(app: Sphinx) -> None:
    pages = {}
    for room, modules in rooms().items():
        directive = f"```{{room}} {' '.join(modules)}\n```"
        pages[f"{room.removeprefix(f'{ROOT}.')}.md"] = f"# `{room}`\n\n{directive}\n"
    write_pages(Path(app.srcdir) / FOLDER, pages)


def _no_headings(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Keep sections of a module's docstring out of the page's contents."""
    if what == "module":
        for number in range(len(lines) - 1, 0, -1):
            if lines[number] and set(lines[number]) == {"-"}:
                lines[number - 1 : number + 1] = [f".. rubric:: {lines[number - 1]}", ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, and make the pages before any is read."""
    app.add_directive("room", Room)
    app.connect("builder-inited", _write_pages)
    app.connect("autodoc-process-docstring", _no_headings)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

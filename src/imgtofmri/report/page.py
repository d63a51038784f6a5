"""A page as one file: the template filled in, scripts and styles inside, nothing from a network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

SCRIPTS = (
    "dom",
    "colour",
    "data",
    "state",
    "model",
    "views",
    "viewer",
    "flat",
    "list",
    "bars",
    "matrix",
    "film",
    "figure",
    "tables",
    "main",
)
"""The page's scripts, in the order in which they build on each other."""

BARE = ("dom", "tables", "start")
"""Those of a page without maps."""


def render(content: Mapping[str, Any]) -> Iterator[bytes]:
    """Return a page.

    Parameters
    ----------
    content : mapping
        What the template `static/page.html.j2` names. Its texts are escaped. ``data`` becomes JSON
        and is None where there are no maps; ``maps`` are parts of base64, and the films' data are
        base64.

    Returns
    -------
    iterator of bytes
        The page's parts, in UTF-8: it is not held as a whole.
    """
    from markupsafe import Markup

    has_maps = content["data"] is not None
    script = "\n".join(_static(f"js/{name}.js") for name in (SCRIPTS if has_maps else BARE))
    script = f'(() => {{\n"use strict";\n{script}\n}})();'
    library = _static("niivue.js") if has_maps else ""
    css = _static("page.css")
    inside = {"css": css, "script": script, "library": library}
    for name, text in inside.items():
        end = "</style" if name == "css" else "</script"
        if end in text.lower():
            message = f"{name} must not hold {end}"
            raise AssertionError(message)
    values = dict(content) | {name: Markup(text) for name, text in inside.items()}
    values["policy"] = policy([script, library] if library else [script], css)
    large = _Large()
    if has_maps:
        values["data"] = large.place([_encoded(as_json(content["data"]))])
        values["colours"] = Markup(as_json(content["colours"]))
        values["maps"] = large.place(content["maps"])
        values["films"] = [
            film | {"data": large.place([_base64(film["data"])])} for film in content["films"]
        ]
    return large.filled_in(template().render(values))


@cache
def template() -> Template:
    """Return the template of all pages, ready to be filled in."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(_static("page.html.j2"))


class _Large:
    """What is large comes to its places when the page is written: a template would copy it."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(16)
        self._contents: list[Iterable[bytes]] = []

    def place(self, content: Iterable[bytes]) -> str:
        """Return what stands for a content in a text."""
        self._contents.append(content)
        return f"{self._mark}-{len(self._contents) - 1}-"

    def filled_in(self, text: str) -> Iterator[bytes]:
        """Yield a text in UTF-8, with the contents in their places."""
        for number, piece in enumerate(re.split(rf"{self._mark}-(\d+)-", text)):
            if number % 2:
                yield from self._contents[int(piece)]
            else:
                yield _encoded(piece)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def policy(scripts: list[str], css: str) -> str:
    """Return a Content-Security-Policy that lets in these scripts and styles, and no network."""
    sources = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    # NiiVue and this page set single styles of elements from scripts, which needs no permission.
    return (
        f"default-src 'none'; script-src {sources}; style-src 'sha256-{_digest(css)}'; "
        "img-src data: blob:; media-src blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )


def as_json(value: object) -> str:
    """Return JSON in which nothing can end the element that holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _static(name: str) -> str:
    return (resources.files(__package__) / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _base64(text: str) -> bytes:
    if not text.isascii() or "<" in text:
        message = "expected base64"
        raise AssertionError(message)
    return text.encode()

"""Write docs/reference/api.md, a page of every public name, from the docstrings.

Run it where a docstring has changed, or a public name has come or gone:

    python tools/make_api.py
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imgtofmri

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "api.md"
WIDTH = 110
HEAD = """# The public names

What `import imgtofmri` offers, made from the docstrings by `tools/make_api.py`. Nothing heavy is
imported before a name is used. The parts of the package that names come from
(`imgtofmri.encoder`, `imgtofmri.analyses.contrast`, ...) have more, documented in the same way.
"""

_SECTION = re.compile(r"^(\w[\w ]*)\n-+$", re.MULTILINE)
# Sections whose text is of one piece; of the others, each item has a line and a description.
_PROSE = ("Notes", "References", "See Also")


def page() -> str:
    """Return the whole page."""
    names = sorted(set(imgtofmri.__all__) - {"__version__"}, key=lambda name: (name.lower(), name))
    index = "\n".join(f"- [`{name}`](#{name.lower()}): {_first_line(name)}" for name in names)
    return "\n\n".join([HEAD.strip(), index, *map(_entry, names)]) + "\n"


def _first_line(name: str) -> str:
    return _markdown(inspect.getdoc(getattr(imgtofmri, name)) or "").partition("\n")[0]


def _entry(name: str) -> str:
    thing = getattr(imgtofmri, name)
    home = f"From `imgtofmri.{imgtofmri._HOMES[name]}`."
    parts = [f"## `{name}`", home, *_described(name, thing, thing)]
    for member, value in vars(thing).items() if inspect.isclass(thing) else ():
        documented = inspect.getdoc(value) and hasattr(value, "__get__")
        if documented and not member.startswith("_"):
            parts += [
                f"### `{name}.{member}`",
                *_described(member, getattr(thing, member), value),
            ]
    return "\n\n".join(parts)


def _described(name: str, thing: Any, documented: Any) -> Iterator[str]:
    """Yield how something is called, if it is, and its docstring."""
    if callable(thing) and not (inspect.isclass(thing) and issubclass(thing, Exception)):
        yield f"```\n{name}{_signature(thing)}\n```"
    head, *sections = _SECTION.split(inspect.getdoc(documented) or "")
    yield from _paragraphs(head)
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        yield f"**{title}**"
        if title == "Examples":
            yield f"```pycon\n{body.strip()}\n```"
        elif title in _PROSE:
            yield from _paragraphs(body)
        else:
            yield "\n".join(_items(body))


def _signature(thing: Any) -> str:
    """Return the parameters with their defaults; the docstring says of what type they are."""
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in inspect.signature(thing).parameters.items()
        if name != "self"
    ]
    # A default that is a function is shown by its name.
    text = re.sub(r"<function (\w+) at \w+>", r"\1", str(inspect.Signature(bare)))
    if len(text) < WIDTH - 30:
        return text
    parts = ",\n".join(f"    {part}" for part in re.split(r", (?=[*\w]+(?:=|,|\)|$))", text[1:-1]))
    return f"(\n{parts},\n)"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        yield _wrapped(paragraph)


def _items(body: str) -> Iterator[str]:
    for item in re.split(r"\n(?=\S)", body.strip()):
        line, _, rest = item.partition("\n")
        name, _, kind = line.partition(" : ")
        said = f"`{name}`" + (f" ({kind})" if kind else "")
        described = " ".join(textwrap.dedent(rest).split())
        yield _wrapped(f"{said}: {described}" if described else said, "- ")


def _wrapped(text: str, bullet: str = "") -> str:
    return textwrap.fill(
        _markdown(text), WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _markdown(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

"""The documentation site, as `make docs` built it: links hold, and what it promises is there."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from typer.main import get_command

import imgtofmri
from imgtofmri.cli.app import EXIT_CODES, app

LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("video", "src")}
LOADS |= {("source", "src"), ("audio", "src"), ("object", "data"), ("embed", "src")}
ELSEWHERE = re.compile(r"^(https?:)?//")


@dataclass
class Page:
    """What a page of HTML holds.

    ``links`` are what can be followed, ``loads`` what a browser fetches by itself.
    """

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    text: str = ""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.page.anchors.add(value)
            elif tag == "a" and name == "href" and value:
                self.page.links.append(value)
            elif (tag, name) in LOADS and value:
                self.page.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.page.text += data


@pytest.fixture(scope="session")
def site() -> Path:
    """Return the folder of the site, or skip with the reason."""
    folder = os.environ.get("IMGTOFMRI_SITE")
    if not folder:
        pytest.skip("IMGTOFMRI_SITE is not set: `make docs` builds the site, and sets it")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    """Return every page of the site by its file."""
    found = {}
    for path in sorted(site.rglob("*.html")):
        if "_static" not in path.relative_to(site).parts:
            reader = _Reader()
            reader.feed(path.read_text("utf-8"))
            found[path] = reader.page
    return found


def test_links_inside_the_site_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    """Each file that a page links to is there, and so is the place in it."""
    broken = []
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or ELSEWHERE.match(link):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            place = unquote(parts.fragment)
            # What scripts open, and lists of all modules' code, begin with these.
            is_there = target.is_file() and target.is_relative_to(site)
            if is_there and place and target in pages:
                is_there = place in pages[target].anchors
            if not is_there:
                broken.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 50
    assert not broken


def test_no_page_loads_anything_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    """Scripts, styles, fonts and pictures lie in the site: it is whole without a network."""
    outside = {
        f"{path.relative_to(site)}: {load}"
        for path, page in pages.items()
        for load in page.loads
        if ELSEWHERE.match(load)
    }
    for style in site.rglob("*.css"):
        urls = re.findall(
            r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", style.read_text("utf-8")
        )
        outside |= {f"{style.name}: {a or b}" for a, b in urls if ELSEWHERE.match(a or b)}
    assert not outside


def test_no_page_holds_an_error(pages: dict[Path, Page]) -> None:
    """No notebook failed, and no directive was left as it was written."""
    for path, page in pages.items():
        assert "Traceback (most recent call last)" not in page.text, path
        assert "```" not in page.text, path


def _inventory(site: Path) -> set[str]:
    """Return the names of Python that the site describes."""
    data = (site / "objects.inv").read_bytes()
    lines = zlib.decompress(data.split(b"\n", 4)[4]).decode("utf-8").splitlines()
    return {line.split(" ", 1)[0] for line in lines if " py:" in line}


def _public() -> Iterator[tuple[str, str, Any]]:
    walked = pkgutil.walk_packages(imgtofmri.__path__, "imgtofmri.")
    for module in ["imgtofmri", *(found.name for found in walked)]:
        if not module.endswith("__main__"):
            loaded = importlib.import_module(module)
            for name in getattr(loaded, "__all__", ()):
                yield module, name, getattr(loaded, name)


def test_every_public_name_is_described(site: Path) -> None:
    """Each name that a module says is public stands on a page, under a name that imports it."""
    described = _inventory(site)
    homes: dict[int, set[str]] = {}
    for module, name, value in _public():
        homes.setdefault(id(value), set()).add(f"{module}.{name}")
    missing = [sorted(names)[0] for names in homes.values() if not names & described]
    assert set(missing) <= {"imgtofmri.__version__"}


def _commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not getattr(command, "commands", None):
        yield words, command
        return
    for name, each in command.commands.items():
        yield from _commands(each, (*words, name))


@pytest.mark.parametrize(
    ("words", "command"),
    list(_commands(get_command(app))),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_has_a_page_with_its_options(
    pages: dict[Path, Page], site: Path, words: tuple[str, ...], command: Any
) -> None:
    """Help and reference say the same."""
    text = pages[site / "reference" / "commands" / f"{'-'.join(words)}.html"].text
    for parameter in command.params:
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            assert option in text, option


def test_every_exit_code_stands_on_its_page(pages: dict[Path, Page], site: Path) -> None:
    """The page is made of what the command line uses."""
    text = pages[site / "reference" / "exit-codes.html"].text
    for code, meaning in EXIT_CODES.items():
        assert str(code) in text
        assert meaning in text


def test_glossary_is_linked_by_its_own_terms(pages: dict[Path, Page], site: Path) -> None:
    """Terms have places of their own."""
    anchors = pages[site / "reference" / "glossary.html"].anchors
    for term in ("noise-ceiling", "encoding-model", "RDM", "tSNR", "coverage"):
        assert f"term-{term}" in anchors

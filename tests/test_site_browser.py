"""The documentation site in a browser, from disk and without a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SIZES = {"desk": {"width": 1280, "height": 900}, "telephone": {"width": 390, "height": 844}}


@pytest.fixture
def site() -> Path:
    """Return the folder of the site, or skip with the reason."""
    folder = os.environ.get("IMGTOFMRI_SITE")
    if not folder:
        pytest.skip("IMGTOFMRI_SITE is not set: `make docs` builds the site, and sets it")
    return Path(folder).resolve()


@pytest.fixture
def opened(launched: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Return what opens a browser without network, which must not complain nor ask for anything."""
    contexts, complaints = [], []

    def make(size: str, scheme: str) -> Any:
        context = launched().new_context(
            viewport=SIZES[size], color_scheme=scheme, offline=True, bypass_csp=False
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else 0)
        page.on(
            "request",
            lambda asked: (
                0
                if asked.url.startswith(("file:", "data:", "blob:"))
                else complaints.append(asked.url)
            ),
        )
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("telephone", "dark")])
def test_no_page_is_wider_than_the_screen(
    site: Path, opened: Callable[..., Any], size: str, scheme: str
) -> None:
    """What is too wide scrolls by itself: tables, code. No page complains or asks for anything."""
    page, wide = opened(size, scheme), []
    for path in sorted(site.rglob("*.html")):
        if "_static" in path.relative_to(site).parts:
            continue
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth") > SIZES[size]["width"]:
            wide.append(str(path.relative_to(site)))
    assert not wide


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_landing_page_shows_three_doors_on_one_screen(
    site: Path, opened: Callable[..., Any], scheme: str
) -> None:
    """A picture and the ways to tutorials, tasks and reference are seen without scrolling."""
    page = opened("desk", scheme)
    page.goto((site / "index.html").as_uri())
    doors = page.locator(".sd-card").all()
    assert [door.locator(".sd-card-title").inner_text() for door in doors] == [
        "Tutorials",
        "How to",
        "Reference",
    ]
    for shown in (*doors, page.locator(".landing img")):
        box = shown.bounding_box()
        assert box["y"] > 0
        assert box["y"] + box["height"] <= SIZES["desk"]["height"]
    for door in doors:
        link = door.locator("a").first.get_attribute("href")
        assert (site / link).is_file()


@pytest.mark.parametrize(
    ("words", "page_name"),
    [
        ("noise ceiling", "Glossary"),
        ("share-of-ceiling", "imgtofmri predict"),
        ("fit_ridge", "imgtofmri.regression"),
        ("p_max_contrasts", "Statistics and their nulls"),
    ],
)
def test_search_finds_from_disk(
    site: Path, opened: Callable[..., Any], words: str, page_name: str
) -> None:
    """Terms, options, functions and columns are found without a server."""
    page = opened("desk", "light")
    page.goto(f"{(site / 'search.html').as_uri()}?q={words.replace(' ', '+')}")
    page.wait_for_selector("#search-results li", timeout=20_000)
    page.wait_for_function("!document.querySelector('#search-results .search-progress')")
    page.wait_for_timeout(1000)
    found = page.locator("#search-results li").all_inner_texts()
    assert any(page_name in one for one in found), found


def test_reader_chooses_light_or_dark(site: Path, opened: Callable[..., Any]) -> None:
    """The page follows the system until its button is pressed."""
    page = opened("desk", "dark")
    page.goto((site / "how-to" / "predict-images.html").as_uri())
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.locator("button.theme-switch-button").first.click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light

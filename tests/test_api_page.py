"""The page of the public names."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_api_page_is_what_the_docstrings_say() -> None:
    """The page in the repository is the one that the script makes now."""
    made = runpy.run_path(str(ROOT / "tools" / "make_api.py"))
    told = "a docstring or a public name has changed: run `python tools/make_api.py`"
    assert (ROOT / "docs" / "reference" / "api.md").read_text("utf-8") == made["page"](), told

"""A page of results in a frame of a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PageView:
    """A page that notebooks show in a frame, and go on showing when they are exported.

    The page is held in the notebook itself: nothing is asked of a kernel, a server or the network.

    Attributes
    ----------
    page : str
        The page's HTML.
    height : int
        Of the frame, in pixels.
    """

    page: str
    height: int = 900

    def __repr__(self) -> str:
        return f"PageView({len(self.page) / 1e6:.1f} MB of HTML, which notebooks show)"

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" title="Page of predicted responses" '
            f'style="width: 100%; height: {self.height:d}px; border: 0" allow="clipboard-write">'
            "</iframe>"
        )

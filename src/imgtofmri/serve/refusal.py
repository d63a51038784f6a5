"""`Refusal`: why a request is not answered as asked, for whoever asked."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response


class Refusal(Exception):
    """A request cannot be answered as asked.

    Parameters
    ----------
    status : int
        Of HTTP: from 400 to 499, as far as it is not a fault of ours.
    reason : str
        For whoever asked; it must name no path of this computer.
    headers : mapping of str to str, optional
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.headers = dict(headers or {})


def answer(refusal: Refusal) -> Response:
    """Return a refusal as ``application/problem+json`` (RFC 9457)."""
    from starlette.responses import JSONResponse

    said = {
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.reason,
    }
    headers, media_type = refusal.headers, "application/problem+json"
    return JSONResponse(said, refusal.status, headers, media_type=media_type)

"""`Refusal`: why a request is not answered as asked, for whoever asked."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus


class Refusal(Exception):
    """A request cannot be answered as asked.

    Parameters
    ----------
    status : int
        Of HTTP, from 400 to 499.
    reason : str
        For whoever asked; it must name no path of this computer.
    headers : mapping of str to str, optional
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.headers = dict(headers or {})


def problem(status: int, reason: str) -> dict[str, object]:
    """Return what an answer of ``application/problem+json`` says (RFC 9457)."""
    return {"title": HTTPStatus(status).phrase, "status": status, "detail": reason}

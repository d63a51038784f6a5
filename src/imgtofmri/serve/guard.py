"""What every request must pass, and what every answer bears: own hosts, own origin, no sources.

A page of anybody's that is open in the same browser can send requests here. It is told by the
headers that browsers set and scripts cannot: ``Host`` (a name of somebody's that leads here is not
ours), ``Origin`` and ``Sec-Fetch-Site``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from typing import Any

from imgtofmri.serve.limits import Limits
from imgtofmri.serve.refusal import Refusal, answer
from imgtofmri.serve.uploads import too_large

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer that does not say otherwise."""

_LINGER_S = 3.0
_LOOPBACK_NAMES = ("localhost",)


class Guard:
    """ASGI middleware around the whole application.

    Parameters
    ----------
    app : ASGI application
    limits : Limits
    names : collection of str
        Names of this computer that may stand in ``Host``; ``localhost`` and addresses always may.
    """

    def __init__(self, app: App, limits: Limits, names: Collection[str] = ()) -> None:
        self._app, self._limits = app, limits
        self._names = {name.lower() for name in (*_LOOPBACK_NAMES, *names)}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        body = _Body(headers, receive)
        sender = _Answer(send, body)
        try:
            self._check(scope, headers)
            await self._app(scope, body.receive, sender.send)
        except Refusal as refusal:
            await answer(refusal)(scope, body.receive, sender.send)

    def _check(self, scope: Message, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        if not self._is_ours(_host_name(host)):
            message = (
                "expected a Host that names this computer; got another. Open the address that the "
                "server printed."
            )
            raise Refusal(403, message)
        origin = headers.get("origin")
        ours = f"{scope.get('scheme', 'http')}://{host}"
        site = headers.get("sec-fetch-site", "none")
        # A link from elsewhere may open a page, which does nothing by being opened.
        opens = (
            headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
            and scope["method"] in {"GET", "HEAD"}
        )
        if (origin is not None and origin.lower() != ours.lower()) or (
            site not in {"same-origin", "none"} and not opens
        ):
            message = "expected a request of this server's own page; another site sent it. Open /."
            raise Refusal(403, message)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:18]) > self._limits.max_bytes:
            raise too_large(self._limits)

    def _is_ours(self, name: str) -> bool:
        if name.lower().rstrip(".") in self._names:
            return True
        with suppress(ValueError):
            # No name server can make an address of ours lead elsewhere, or another lead here.
            ipaddress.ip_address(name)
            return True
        return False


def _host_name(host: str) -> str:
    """Return the name or address in a ``Host`` header, without its port.

    Examples
    --------
    >>> _host_name("localhost:8000"), _host_name("[::1]:8000")
    ('localhost', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] or host


class _Body:
    """A request's body, and whether all of it has come."""

    def __init__(self, headers: dict[str, str], receive: Receive) -> None:
        self._receive = receive
        self.is_over = headers.get("content-length", "0") == "0" and (
            "transfer-encoding" not in headers
        )
        # Who asks first whether to send does not send what is refused.
        self._is_held = headers.get("expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_held = False
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.is_over = True
        return message

    async def drain(self) -> None:
        """Take what is still coming for a while, so that its sender gets to read the answer."""
        until = time.monotonic() + _LINGER_S
        while not (self.is_over or self._is_held) and (left_s := until - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self.receive(), left_s)
            except TimeoutError:
                return


class _Answer:
    """An answer with the headers of all, which is read before the connection is closed."""

    def __init__(self, send: Send, body: _Body) -> None:
        self._send, self._body = send, body

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send({**message, "headers": self._headers(message.get("headers", ()))})
        elif message.get("more_body", False) or self._body.is_over:
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._body.drain()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _headers(self, said: Collection[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name.lower() for name, _ in said}
        more = dict(HEADERS) if self._body.is_over else {**HEADERS, "Connection": "close"}
        return [
            *said,
            *(
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in more.items()
                if name.lower().encode("latin-1") not in names
            ),
        ]

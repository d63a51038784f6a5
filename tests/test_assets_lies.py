"""Servers that lie, stall, cut and redirect: no wrong byte is accepted, and no harm lasts."""

from __future__ import annotations

import gzip
import hashlib
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imgtofmri import assets
from imgtofmri.assets import downloads
from imgtofmri.exceptions import AssetError, WeightsError

CONTENT = bytes(range(256)) * 40
OTHER = CONTENT[::-1]
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)
PAGE = b"<!doctype html><html><body>Please log in to the guest network.</body></html>"

Lie = Callable[["Asked"], None]


@dataclass
class Asked:
    """One request, and the socket to answer it on."""

    socket: socket.socket
    head: str
    number: int
    """How many requests came before it."""

    @property
    def start(self) -> int:
        """Where in the file the range that is asked for begins."""
        found = re.search(r"^Range: bytes=(\d+)-", self.head, re.MULTILINE)
        return int(found[1]) if found else 0

    def say(self, status: str, *headers: str, body: bytes = b"") -> None:
        """Send an answer."""
        lines = "\r\n".join((f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""))
        self.socket.sendall(lines.encode("latin-1") + body)

    def whole(self, body: bytes = CONTENT, *headers: str, length: object = None) -> None:
        """Send a file with its length, or with another."""
        n_bytes = len(body) if length is None else length
        self.say("200 OK", f"Content-Length: {n_bytes}", *headers, body=body)

    def part(self, start: int, body: bytes, said: str = "", etag: str = '"1"') -> None:
        """Send a part of a file."""
        place = said or f"bytes {start}-{start + len(body) - 1}/{SIZE}"
        length = f"Content-Length: {len(body)}"
        self.say(
            "206 Partial Content", f"Content-Range: {place}", length, f"ETag: {etag}", body=body
        )


def honest(asked: Asked) -> None:
    """Send what is asked for."""
    fresh = re.search(r'^If-Range: "1"', asked.head, re.MULTILINE)
    if asked.start and fresh:
        asked.part(asked.start, CONTENT[asked.start :])
    else:
        asked.whole(CONTENT, 'ETag: "1"')


def first_cut(then: Lie) -> Lie:
    """Cut the first answer short, so that the rest is asked for; what comes then is the lie."""

    def lie(asked: Asked) -> None:
        if asked.number == 0:
            asked.whole(CONTENT[:4000], 'ETag: "1"', length=SIZE)
        else:
            then(asked)

    return lie


def endless(asked: Asked, *headers: str, before: bytes = b"", chunk: bytes = OTHER) -> None:
    """Send for as long as anybody listens."""
    asked.say("200 OK", *headers, body=before)
    for _ in range(20_000):
        asked.socket.sendall(chunk)


def trickle(asked: Asked) -> None:
    """Send a byte now and then."""
    asked.say("200 OK", f"Content-Length: {SIZE}", 'ETag: "1"')
    for byte in CONTENT[:500]:
        asked.socket.sendall(bytes([byte]))
        time.sleep(0.02)


def stall(asked: Asked) -> None:
    """Say nothing more."""
    asked.socket.settimeout(20)
    asked.socket.recv(1)


def chunked(asked: Asked, *chunks: bytes) -> None:
    """Send what says to be chunks."""
    asked.say("200 OK", "Transfer-Encoding: chunked", body=b"".join(chunks))


def reset(asked: Asked) -> None:
    """Break the connection off in the middle, without a good-bye."""
    asked.say("200 OK", f"Content-Length: {SIZE}", body=CONTENT[:100])
    asked.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


FLIPPED = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
PACKED = gzip.compress(CONTENT, mtime=0)

LIES: dict[str, Lie] = {
    # Other bytes.
    "another file": lambda a: a.whole(OTHER),
    "one bit": lambda a: a.whole(FLIPPED),
    "a page": lambda a: a.whole(PAGE, "Content-Type: text/html"),
    "nothing": lambda a: a.whole(b""),
    "nothing, without a length": lambda a: a.say("200 OK"),
    "the file twice": lambda a: a.whole(CONTENT * 2),
    "compressed, and says so": lambda a: a.whole(PACKED, "Content-Encoding: gzip"),
    "compressed, and does not say so": lambda a: a.whole(PACKED),
    "zeros": lambda a: a.whole(bytes(SIZE)),
    # Another length.
    "cut": lambda a: a.whole(CONTENT[:5000], length=SIZE),
    "cut, without a length": lambda a: a.say("200 OK", body=CONTENT[:5000]),
    "cut, by a length that says so": lambda a: a.whole(CONTENT, length=5000),
    "longer than it says": lambda a: a.whole(CONTENT + b"more", length=SIZE + 4),
    "a length beyond any disk": lambda a: a.whole(CONTENT, length=10**17),
    "a length that is no number": lambda a: a.whole(OTHER, length="many"),
    "a length below zero": lambda a: a.whole(OTHER, length=-1),
    "without end": endless,
    "chunks without end": lambda a: endless(
        a, "Transfer-Encoding: chunked", chunk=b"100\r\n" + bytes(256) + b"\r\n"
    ),
    "chunks that are cut": lambda a: chunked(a, b"1000\r\n", CONTENT[:100]),
    "chunks of no size": lambda a: chunked(a, b"zz\r\n", CONTENT[:100]),
    # Ranges.
    "a part that nobody asked for": lambda a: a.part(100, CONTENT[100:]),
    "another part": first_cut(lambda a: a.part(5000, CONTENT[5000:])),
    "a part with no place": first_cut(lambda a: a.part(4000, CONTENT[4000:], said="bytes */*")),
    "a part of which size": first_cut(
        lambda a: a.part(a.start, CONTENT[a.start :], said=f"bytes {a.start}-9/{'9' * 5000}")
    ),
    "a part of another file": first_cut(lambda a: a.part(a.start, OTHER[a.start :])),
    "a part of another version": first_cut(lambda a: a.part(a.start, OTHER[a.start :], etag='"2"')),
    "a part that is too long": first_cut(lambda a: a.part(a.start, CONTENT[a.start :] + b"more")),
    "no part, again and again": first_cut(
        lambda a: a.say("416 Range Not Satisfiable", f"Content-Range: bytes */{a.start}")
    ),
    # Elsewhere.
    "round in a circle": lambda a: a.say("302 Found", "Location: /again"),
    "ever further": lambda a: a.say("302 Found", f"Location: /{a.number}"),
    "to a file of this machine": lambda a: a.say("302 Found", "Location: file:///etc/passwd"),
    "to nowhere": lambda a: a.say("302 Found", "Location: http://"),
    "to no place": lambda a: a.say("302 Found"),
    # No answer.
    "refused": lambda a: a.say("403 Forbidden", body=PAGE),
    "broken": lambda a: a.say("500 Internal Server Error", body=CONTENT),
    "busy": lambda a: a.say("503 Service Unavailable", "Retry-After: 86400"),
    "no content": lambda a: a.say("204 No Content"),
    "not modified": lambda a: a.say("304 Not Modified"),
    "no HTTP": lambda a: a.socket.sendall(b"\x16\x03\x01\x02\x00\x01" + bytes(500)),
    "no status": lambda a: a.socket.sendall(b"HTTP/1.1 none\r\n\r\n" + CONTENT),
    "headers without end": lambda a: a.say("200 OK", *["X: 1"] * 500, body=CONTENT),
    "a header without end": lambda a: a.say("200 OK", "X: " + "1" * 100_000, body=CONTENT),
    "a good-bye": lambda a: None,
    "a reset": reset,
    # Time.
    "a trickle": trickle,
    "silence": stall,
    "silence after the headers": lambda a: (
        a.say("200 OK", f"Content-Length: {SIZE}", body=CONTENT[:10]),
        stall(a),
    )[0],
}


@dataclass
class Server:
    """A server on loopback, and what it does with requests."""

    url: str = ""
    lie: Lie = honest
    n_asked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve on loopback while one test runs."""
    served = Server()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while b"\r\n\r\n" not in head and (more := self.request.recv(4096)):
                head += more
            with served.lock:
                asked = Asked(self.request, head.decode("latin-1"), served.n_asked)
                served.n_asked += 1
            try:
                served.lie(asked)
            except OSError:
                return

    class Threads(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Keep the test's output quiet."""

    with Threads(("127.0.0.1", 0), Handler) as listening:
        served.url = f"http://127.0.0.1:{listening.server_address[1]}/file"
        thread = threading.Thread(
            target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        yield served
        listening.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache, online, and little patience."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(assets.OFFLINE_VARIABLE, raising=False)
    monkeypatch.setattr(downloads, "RESUME_PAUSE_S", 0.0)
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(downloads, "SLOW_S", 0.3)
    monkeypatch.setattr(downloads, "MOST_BYTES", 4 * SIZE)
    monkeypatch.setattr(downloads, "CHUNK_BYTES", 4096)
    return tmp_path / "cache"


def is_content(path: Path) -> None:
    """Check a file as those are whose digest nobody knows."""
    if path.read_bytes() != CONTENT:
        message = "another file"
        raise WeightsError(message)


KNOWN: dict[str, dict[str, object]] = {
    "digest": {"sha256": DIGEST},
    "digest and size": {"sha256": DIGEST, "size": SIZE},
    "check": {"check": is_content},
}


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("name", LIES)
def test_fetch_url_gets_nothing_wrong_and_no_lasting_harm(
    name: str, known: str, server: Server, cache: Path
) -> None:
    """The file as it should be, or one error; and the file, as soon as the server is right."""

    def fetch() -> Path:
        return assets.fetch_url(
            [server.url], "a.bin", what="a file", progress=False, **KNOWN[known]
        )

    server.lie = LIES[name]
    said = ""
    try:
        fetch()
    except AssetError as error:
        said = str(error)
    assert said.startswith("a file: could not be downloaded. Tried") or not said
    assert (cache / "a.bin").exists() == (not said)
    if not said:
        assert (cache / "a.bin").read_bytes() == CONTENT
        (cache / "a.bin").unlink()
    server.lie = honest
    assert fetch().read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("name", ["nothing", "nothing, without a length", "no content"])
def test_fetch_url_nothing_is_no_file(name: str, server: Server, cache: Path) -> None:
    """Even where nobody knows what the file should be."""
    server.lie = LIES[name]
    with pytest.raises(AssetError, match=r"a file: .* came empty"):
        assets.fetch_url([server.url], "a.bin", what="a file", progress=False)
    assert list(cache.iterdir()) == []


def test_fetch_url_compressed_unasked_is_said(server: Server) -> None:
    """A server that compresses what should come as it is says so itself."""
    server.lie = LIES["compressed, and says so"]
    with pytest.raises(AssetError, match="came compressed \\(gzip\\), which was not asked for"):
        assets.fetch_url([server.url], "a.bin", what="a file", progress=False)


def test_fetch_url_trickle_is_given_up(server: Server) -> None:
    """A byte now and then would never time out, and takes for ever."""
    server.lie = trickle
    with pytest.raises(AssetError, match=r"came too slowly: fewer than \d+ bytes in 0\.3 s"):
        assets.fetch_url([server.url], "a.bin", what="a file", progress=False)

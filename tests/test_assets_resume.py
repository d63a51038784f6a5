"""Interrupted downloads go on where they stopped, and only if the file is still the same."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imgtofmri import assets
from imgtofmri.assets import downloads
from imgtofmri.exceptions import AssetError

CONTENT = bytes(range(256)) * 40
OTHER = CONTENT[::-1]


@dataclass
class Site:
    """What the server serves, how it behaves, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    etag: str | None = '"v1"'
    ranges: bool = True
    honours_if_range: bool = True
    limits: list[int] = field(default_factory=list)
    status: int = 0
    always_partial: bool = False
    asked: list[str | None] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    """Serve the site's content; each request may break off after so many bytes."""

    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append(wanted)
        if site.status:
            self.send_error(site.status)
            return
        fresh = self.headers.get("If-Range") in (None, site.etag) or not site.honours_if_range
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and site.ranges and fresh else 0
        whole = len(site.content)
        if start >= whole:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{whole}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        partial = bool(start) or site.always_partial
        start = start or 100 * site.always_partial
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(whole - start))
        self.end_headers()
        limit = site.limits.pop(0) if site.limits else whole
        self.wfile.write(site.content[start : start + limit])

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve on loopback while one test runs."""
    served = Site()
    handler = type("Handler", (_Handler,), {"site": served, "timeout": 10})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served.url = f"http://127.0.0.1:{httpd.server_port}/file"
    thread = threading.Thread(
        target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    yield served
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache, online, and do not wait between attempts."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(assets.OFFLINE_VARIABLE, raising=False)
    monkeypatch.setattr(downloads, "RESUME_PAUSE_S", 0.0)
    return tmp_path / "cache"


def fetch(site: Site, content: bytes = CONTENT) -> Path:
    """Fetch the file, whose digest and size are known."""
    digest = hashlib.sha256(content).hexdigest()
    return assets.fetch_url(
        [site.url], "big.bin", what="a big file", sha256=digest, size=len(content), progress=False
    )


def interrupted(site: Site, at: int) -> None:
    """Leave a partial file of ``at`` bytes, as a call does whose network went away."""
    site.limits = [at, 0]
    with pytest.raises(AssetError, match=f"The {at} bytes that came are kept; call again to go on"):
        fetch(site)
    site.asked.clear()


def files(cache: Path) -> list[str]:
    """Name what lies in the cache."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_fetch_url_interrupted_goes_on_within_the_call(cache: Path, site: Site) -> None:
    """Broken off twice, the file is whole, and no byte was asked for twice."""
    site.limits = [3000, 4000]
    assert fetch(site).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=3000-", "bytes=7000-"]
    assert files(cache) == ["big.bin"]


def test_fetch_url_interrupted_goes_on_in_the_next_call(cache: Path, site: Site) -> None:
    """What came before the network went away is not asked for again."""
    interrupted(site, 6000)
    assert files(cache) == [".big.bin.partial", ".big.bin.partial.json"]
    assert fetch(site).read_bytes() == CONTENT
    assert site.asked == ["bytes=6000-"]
    assert files(cache) == ["big.bin"]


def test_fetch_url_no_version_starts_again(cache: Path, site: Site) -> None:
    """A server that does not name the file's version cannot be gone on from: nothing stays."""
    site.etag = None
    site.limits = [5000]
    with pytest.raises(AssetError, match=r"cut short: expected 10240 bytes .* got 5000"):
        fetch(site)
    assert files(cache) == []
    assert fetch(site).read_bytes() == CONTENT
    assert site.asked == [None, None]


def test_fetch_url_weak_etag_is_no_version(cache: Path, site: Site) -> None:
    """A weak ETag does not promise the same bytes."""
    site.etag = 'W/"v1"'
    site.limits = [5000]
    with pytest.raises(AssetError, match="cut short"):
        fetch(site)
    assert files(cache) == []


def test_fetch_url_server_without_ranges_sends_the_whole(cache: Path, site: Site) -> None:
    """A server that ignores Range answers with the whole file, which replaces the part."""
    interrupted(site, 6000)
    site.ranges = False
    assert fetch(site).read_bytes() == CONTENT
    assert site.asked == ["bytes=6000-"]


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_fetch_url_content_changed_between_is_never_mixed(
    site: Site, honours_if_range: bool
) -> None:
    """A new version is fetched whole, even from a server that overlooks If-Range."""
    interrupted(site, 6000)
    site.content, site.etag, site.honours_if_range = OTHER, '"v2"', honours_if_range
    assert fetch(site, OTHER).read_bytes() == OTHER
    assert site.asked == (["bytes=6000-"] if honours_if_range else ["bytes=6000-", None])


def test_fetch_url_whole_part_needs_no_byte_more(site: Site, cache: Path) -> None:
    """A part that is whole already (stopped before its check) is verified and taken."""
    interrupted(site, 6000)
    (cache / ".big.bin.partial").write_bytes(CONTENT)
    assert fetch(site).read_bytes() == CONTENT
    assert site.asked == ["bytes=10240-"]


def test_fetch_url_part_longer_than_the_file_starts_again(site: Site, cache: Path) -> None:
    """A part that cannot belong to the file is thrown away."""
    interrupted(site, 6000)
    (cache / ".big.bin.partial").write_bytes(CONTENT + b"more")
    assert fetch(site).read_bytes() == CONTENT
    assert site.asked == ["bytes=10244-", None]


def test_fetch_url_damaged_part_is_refused_and_thrown_away(site: Site, cache: Path) -> None:
    """A part damaged on the disk fails the check and is not gone on from again."""
    interrupted(site, 6000)
    (cache / ".big.bin.partial").write_bytes(b"x" * 6000)
    with pytest.raises(AssetError, match="expected SHA-256"):
        fetch(site)
    assert files(cache) == []
    assert fetch(site).read_bytes() == CONTENT


def test_fetch_url_wrong_size_is_refused_before_the_transfer(site: Site, cache: Path) -> None:
    """A file of another size is refused at the answer's head, and nothing stays."""
    site.content = CONTENT + b"longer"
    with pytest.raises(AssetError, match=r"expected 10240 bytes .* an answer of 10246 bytes"):
        fetch(site)
    assert files(cache) == []


def test_fetch_url_no_room_is_refused_before_the_transfer(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot hold the file is named before it is filled."""
    usage = shutil.disk_usage(cache.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(AssetError, match=r"10240 bytes are still to come and .* room for 1000"):
        fetch(site)
    assert files(cache) == []


def test_fetch_url_part_that_was_not_asked_for_is_refused(site: Site, cache: Path) -> None:
    """A server that answers any question with a part has nothing that can be used."""
    site.always_partial = True
    with pytest.raises(AssetError, match="answered with a part of the file that was not asked for"):
        fetch(site)
    assert files(cache) == []


def test_fetch_url_gone_keeps_the_part_for_later(site: Site, cache: Path) -> None:
    """An error page does not cost what came before."""
    interrupted(site, 6000)
    site.status = 503
    with pytest.raises(AssetError, match="The 6000 bytes that came are kept"):
        fetch(site)
    site.status = 0
    assert fetch(site).read_bytes() == CONTENT


def test_fetch_url_partial_in_use_is_left_alone(site: Site, cache: Path) -> None:
    """While another process downloads the same file, this one takes a file of its own."""
    fcntl = pytest.importorskip("fcntl", reason="this system has no advisory locks")
    interrupted(site, 6000)
    with (cache / ".big.bin.partial").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert fetch(site).read_bytes() == CONTENT
    assert site.asked == [None]
    assert (cache / ".big.bin.partial").stat().st_size == 6000

"""Downloads are verified."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imgtofmri import assets
from imgtofmri.exceptions import AssetError

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """Serve CONTENT whole at /file, cut short at /short, and nothing elsewhere."""

    def do_GET(self) -> None:
        if self.path not in ("/file", "/short"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/file" else CONTENT[:100])

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve on loopback while this module's tests run."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache, online."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(assets.OFFLINE_VARIABLE, raising=False)
    return tmp_path / "cache"


def test_cache_dir_follows_the_environment(cache: Path) -> None:
    """IMGTOFMRI_CACHE names the cache."""
    assert assets.cache_dir() == cache


def test_fetch_url_verifies_and_keeps_the_file(cache: Path, server: str) -> None:
    """A verified file lies in the cache, and a second call does not need the network."""
    path = assets.fetch_url([f"{server}/file"], "a/b.bin", what="a file", sha256=DIGEST)
    assert path == cache / "a" / "b.bin"
    assert path.read_bytes() == CONTENT
    assert assets.fetch_url(["http://127.0.0.1:9/"], "a/b.bin", what="a file") == path


def test_fetch_url_takes_the_next_address_when_one_fails(cache: Path, server: str) -> None:
    """Addresses are tried in order."""
    urls = [f"{server}/missing", f"{server}/file"]
    assert assets.fetch_url(urls, "b.bin", what="a file", sha256=DIGEST).exists()


@pytest.mark.parametrize(
    ("path", "sha256", "said"),
    [
        ("/missing", DIGEST, "Not Found"),
        ("/file", "0" * 64, f"expected SHA-256 {'0' * 64} .* got {DIGEST}"),
        ("/short", DIGEST, "expected 10240 bytes .* got 100"),
    ],
)
def test_fetch_url_leaves_nothing_after_a_failure(
    cache: Path, server: str, path: str, sha256: str, said: str
) -> None:
    """A missing, different or truncated file is refused, said why, and not kept."""
    with pytest.raises(AssetError, match=said) as caught:
        assets.fetch_url([server + path], "c.bin", what="a file", sha256=sha256, size=len(CONTENT))
    assert "by hand" in str(caught.value)
    assert [found for found in cache.rglob("*") if found.is_file()] == []


def test_fetch_url_offline_never_asks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IMGTOFMRI_OFFLINE is named as the cause, and the place for a file by hand is given."""
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    with pytest.raises(AssetError, match="IMGTOFMRI_OFFLINE forbids the network") as caught:
        assets.fetch_url(["http://127.0.0.1:9/"], "d.bin", what="a file")
    assert str(cache / "d.bin") in str(caught.value)


def test_fetch_wheel_offline_names_the_place_for_a_wheel_by_hand(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how to bring the wheel from elsewhere."""
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    with pytest.raises(AssetError, match="pip download --no-deps six==1.16.0"):
        assets.fetch_wheel("six", "1.16.0", sha256="0")


def test_fetch_wheel_refuses_a_different_wheel_in_the_cache(cache: Path) -> None:
    """A wheel put there by hand is verified like any other."""
    wheel = cache / "wheels" / "six-1.16.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(CONTENT)
    assert assets.fetch_wheel("six", "1.16.0", sha256=DIGEST) == wheel
    with pytest.raises(AssetError, match="expected SHA-256 0000"):
        assets.fetch_wheel("six", "1.16.0", sha256="0000")

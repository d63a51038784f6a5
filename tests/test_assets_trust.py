"""Servers that lie and packages that run code get nothing in, and do no lasting harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest
from safetensors.numpy import save_file

from imgtofmri import assets
from imgtofmri.assets import downloads
from imgtofmri.backbones import fetch_weights, weights
from imgtofmri.backbones.architectures import ARCHITECTURES, sums_of
from imgtofmri.backbones.untrained import Untrained, untrained_weights
from imgtofmri.backbones.weights import SOURCES, Download
from imgtofmri.exceptions import AssetError, WeightsError, WeightsUnavailableError

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()
LOGIN = b"<html><body>Please log in to the guest network.</body></html>"


@dataclass
class Site:
    """What a server on loopback answers, by path; and what it was asked."""

    url: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    """Answer as the site says."""

    site: Site
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        site = self.site
        site.asked.append(self.path)
        if self.path in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[self.path])
            self.end_headers()
            return
        body = site.bodies.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in site.headers.get(self.path, {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            return

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve on loopback while one test runs."""
    served = Site()
    handler = type("Handler", (_Handler,), {"site": served, "timeout": 10})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served.url = f"http://127.0.0.1:{httpd.server_port}"
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


def files(cache: Path) -> list[str]:
    """Name what lies in the cache."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("length", ["ten", "-1", "1e9", "", "9" * 30])
def test_fetch_url_length_that_is_no_number_says_nothing(site: Site, length: str) -> None:
    """The file is received to its end, and its digest decides."""
    site.bodies["/file"] = CONTENT
    site.headers["/file"] = {"Content-Length": length}
    path = assets.fetch_url([f"{site.url}/file"], "a.bin", what="a file", sha256=DIGEST)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("sized", [True, False])
def test_fetch_url_longer_than_it_may_be_is_not_received_whole(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch, sized: bool
) -> None:
    """A body without end ends where the file should, or where any file must."""
    monkeypatch.setattr(downloads, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(downloads, "MOST_BYTES", len(CONTENT))
    site.bodies["/file"] = CONTENT * 3
    site.headers["/file"] = {}
    said = rf"expected {'' if sized else 'at most '}{len(CONTENT)} bytes from .*, got more"
    with pytest.raises(AssetError, match=said):
        assets.fetch_url(
            [f"{site.url}/file"], "a.bin", what="a file", size=len(CONTENT) if sized else None
        )
    assert files(cache) == []


def test_fetch_url_content_that_is_wrong_makes_way_for_the_next_address(
    site: Site, cache: Path
) -> None:
    """What the check refuses is thrown away, and said where nobody has the right one."""

    def check(path: Path) -> None:
        if path.read_bytes() != CONTENT:
            message = "a login page"
            raise WeightsError(message)

    site.bodies |= {"/login": LOGIN, "/file": CONTENT}
    urls = [f"{site.url}/login", f"{site.url}/file"]
    path = assets.fetch_url(urls, "a.bin", what="a file", check=check)
    assert path.read_bytes() == CONTENT
    with pytest.raises(AssetError, match=r"Tried .*/login: a login page"):
        assets.fetch_url(urls[:1], "b.bin", what="a file", check=check)
    assert files(cache) == ["a.bin"]


def test_fetch_url_follows_redirects_that_are_as_safe(site: Site) -> None:
    """To another address of the same kind; a file of this machine is none."""
    site.bodies["/file"] = CONTENT
    site.redirects |= {"/moved": f"{site.url}/file", "/local": Path("/etc/passwd").as_uri()}
    assert assets.fetch_url([f"{site.url}/moved"], "a.bin", what="a file", sha256=DIGEST).exists()
    with pytest.raises(AssetError, match="not allowed"):
        assets.fetch_url([f"{site.url}/local"], "b.bin", what="a file")


@pytest.mark.parametrize("target", ["http://example.org/a", "ftp://example.org/a", "HTTP://e/a"])
def test_redirects_from_https_stay_encrypted(target: str) -> None:
    """Whoever listens in could answer in the server's place."""
    request = urllib.request.Request("https://example.org/file")
    handler = downloads._SafeRedirects()
    headers = HTTPMessage()
    with pytest.raises(URLError, match="which is not secure"):
        handler.redirect_request(request, io.BytesIO(), 302, "Found", headers, target)
    safe = "https://other.example.org/file"
    followed = handler.redirect_request(request, io.BytesIO(), 302, "Found", headers, safe)
    assert followed is not None
    assert followed.full_url == safe


@pytest.fixture
def published(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return weights that pass for the published ones, and serve them from two places."""
    tensors = dict(untrained_weights(ARCHITECTURES["resnet18"], Untrained(3)).tensors)
    save_file(tensors, tmp_path / "published.safetensors")
    content = (tmp_path / "published.safetensors").read_bytes()
    facts = {name: sums_of(tensor) for name, tensor in tensors.items()}
    monkeypatch.setattr(weights, "published_facts", lambda _: facts)
    monkeypatch.setitem(
        SOURCES,
        "resnet18",
        (
            Download(f"{site.url}/hub", "weights/hub.safetensors", None),
            Download(f"{site.url}/other", "weights/other.safetensors", _sha256(content)[:8]),
        ),
    )
    site.bodies |= {"/hub": content, "/other": content}
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_fetch_weights_login_page_in_place_of_weights_does_not_stay(
    site: Site, cache: Path, published: bytes
) -> None:
    """The second source is asked at once; and the first, once it answers rightly."""
    site.bodies["/hub"] = LOGIN
    assert fetch_weights("resnet18", progress=False).name == "other.safetensors"
    assert files(cache) == ["other.safetensors"]
    del site.bodies["/other"]
    (cache / "weights" / "other.safetensors").unlink()
    with pytest.raises(WeightsUnavailableError):
        fetch_weights("resnet18", progress=False)
    assert files(cache) == []
    site.bodies["/hub"] = published
    assert fetch_weights("resnet18", progress=False).read_bytes() == published


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hub", "other"])
def test_fetch_weights_damaged_in_the_cache_are_fetched_again(
    site: Site, cache: Path, published: bytes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One bit that nothing else would find; without a network it is one clear error."""
    if name == "other":
        del site.bodies["/hub"]
    path = fetch_weights("resnet18", progress=False)
    assert path.stem == name
    damaged = bytearray(published)
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    with pytest.raises(WeightsError, match=r"the file was damaged since it was fetched\. Remove"):
        fetch_weights("resnet18", progress=False)
    assert path.read_bytes() == bytes(damaged)
    monkeypatch.delenv(assets.OFFLINE_VARIABLE)
    assert fetch_weights("resnet18", progress=False).read_bytes() == published


@pytest.fixture
def index(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Make pip ask the site, and nobody else."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{site.url}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    return site


def test_fetch_wheel_source_archive_is_not_built(index: Site, tmp_path: Path) -> None:
    """What an index offers instead of the wheel runs no code of its own."""
    marker = tmp_path / "ran"
    setup = f"open({str(marker)!r}, 'w').close()\nfrom setuptools import setup\nsetup()\n".encode()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        member = tarfile.TarInfo("evil-1.0/setup.py")
        member.size = len(setup)
        archive.addfile(member, io.BytesIO(setup))
    index.bodies |= {
        "/simple/evil/": b'<a href="/evil-1.0.tar.gz">evil-1.0.tar.gz</a>',
        "/evil-1.0.tar.gz": gzip.compress(raw.getvalue()),
    }
    index.headers["/simple/evil/"] = {"Content-Type": "text/html"}
    with pytest.raises(AssetError, match=r"evil 1\.0: pip could not download the wheel"):
        assets.fetch_wheel("evil", "1.0", sha256=DIGEST, progress=False)
    assert "/simple/evil/" in index.asked
    assert not marker.exists()


def test_fetch_wheel_other_wheel_is_refused_by_its_digest(index: Site, cache: Path) -> None:
    """The message says which digest came, and nothing of it is kept."""
    index.bodies |= {
        "/simple/evil/": b'<a href="/evil-1.0-py3-none-any.whl">evil-1.0-py3-none-any.whl</a>',
        "/evil-1.0-py3-none-any.whl": CONTENT,
    }
    index.headers["/simple/evil/"] = {"Content-Type": "text/html"}
    with pytest.raises(AssetError, match=rf"expected SHA-256 {'0' * 64}, got {DIGEST}"):
        assets.fetch_wheel("evil", "1.0", sha256="0" * 64, progress=False)
    assert files(cache) == []


def test_fetch_wheel_runs_no_module_of_the_current_folder(
    index: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pip.py that lies where the user works is not pip."""
    marker = tmp_path / "ran"
    (tmp_path / "pip.py").write_text(f"open({str(marker)!r}, 'w').close()", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssetError, match="pip could not download the wheel"):
        assets.fetch_wheel("evil", "1.0", sha256=DIGEST, progress=False)
    assert not marker.exists()
    assert "/simple/evil/" in index.asked


def test_onnxruntime_writes_no_identity_of_this_machine(tmp_path: Path) -> None:
    """Its maker's telemetry, which would keep one in the user's cache, never starts."""
    script = (
        "from importlib import resources; from imgtofmri.backbones import load_backbone; "
        "import numpy as np; network = load_backbone('resnet18', weights='untrained'); "
        "network(np.zeros((1, 224, 224, 3), np.uint8))"
    )
    home = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | home
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-P", "-c", script], env=environment, check=True, timeout=120)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

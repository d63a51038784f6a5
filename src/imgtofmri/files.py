"""Write files whole or not at all; tell files by their digests; bring names into order.

A file is made beside its target under a hidden name that says whose it is, brought to the disk, and
only then takes the target's name. Whatever a process that was killed left behind is known by that
name and removed by the next one that writes there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from imgtofmri.exceptions import OptionError, OutputError
from imgtofmri.owners import abandoned, new_part

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FLAGS = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)

# Waiting for the disk in several threads lets it bring several files there at once.
_SYNC_THREADS = 8

# Folders that were swept when a file was first made there.
_swept: set[Path] = set()


def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key that sorts numbers in names by their value.

    Examples
    --------
    >>> sorted(["img10.png", "img9.png", "Img1.png"], key=natural_key)
    ['Img1.png', 'img9.png', 'img10.png']
    """
    parts = re.split(r"([0-9]+)", text.casefold())
    # Odd places hold the digits; the leading 0 or 1 keeps numbers and text from being compared. Of
    # numbers without leading zeros the longer is the larger, however long they are.
    key = [
        (0, len(p.lstrip("0")), p.lstrip("0")) if i % 2 else (1, 0, p) for i, p in enumerate(parts)
    ]
    return key, text


def is_there(path: str | Path) -> bool:
    """Tell whether there is a file or a folder; a path that none can have, too long say, is none.

    Python's own `Path.exists` and `Path.is_file` raise for such a path.
    """
    return os.path.exists(path)  # noqa: PTH110


def at_home(path: str | Path) -> Path:
    """Return a path to write to, in which a ``~`` at the beginning is the user's home.

    No shell has seen what comes from Python: a folder called ``~`` would be made here.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111


def is_file(path: str | Path) -> bool:
    """Tell whether a path is that of a file, or a link to one; see `is_there`."""
    return os.path.isfile(path)  # noqa: PTH113


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's file names and SHA-256, in hexadecimal."""
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{sha256_of(file)}  {file.relative_to(path).as_posix()}\n" for file in inside]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``target`` if the block succeeds and vanishes if not.

    Parameters
    ----------
    target : Path
        Where the file shall be. Its folder is made when missing; an existing file is replaced in
        one step, so that a reader sees the old file or the new one and never half of one, after a
        power cut, too. It has the mode that the user's umask gives to new files, whatever writes
        it.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to, the disk is full, or a folder is in the way.
    """
    temporary = new_part(target.parent)
    try:
        _make(temporary, target)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        try:
            # Some libraries put a file of their own there, which is for its owner alone.
            if stat.S_IMODE(temporary.stat().st_mode) != mode:
                temporary.chmod(mode)
            sync(temporary)
            temporary.replace(target)
            sync(target.parent)
        except OSError as error:
            raise cannot_write(target, error) from error
    except OSError as error:
        # What else the block raises, such as a file of its own that is missing, is not about this.
        if error.errno in _NO_ROOM:
            raise cannot_write(target, error) from error
        raise
    finally:
        _remove(temporary)


def claim_file(target: Path, *, overwrite: bool = False) -> None:
    """Refuse a file that is there or could not be written, before long work is done for it.

    What dead processes left beside it is removed.

    Raises
    ------
    OptionError
        If it is there and shall not be replaced.
    OutputError
        If the folder cannot be made or written to.
    """
    # Unlike Path's, this takes a name that no file can have for an answer.
    if os.path.exists(target) and not overwrite:  # noqa: PTH110
        message = (
            f"{target}: expected no file of that name; there is one. Name another, or use "
            "`overwrite` to replace it."
        )
        raise OptionError(message)
    temporary = new_part(target.parent)
    try:
        _make(temporary, target)
        sweep(target.parent)
    finally:
        _remove(temporary)


def check_room(target: Path, n_bytes: int) -> None:
    """Refuse a file that is larger than the room on its disk.

    Parameters
    ----------
    target : Path
        Where the file shall be; its folder may be missing.
    n_bytes : int
        The file's size.

    Raises
    ------
    OutputError
    """
    folder = next((part for part in target.absolute().parents if part.is_dir()), None)
    try:
        free = n_bytes if folder is None else shutil.disk_usage(folder).free
    except OSError:
        return  # Writing will say what is wrong.
    if n_bytes > free:
        message = (
            f"cannot write {target}: it takes {n_bytes} bytes, and there is room for {free}. Make "
            "room or choose another folder."
        )
        raise OutputError(message)


def write_or_keep(write: Callable[[Path], None], target: Path) -> None:
    """Write what took long to make; where it cannot be, write it elsewhere and say so.

    Parameters
    ----------
    write : callable
        Writes the file that it is given, whole or not at all, or raises an OutputError.
    target : Path

    Raises
    ------
    OutputError
        If the target cannot be written. The file is then in the current folder or that of
        temporary files, if one has room for it, and the message says where.
    """
    try:
        write(target)
    except OutputError as error:
        for folder in (Path.cwd(), Path(tempfile.gettempdir())):
            name = f"{target.stem[:100]}-{secrets.token_hex(8)}{target.suffix[:20]}"
            try:
                write(folder / name)
            except OutputError:
                continue
            message = f"{error} Nothing is lost: it is kept as {folder / name}; move it from there."
            raise OutputError(message) from error
        raise


def _make(temporary: Path, target: Path) -> None:
    """Make an empty file, and its folder when missing."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # With the mode of any new file, unlike those of tempfile, which are for their owner alone.
        os.close(os.open(temporary, _FLAGS, 0o666))
    except OSError as error:
        raise cannot_write(target, error) from error
    if target.parent not in _swept:
        sweep(target.parent)


def _remove(temporary: Path) -> None:
    """Remove a file if it is there and can be: why it could not be made is the error to see."""
    with suppress(OSError):
        temporary.unlink()


def write_whole(target: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file whole or not at all, as `atomic_path` does, in as few steps as possible.

    Parameters
    ----------
    target : Path
    data : bytes or iterable of bytes
        What it shall hold, or its pieces.

    Raises
    ------
    OutputError
        If it cannot be written; what was there stays.
    """
    write_all({target: data})


def write_all(files: Mapping[Path, bytes | Iterable[bytes]]) -> None:
    """Write several files, each of them whole or not at all.

    They are brought to the disk together, which takes a small part of the time that it takes for
    one after the other.

    Parameters
    ----------
    files : mapping of Path to bytes, or to iterables of bytes

    Raises
    ------
    OutputError
        If one cannot be written; what was there stays.
    """
    parts: dict[Path, Path] = {}
    try:
        for target, data in files.items():
            parts[target] = new_part(target.parent)
            try:
                _write(parts[target], data)
            except OSError as error:
                raise cannot_write(target, error) from error
        place_all(parts)
    except BaseException:
        for temporary in parts.values():
            _remove(temporary)
        raise


def place_all(parts: Mapping[Path, Path]) -> None:
    """Bring finished files to the disk together, and only then to their places.

    Parameters
    ----------
    parts : mapping of Path to Path
        The place of each, and the name of `imgtofmri.owners.new_part` that it has until then.

    Raises
    ------
    OutputError
        If one cannot be placed.
    """
    sync_all(parts.values())
    for target, temporary in parts.items():
        try:
            os.replace(temporary, target)  # noqa: PTH105  (the way of Path costs as much again)
        except OSError as error:
            raise cannot_write(target, error) from error
    sync_all({target.parent for target in parts})


def _write(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a new file, making its folder when missing."""
    try:
        handle = os.open(path, _FLAGS, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, _FLAGS, 0o666)
    with os.fdopen(handle, "wb", buffering=0) as file:
        for piece in (data,) if isinstance(data, bytes) else data:
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk.

    Not every system can do this with a folder, nor every file system at all; then the order in
    which things get there is theirs.

    Raises
    ------
    OSError
        If the disk is full, or fails.
    """
    try:
        # Windows brings to the disk only what is open for writing.
        handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS):
            raise
    finally:
        os.close(handle)


def sync_all(paths: Iterable[Path]) -> None:
    """Bring several files and folders to the disk at the same time.

    Raises
    ------
    OutputError
        If the disk is full, or fails.
    """

    def checked(path: Path) -> None:
        try:
            sync(path)
        except OSError as error:
            raise cannot_write(path, error) from error

    found = list(paths)
    if len(found) < 2:
        for path in found:
            checked(path)
        return
    # Commands that write nothing start sooner without.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(found), _SYNC_THREADS), "imgtofmri-disk") as threads:
        for _ in threads.map(checked, found):
            pass


def sweep(folder: Path, *, below: bool = False) -> None:
    """Remove the files that dead processes left unfinished in a folder, or below it."""
    _swept.add(folder)
    for path in abandoned(folder, below=below):
        _remove(path)


def cannot_write(target: Path, error: OSError) -> OutputError:
    """Return an error that says why, what is in the way, and what to do."""
    # Those of os.path, unlike those of Path, take a folder that is closed to us for an answer.
    file = next((part for part in target.parents if os.path.isfile(part)), None)  # noqa: PTH113
    reason = error.strerror or str(error)
    remedy = "Choose a folder that exists or can be made, and that you may write to."
    if file is not None:
        reason, remedy = f"{file} is a file", "Choose a folder to write to."
    elif os.path.isdir(target):  # noqa: PTH112
        reason, remedy = "a folder of that name is there", "Move it away, or choose another folder."
    elif error.errno in _NO_ROOM:
        remedy = "Make room or choose another folder."
    elif error.errno == errno.ENAMETOOLONG:
        remedy = "Choose a folder with a shorter path."
    return OutputError(f"cannot write {target}: {reason}. {remedy}")

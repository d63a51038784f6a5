"""Write files whole or not at all; tell files by their digests; bring names into order."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imgtofmri.exceptions import OptionError, OutputError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key that sorts numbers in names by their value.

    Examples
    --------
    >>> sorted(["img10.png", "img9.png", "Img1.png"], key=natural_key)
    ['Img1.png', 'img9.png', 'img10.png']
    """
    parts = re.split(r"([0-9]+)", text.casefold())
    # Odd places hold the digits; the leading 0 or 1 keeps numbers and text from being compared.
    key = [(0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts)]
    return key, text


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
        one step, so that a reader sees the old file or the new one and never half of one. It has
        the mode that the user's umask gives to new files, whatever writes it.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to, the disk is full, or a folder is in the way.
    """
    temporary = _part_of(target)
    try:
        _make(temporary, target)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        try:
            # Some libraries put a file of their own there, which is for its owner alone.
            if stat.S_IMODE(temporary.stat().st_mode) != mode:
                temporary.chmod(mode)
            temporary.replace(target)
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

    Raises
    ------
    OptionError
        If it is there and shall not be replaced.
    OutputError
        If the folder cannot be made or written to.
    """
    if target.exists() and not overwrite:
        message = (
            f"{target}: expected no file of that name; there is one. Name another, or use "
            "`overwrite` to replace it."
        )
        raise OptionError(message)
    temporary = _part_of(target)
    try:
        _make(temporary, target)
    finally:
        _remove(temporary)


def _part_of(target: Path) -> Path:
    """Return a new file's name beside the target.

    The file is made where an interruption at any moment removes it.
    """
    return target.parent / f".{secrets.token_hex(8)}.part"


def _make(temporary: Path, target: Path) -> None:
    """Make an empty file, and its folder when missing."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # With the mode of any new file, unlike those of tempfile, which are for their owner alone.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise cannot_write(target, error) from error


def _remove(temporary: Path) -> None:
    """Remove a file if it is there and can be: why it could not be made is the error to see."""
    with suppress(OSError):
        temporary.unlink()


def write_whole(target: Path, data: bytes) -> None:
    """Write a file whole or not at all, as `atomic_path` does, in as few steps as possible.

    Raises
    ------
    OutputError
        If it cannot be written; what was there stays.
    """
    temporary = _part_of(target)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        try:
            handle = os.open(temporary, flags, 0o666)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(temporary, flags, 0o666)
        with os.fdopen(handle, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        os.replace(temporary, target)  # noqa: PTH105  (the way of Path costs as much again)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError):
            raise cannot_write(target, error) from error
        raise


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

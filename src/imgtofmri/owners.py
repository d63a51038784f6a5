"""Whose a file is: hidden names that tell the process they are of, and locks that it holds.

A process is told by its host, its number and when it began, as numbers are given out again. Of
another host's processes nothing can be known but when they last wrote.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from imgtofmri.exceptions import OutputError

FOREIGN_DAYS = 7.0
"""After how long what another host's process left counts as abandoned."""

_OWNER = r"([0-9a-f]{8})-([0-9]{1,9})-([0-9a-f]*)"
_PART = re.compile(rf"\.imgtofmri-{_OWNER}-[0-9a-f]{{16}}\.part")

_HELD = (errno.EWOULDBLOCK, errno.EACCES)


def new_part(folder: Path) -> Path:
    """Return a new hidden name in a folder, for something of this process that is unfinished."""
    return folder / f".imgtofmri-{_me(os.getpid())}-{secrets.token_hex(8)}.part"


def is_abandoned(path: Path) -> bool:
    """Return whether a path has a name that `new_part` gave to a process that is gone.

    What a process of another host left is taken for abandoned when nothing was written to it for
    `FOREIGN_DAYS`.
    """
    found = _PART.fullmatch(path.name)
    if found is None:
        return False
    host, number, beginning = map(str, found.groups())
    if host == _host():
        return not _is_running(number, beginning)
    try:
        inside = [path, *(path.rglob("*") if path.is_dir() else ())]
        written = max(float(each.lstat().st_mtime) for each in inside)
    except OSError:
        return False
    return time.time() - written > FOREIGN_DAYS * 86400


def abandoned(folder: Path, *, below: bool = False) -> Iterator[Path]:
    """Yield what dead processes left unfinished in a folder, or below it, links not followed."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if name.startswith(".") and is_abandoned(Path(place, name)):
                yield Path(place, name)
        if not below:
            return


class Lock:
    """Keeps other runs away from `take` to `release`, or to this process' end, however it ends.

    The file that is locked says whose the lock is. The operating system knows whether it is held,
    on network file systems too, where they have locks; where they have none, what the file says
    decides.

    Parameters
    ----------
    path : Path
        The file, in a folder that is there.
    what : str
        What is locked, for messages.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what
        self._handle: int | None = None

    def take(self) -> None:
        """Take the lock.

        Raises
        ------
        OutputError
            If another run holds it.
        OSError
            If the file cannot be made.
        """
        while self._handle is None:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                said = os.read(handle, 1000).decode("utf-8", "replace")
                if not _lock(handle, said):
                    raise OutputError(self._refusal(said))
                # Whoever held it last may just have removed the file that was opened.
                if os.path.exists(self._path) and os.path.samestat(  # noqa: PTH110
                    os.fstat(handle),
                    os.stat(self._path),  # noqa: PTH116
                ):
                    os.ftruncate(handle, 0)
                    number = os.getpid()
                    text = f"{_me(number)}\nprocess {number} on {socket.gethostname()}\n"
                    os.pwrite(handle, text.encode(), 0)
                    self._handle = handle
            finally:
                if self._handle is None:
                    os.close(handle)

    def release(self) -> None:
        """Give the lock back, if it is held, and remove its file."""
        if self._handle is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.release()

    def _refusal(self, said: str) -> str:
        owner = next(iter(said.splitlines()[1:]), "a process that does not say which")
        return (
            f"{self._what}: expected no other run to write there; {owner} does, as "
            f"{self._path.name} says. Wait for it to end, or choose another folder; remove that "
            "file if you know that it has ended."
        )


def _lock(handle: int, said: str) -> bool:
    """Return whether an open file could be locked."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        found = re.match(_OWNER, said)
        return found is None or (found[1] == _host() and not _is_running(found[2], found[3]))
    except ImportError:
        pass  # Not POSIX.
    return True


@cache
def _me(number: int) -> str:
    """Return host, number and beginning of this process, which is another after a fork."""
    return f"{_host()}-{number}-{_beginning(number) or ''}"


if hasattr(os, "register_at_fork"):
    # Numbers are given out again: that of a process of long ago may be a child's.
    os.register_at_fork(after_in_child=_me.cache_clear)


@cache
def _host() -> str:
    """Return a short digest of the host, and of the container, which has numbers of its own."""
    said = socket.gethostname()
    with suppress(OSError):
        said += os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def _is_running(number: str, beginning: str) -> bool:
    """Return whether the process of this host that began then may still be there."""
    return _beginning(int(number)) == beginning


def _beginning(number: int) -> str | None:
    """Return when a process of this host began, None if it is not there; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return _beginning_unknown(number)
    try:
        # After the name, which may hold anything, in brackets: the 22nd field of all.
        fields = Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return hashlib.sha256(boot.encode() + fields[19]).hexdigest()[:8]


def _beginning_unknown(number: int) -> str | None:
    """Return whether a process is there, where the system does not say when it began."""
    if os.name == "posix":
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return None
        except OSError:
            return ""
    return ""

"""Folders written whole or not at all, and replaced without touching what is not theirs."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from imgtofmri.exceptions import OutputError

# Its name begins with a dot, so that BIDS tools leave it alone.
MANIFEST = ".imgtofmri-simulate.json"


@contextmanager
def staged_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a folder beside ``target`` that takes its place when the block has succeeded.

    Parameters
    ----------
    target : Path
        Where the files shall be. It may be missing or empty.
    overwrite : bool
        Allow a target that was written by this function before: its files are replaced or removed,
        as the manifest in it lists them, and all others are left.

    Yields
    ------
    Path
        A new folder to write to. It vanishes, and nothing else happens, if the block fails.

    Raises
    ------
    OutputError
        If the target cannot be written, holds files and ``overwrite`` is false, was not written by
        this function, or holds a file of somebody else's where a new one should go.
    """
    target = target.resolve()
    old = check_target(target, overwrite=overwrite)
    stage = target.with_name(f".{target.name}-{secrets.token_hex(4)}.part")
    try:
        stage.mkdir(parents=True)
    except OSError as error:
        message = (
            f"cannot write {target}: {error.strerror}. Choose a folder that exists or can be made, "
            "and that you may write to."
        )
        raise OutputError(message) from error
    try:
        yield stage
        new = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
        listed = {"files": [path.as_posix() for path in new]}
        (stage / MANIFEST).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
        if old is None:
            # The folder is empty if it is there at all, and not every system renames onto one.
            if target.exists():
                target.rmdir()
            stage.replace(target)
        else:
            _exchange(stage, target, old, new)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_target(target: Path, *, overwrite: bool = False) -> list[Path] | None:
    """Return the files that `staged_folder` wrote there before, or None if there is nothing.

    Parameters
    ----------
    target, overwrite
        As for `staged_folder`.

    Raises
    ------
    OutputError
        If the target holds files that may not be replaced.
    """
    if target.exists() and not target.is_dir():
        message = f"cannot write {target}: it is a file. Choose another folder."
        raise OutputError(message)
    if not target.exists() or not any(target.iterdir()):
        return None
    if not overwrite:
        message = (
            f"cannot write {target}: an empty or new folder is needed, and it holds files. Choose "
            "another folder, or --overwrite to replace what an earlier simulation wrote there."
        )
        raise OutputError(message)
    try:
        listed = json.loads((target / MANIFEST).read_text(encoding="utf-8"))["files"]
        paths = [PurePosixPath(name) for name in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = (
            f"cannot overwrite {target}: only a folder that a simulation wrote can be overwritten, "
            f"and it holds no readable {MANIFEST}. Choose another folder."
        )
        raise OutputError(message) from error
    if any(path.is_absolute() or ".." in path.parts for path in paths):
        message = (
            f"cannot overwrite {target}: its {MANIFEST} names files outside the folder, which no "
            "simulation writes. Choose another folder."
        )
        raise OutputError(message)
    return [Path(path) for path in paths]


def _exchange(stage: Path, target: Path, old: list[Path], new: list[Path]) -> None:
    """Replace the old files by the new, one by one, and remove those that are no more."""
    foreign = [path for path in new if path not in set(old) and (target / path).exists()]
    if foreign:
        names = ", ".join(path.as_posix() for path in foreign[:5])
        message = (
            f"cannot overwrite {target}: {len(foreign)} files there, such as {names}, were not "
            "written by a simulation and would be replaced. Move them or choose another folder."
        )
        raise OutputError(message)
    for path in new:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (stage / path).replace(target / path)
    for path in set(old) - set(new):
        (target / path).unlink(missing_ok=True)
        for folder in path.parents[:-1]:
            if (target / folder).is_dir() and not any((target / folder).iterdir()):
                (target / folder).rmdir()
    (stage / MANIFEST).replace(target / MANIFEST)

"""Put a folder that was written elsewhere into its place, touching nothing that is not its own.

The new files lie in a stage, a hidden folder beside the target whose name says which process it is
of. Where earlier files are replaced, a plan is written into the stage before the first is touched.
From then on the exchange counts as decided: whatever stops it, `complete` carries it out to its
end. A stage of a dead process that has no plan is removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from imgtofmri.documents import parse_json, read_text
from imgtofmri.exceptions import OutputError
from imgtofmri.files import is_file, sync, sync_all, write_whole
from imgtofmri.owners import abandoned, new_part

_FILES, _PLAN = "files", "exchange.json"


def new_stage(target: Path) -> Path:
    """Make a stage for a target and return the folder for its files.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    stage = new_part(target.parent)
    stage.mkdir(parents=True)
    (stage / _FILES).mkdir()
    return stage / _FILES


def drop_stage(files: Path) -> None:
    """Remove a stage, given the folder that `new_stage` returned."""
    shutil.rmtree(files.parent, ignore_errors=True)


def exchange(
    files: Path, target: Path, replaced: Collection[PurePosixPath], new: Sequence[PurePosixPath]
) -> None:
    """Move a stage's files to its target, where they take the place of earlier ones.

    Parameters
    ----------
    files : Path
        The folder that `new_stage` returned.
    target : Path
        Their place. It may be missing.
    replaced : collection of PurePosixPath
        Files of the target, relative to it, that are replaced or removed. All others are left.
    new : sequence of PurePosixPath
        The stage's files, relative to it, the record last.

    Raises
    ------
    OutputError
        If a file that is not among the replaced is where one should go, or a link leads out of the
        target; nothing is moved then.
    """
    foreign = [path for path in new if path not in replaced and (target / path).exists()]
    if foreign:
        message = (
            f"{target}: expected no files of others where new ones go; there are {len(foreign)}, "
            f"such as {', '.join(map(str, foreign[:5]))}. Move them or choose another folder."
        )
        raise OutputError(message)
    _check_links(target, [*new, *replaced])
    folders = {files, *((files / path).parent for path in new)}
    sync_all([*((files / path) for path in new), *folders])
    if not replaced:
        # The folder is empty if it is there at all, and not every system renames onto one.
        if target.exists():
            target.rmdir()
        files.replace(target)
        sync(target.parent)
        return
    plan = {"target": target.name, "replaced": sorted(map(str, replaced)), "new": [*map(str, new)]}
    text = json.dumps(plan, ensure_ascii=False)
    write_whole(files.parent / _PLAN, text.encode("utf-8", "surrogateescape"))
    _carry_out(files.parent, target, replaced, new)


def complete(target: Path) -> None:
    """End what dead processes began for a target: carry out what is decided, remove the rest.

    Raises
    ------
    OutputError
        If a plan cannot be read or carried out.
    """
    for stage in [*abandoned(target.parent)]:
        if not stage.is_dir() or stage.is_symlink():
            continue
        if not (stage / _PLAN).exists():
            shutil.rmtree(stage, ignore_errors=True)
            continue
        try:
            plan = parse_json(read_text(stage / _PLAN, errors="surrogateescape"))
            name = str(plan["target"])
            replaced, new = ([PurePosixPath(file) for file in plan[k]] for k in ("replaced", "new"))
            if not all(is_own(path) for path in (*replaced, *new)):
                raise ValueError("it names files outside")  # noqa: EM101
            if not new:
                raise ValueError("it names no new files")  # noqa: EM101
        except (OSError, ValueError, LookupError, TypeError) as error:
            message = (
                f"{stage}: expected the plan by which an earlier run exchanges files; it cannot be "
                f"read ({type(error).__name__}: {error}). Move that folder away."
            )
            raise OutputError(message) from error
        if name != target.name:
            continue
        try:
            _carry_out(stage, target, replaced, new)
        except OutputError:
            raise
        except OSError as error:
            message = (
                f"{stage}: expected to end the exchange of files that an earlier run of {target} "
                f"began; it cannot be done ({error.strerror}). Make room for it if that is what it "
                "lacks, or move that folder away."
            )
            raise OutputError(message) from error


def is_own(path: PurePosixPath) -> bool:
    """Return whether a relative path names a file below the folder that it is relative to."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        return False
    can_be = bool(path.parts) and b"\0" not in name
    return can_be and not path.is_absolute() and ".." not in path.parts


def _carry_out(
    stage: Path, target: Path, replaced: Collection[PurePosixPath], new: Sequence[PurePosixPath]
) -> None:
    """Do what a plan says, or what is left of it."""
    _check_links(target, [*new, *replaced])
    files, record = stage / _FILES, new[-1]
    if (files / record).exists():
        # While old and new lie side by side, no record says that they are one.
        (target / record).unlink(missing_ok=True)
    for path in new[:-1]:
        _move(files / path, target / path)
    for path in sorted(set(replaced) - set(new)):
        _remove(target, path)
    _move(files / record, target / record)
    sync_all({target, *((target / path).parent for path in new)})
    shutil.rmtree(stage, ignore_errors=True)


def remove_files(target: Path, files: Iterable[PurePosixPath], kept: Iterable[Path] = ()) -> None:
    """Remove files of a folder, and folders in it that are empty then.

    Parameters
    ----------
    target : Path
    files : iterable of PurePosixPath
        Relative to it. What is no file, or lies outside or below a link, is left alone.
    kept : iterable of Path
        Files that are left alone, too.
    """
    needed = {path.resolve() for path in kept}
    for path in sorted(filter(is_own, files)):
        file = target / path
        below_link = any((target / folder).is_symlink() for folder in path.parents[:-1])
        if is_file(file) and not below_link and not (needed and file.resolve() in needed):
            _remove(target, path)


def _remove(target: Path, path: PurePosixPath) -> None:
    """Remove a file, and the folders that it leaves empty."""
    (target / path).unlink(missing_ok=True)
    for folder in path.parents[:-1]:
        if (target / folder).is_dir() and not any((target / folder).iterdir()):
            (target / folder).rmdir()


def _move(file: Path, target: Path) -> None:
    """Move a file, unless that was done before."""
    if file.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)


def _check_links(target: Path, paths: Collection[PurePosixPath]) -> None:
    """Refuse files below a link, which are another folder's.

    Raises
    ------
    OutputError
    """
    folders = sorted({folder for path in paths for folder in path.parents[:-1]})
    link = next((folder for folder in folders if (target / folder).is_symlink()), None)
    if link is not None:
        message = (
            f"{target / link}: expected a folder, as files of an earlier run are said to lie in "
            "it; it is a link to another place. Remove the link, or choose another folder."
        )
        raise OutputError(message)

"""Put a folder that was written elsewhere into its place, touching nothing that is not its own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from imgtofmri.exceptions import OutputError


def exchange(
    stage: Path, target: Path, replaced: Collection[PurePosixPath], files: Collection[Path]
) -> None:
    """Move files to a target, where they take the place of earlier ones.

    Parameters
    ----------
    stage : Path
        The folder that they are in, on the target's file system.
    target : Path
        Their place. It may be missing.
    replaced : collection of PurePosixPath
        Files of the target, relative to it, that are replaced or removed. All others are left.
    files : collection of Path
        The files, below the stage.

    Raises
    ------
    OutputError
        If a file that is not among the replaced is where one should go; nothing is moved then.
    """
    new = [PurePosixPath(path.relative_to(stage)) for path in files]
    foreign = [path for path in new if path not in replaced and (target / path).exists()]
    if foreign:
        message = (
            f"{target}: expected no files of others where new ones go; there are {len(foreign)}, "
            f"such as {', '.join(map(str, foreign[:5]))}. Move them or choose another folder."
        )
        raise OutputError(message)
    if not replaced:
        # The folder is empty if it is there at all, and not every system renames onto one.
        if target.exists():
            target.rmdir()
        stage.replace(target)
        return
    for path in new:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (stage / path).replace(target / path)
    for path in set(replaced) - set(new):
        (target / path).unlink(missing_ok=True)
        for folder in path.parents[:-1]:
            if (target / folder).is_dir() and not any((target / folder).iterdir()):
                (target / folder).rmdir()

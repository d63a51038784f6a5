"""BIDS file names, and which files go with which by the standard's inheritance principle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from imgtofmri.exceptions import DataError
from imgtofmri.spaces.names import entities

# Entities whose labels are numbers: run-1 and run-01 are one run.
_INDICES = frozenset({"run", "echo", "flip", "inv", "split"})

OF_DERIVATIVES = frozenset({"space", "cohort", "res", "den", "desc"})
"""What fMRIPrep adds to the name of a run's images."""

# What else images of one and the same acquisition differ in.
_OF_ONE_RUN = OF_DERIVATIVES | {"echo", "part", "rec"}


def agree(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tell whether a file has each of some entities; an empty label wants none of its kind."""
    return all(_label(key, found.get(key, "")) == _label(key, wanted[key]) for key in wanted)


def _label(key: str, label: str) -> str:
    is_number = key in _INDICES and label.isascii() and label.isdecimal()
    return (label.lstrip("0") or "0") if is_number else label


def plain_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a file name that are no entities, without the suffix.

    Examples
    --------
    >>> plain_parts("ANNA_run-1_film.nii.gz")
    ('ANNA',)
    """
    *parts, _ = name.partition(".")[0].split("_")
    return tuple(part for part in parts if not all(part.partition("-")))


def check_once(images: Sequence[Path], remedy: str) -> None:
    """Refuse two images of one acquisition, which would count it twice.

    Parameters
    ----------
    images : sequence of Path
        Runs; those whose names do not say of which subject they are cannot be told apart.
    remedy : str
        What the message ends with; ``{choice}`` becomes how one of them is told from the other.

    Raises
    ------
    DataError
    """
    runs: dict[frozenset[tuple[str, str]], Path] = {}
    for image in images:
        named = entities(image.name)
        if "sub" not in named:
            continue
        run = frozenset(
            (key, _label(key, label)) for key, label in named.items() if key not in _OF_ONE_RUN
        )
        if run not in runs:
            runs[run] = image
            continue
        other = entities(runs[run].name)
        differ = [key for key in named | other if named.get(key) != other.get(key)]
        ways = "; ".join(
            f"{key}: {', '.join(sorted({one.get(key, '(none)') for one in (other, named)}))}"
            for key in differ
        )
        choice = ", ".join(f'{key} = "{named.get(key, "")}"' for key in differ)
        shown = (runs[run], image) if runs[run].name == image.name else (runs[run].name, image.name)
        message = (
            f"{image.parent}: each run must be there once; got {shown[0]} and {shown[1]}"
            f"{f' ({ways})' * bool(ways)}. {remedy.format(choice=choice)}"
        )
        raise DataError(message)


def inherited(
    wanted: Mapping[str, str],
    folder: Path,
    root: Path,
    suffix: str,
    extension: str,
    plain: tuple[str, ...] = (),
) -> list[Path]:
    """Return the files that apply to another by inheritance, from the root to its own folder.

    Parameters
    ----------
    wanted : mapping of str to str
        The other file's entities. A file applies where all of its own are among these.
    folder, root : Path
        The other file's folder, and the data set's above it.
    suffix, extension : str
        Such as ``"events"`` and ``".tsv"``.
    plain : tuple of str
        The other file's `plain_parts`. A file that has any applies where it has the same.

    Returns
    -------
    list of Path
        At most one of each folder, the one with most entities. The last is the nearest.

    Raises
    ------
    DataError
        If several of one folder apply alike.

    References
    ----------
    The BIDS specification, "The Inheritance Principle".
    """
    steps = folder.relative_to(root).parts
    found = []
    for depth in range(len(steps) + 1):
        level = root.joinpath(*steps[:depth])
        fits = [
            (len(entities(path.name)) + len(plain_parts(path.name)), path)
            for path in _with_suffix(level, suffix, extension)
            if agree(wanted, entities(path.name)) and plain_parts(path.name) in ((), plain)
        ]
        most = max((count for count, _ in fits), default=0)
        best = sorted(path for count, path in fits if count == most)
        if len(best) > 1:
            message = (
                f"{level}: one {suffix}{extension} file must apply to "
                f"{'_'.join(f'{key}-{label}' for key, label in wanted.items())}; got "
                f"{', '.join(path.name for path in best)}. Remove all but one, or say in their "
                "names which run each belongs to."
            )
            raise DataError(message)
        found += best
    return found


def _with_suffix(level: Path, suffix: str, extension: str) -> Iterable[Path]:
    if not level.is_dir():
        return
    end = f"{suffix}{extension}"
    for path in level.iterdir():
        if path.name == end or path.name.endswith(f"_{end}"):
            yield path

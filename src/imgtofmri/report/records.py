"""The record of a run, found and checked: what a report is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from imgtofmri.documents import read_text
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.files import is_file, sha256_of
from imgtofmri.outputs.folder import RECORD_VERSION, RUNNING
from imgtofmri.outputs.journal import json_line
from imgtofmri.outputs.record_text import parse_lines, take_apart

_REMEDY = "Name a folder that an imgtofmri command wrote, or run the command again."


class Entries:
    """Entries of a record, each time they are asked for read from their lines.

    Parameters
    ----------
    lines : sequence of str
        JSON; a run may have a million.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return parse_lines(self._lines)


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder, as its record tells of it.

    Attributes
    ----------
    folder : Path
    record : Path
        The record's file.
    content : dict
        What it holds but for its inputs; see `docs/reference/record.md`.
    inputs : Entries
        An entry for each input that was used.
    digests : dict of str to str
        The SHA-256 of each file that the record lists, by its name.
    """

    folder: Path
    record: Path
    content: Mapping[str, Any]
    inputs: Entries
    digests: Mapping[str, str]

    @property
    def command(self) -> str:
        """The command that the run was of."""
        return str(self.content["command"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """The command's own settings."""
        return dict(self.content["settings"])

    @property
    def prediction(self) -> Mapping[str, Any]:
        """What made the predictions; empty where nothing was predicted."""
        return dict(self.content["prediction"])

    def holds(self, file: str) -> bool:
        """Tell whether the record lists a file."""
        return file in self.digests

    def path(self, file: str) -> Path:
        """Return the path of a recorded file that is there and is what was recorded.

        Parameters
        ----------
        file : str

        Raises
        ------
        DataError
            If it is outside the folder, missing, or another than the record says.
        """
        relative = PurePosixPath(file)
        path = self.folder / relative
        got = ""
        if file not in self.digests or relative.is_absolute() or ".." in relative.parts:
            got = "it is not a file of the run's folder"
        elif not is_file(path):
            got = "it is missing"
        elif sha256_of(path) != self.digests[file]:
            got = "it is another file than the run wrote: its digest differs"
        if got:
            message = (
                f"{self.record}: expected {file} as the run wrote it; {got}. Run the command again "
                "with `overwrite`."
            )
            raise DataError(message)
        return path


def open_run(path: str | Path) -> Run:
    """Return the run of a folder, or of a record that is named itself.

    Raises
    ------
    OptionError
        If the folder holds several records and none is named.
    DataError
        If there is none, it cannot be read, it is no record of this version, or the run has not
        ended.
    """
    place = Path(path)
    if place.is_dir():
        found = [file for file in sorted(place.glob("*.json")) if _is_record(file)]
        if not found:
            message = f"{place}: expected a folder with the record of a run; there is none. "
            raise DataError(message + _REMEDY)
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            message = (
                f"{place}: expected the record of one run; got {names}. Name the one to report, "
                f"such as {found[0]}."
            )
            raise OptionError(message)
        place = found[0]
    elif not place.is_file():
        message = f"{place}: expected the folder of a run; there is no such folder. {_REMEDY}"
        raise DataError(message)
    return _checked(place)


def _is_record(file: Path) -> bool:
    try:
        content, _ = take_apart(read_text(file))
    except (OSError, ValueError):
        # A damaged file of a record's name is told of rather than passed over.
        return file.name in ("predictions.json", "selection.json", "validation.json")
    return isinstance(content, dict) and "RecordVersion" in content


def _outputs(inputs: Entries) -> Iterator[dict[str, Any]]:
    """Yield the files that were made of each input, which must have a name."""
    for entry in inputs:
        _ = entry["name"]
        yield from entry.get("outputs", ())


def _checked(file: Path) -> Run:
    """Return the run of a record whose fields are what they should be."""
    try:
        content, lines = take_apart(read_text(file))
        version = content["RecordVersion"]
        if version != RECORD_VERSION:
            message = f"its version is {version}, not {RECORD_VERSION}"
            raise ValueError(message)
        for key, kind in (
            ("command", str),
            ("state", str),
            ("settings", dict),
            ("prediction", dict),
            ("controls", dict),
            ("inputs", list),
            ("outputs", list),
            ("failures", list),
            ("versions", dict),
        ):
            if not isinstance(content[key], kind):
                message = f"its {key} is a {type(content[key]).__name__}"
                raise TypeError(message)
        inputs = Entries([*lines, *map(json_line, content["inputs"])])
        listed = chain(content["outputs"], _outputs(inputs))
        digests = {str(output["file"]): str(output["sha256"]) for output in listed}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        message = (
            f"{file}: expected the record of a run; it is damaged or of another kind "
            f"({type(error).__name__}: {error}). {_REMEDY}"
        )
        raise DataError(message) from error
    if content["state"] == RUNNING:
        message = (
            f"{file}: expected a run that has ended; this one is under way, or was killed. Wait "
            "for it, or go on with `resume`."
        )
        raise DataError(message)
    if content.get("store"):
        message = (
            f"{file}: expected a run with a file for each map; this one is a store, of which no "
            "page is made. Write its maps with `imgtofmri export`, or report some of them with "
            "`Prediction.open(FOLDER)[:100].report(PAGE)`."
        )
        raise DataError(message)
    return Run(file.parent, file, content, inputs, digests)

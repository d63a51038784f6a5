"""`OutputFolder`: the folder that one run writes to, with the record of what made its files.

The record is a JSON file beside the results, of one schema for every command; see
`docs/reference/record.md`. While a long run goes on, each input that is done is appended to a
journal beside it, so that an interrupted run can be resumed and no record of many inputs is
rewritten again and again; closing the folder writes the record whole and removes the journal.

A folder can also be written whole or not at all: its files are collected beside it and take their
place when it is closed. The record then lists all of them, and only these are ever replaced.

From `begin` to `close` a lock keeps other runs of the command out of the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, Self

from imgtofmri import __version__
from imgtofmri.documents import parse_json, read_text
from imgtofmri.exceptions import OptionError, OutputError
from imgtofmri.files import at_home, cannot_write, is_file, sha256_of, sweep, write_whole
from imgtofmri.invocation import COMMAND_LINE
from imgtofmri.outputs.differences import differences
from imgtofmri.outputs.journal import Journal, json_line
from imgtofmri.outputs.record_text import parse_lines, record_bytes, take_apart
from imgtofmri.outputs.staging import (
    complete,
    drop_stage,
    exchange,
    is_own,
    new_stage,
    remove_files,
)
from imgtofmri.owners import Lock, abandoned
from imgtofmri.versions import versions

RECORD_VERSION = 1
"""Of the record's schema; a record of another one is not resumed."""

NOT_COMPARED = {"engine_trial"}
"""What of a run to resume may be otherwise: how an engine that passed its trial did so."""

FILE_SUFFIXES = tuple(".nii .gz .json .tsv .csv .html .png .svg .npz .npy .mp4 .zarr".split())
"""What names a file rather than a folder."""

PAGE = "report.html"
"""What a run's page is called. No record lists it, as it is made of the record."""

_MARK = b'<meta name="generator" content="imgtofmri '

COMPLETE, PARTIAL, RUNNING, INTERRUPTED = "complete", "partial", "running", "interrupted"
"""States of a run: all done; done but for inputs that failed; under way, or killed; stopped."""


class OutputFolder:
    """The folder of one run.

    Call `claim` before anything is computed, then `begin`; `add`, `fail` and `wrote` as results
    come to be; and `close`. A ``with`` block on what `begin` returns closes it, however it ends.

    Parameters
    ----------
    path : Path
        The folder; it is made when missing.
    command : str
        The command that the run is of, such as ``"contrast"``.
    record : str, optional
        The record's file name; by default the command's.
    whole : bool
        Nothing is there until all is: files are written to a new folder beside it, which is
        ``path`` from `begin` to `close`.
    """

    def __init__(self, path: Path, command: str, record: str = "", *, whole: bool = False) -> None:
        self.path = path = at_home(path)
        self.command = command
        self._target, self._whole = path, whole
        self._replaced: set[PurePosixPath] = set()
        self.record = path / (record or f"{command}.json")
        self._journal = Journal(self.record.with_suffix(".jsonl"))
        self._head: dict[str, Any] = {}
        # Each as the line of JSON that a record and its journal have of it: there may be a million.
        self._inputs: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._outputs: dict[str, str] = {}
        self._earlier: dict[str, str] = {}
        self._more: dict[str, Any] = {}
        self._resumes = self._may_replace = False
        self._lock = Lock(self._lock_file(), str(path))
        self._started = _now()

    @classmethod
    def of(
        cls,
        folder: OutputFolder | str | Path,
        command: str,
        record: str = "",
        *,
        overwrite: bool = False,
        whole: bool = False,
    ) -> OutputFolder:
        """Return a folder that is claimed: the one given, or a new one at a path.

        Raises
        ------
        OptionError, OutputError
            As `claim`.
        """
        if isinstance(folder, OutputFolder):
            return folder
        claimed = cls(Path(folder), command, record, whole=whole)
        claimed.claim(overwrite=overwrite)
        return claimed

    def claim(
        self, *, overwrite: bool = False, resume: bool = False, resumable: bool = False
    ) -> None:
        """Refuse a folder that cannot be written to or holds an earlier run, before work is done.

        Parameters
        ----------
        overwrite : bool
            Replace what an earlier run made; what its record lists is removed when this one begins.
        resume : bool
            Keep what an earlier run of the same settings made, and do the rest.
        resumable : bool
            Whether the command can resume, for messages.

        Raises
        ------
        OptionError
            If the folder holds an earlier run and nothing says what to do with it; if both are
            asked for; if the name is a file's; or if it shall be written whole and holds files that
            no such run wrote.
        OutputError
            If it is a file, its name cannot be one, or the record of what may be replaced cannot
            be read.
        """
        try:
            self._claim(overwrite, resume, resumable)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise cannot_write(self.path, error) from error

    def _claim(self, overwrite: bool, resume: bool, resumable: bool) -> None:
        self._resumes, self._may_replace = resume, resume or overwrite
        if resume and overwrite:
            message = (
                f"{self.path}: expected `resume`, which keeps what is there, or `overwrite`, which "
                "replaces it; got both. Leave one out."
            )
            raise OptionError(message)
        if self.path.exists() and not self.path.is_dir():
            message = (
                f"{self.path}: expected a folder to write to; it is a file. Choose another name."
            )
            raise OutputError(message)
        if not self.path.exists() and self.path.suffix.lower() in FILE_SUFFIXES:
            message = (
                f"{self.path}: expected a folder to write to; got the name of a file. Files are "
                "named by what they hold: name the folder for them, such as out/."
            )
            raise OptionError(message)
        if self._whole and self._target.absolute().parent.is_dir():
            self._end_what_was_begun()
        self._check_new(resumable)
        if self._whole and self.path.exists() and any(self.path.iterdir()):
            self._replaced = self._replaceable()

    def _check_new(self, resumable: bool = False) -> None:
        """Refuse a folder with a record, unless what to do with it was said."""
        if (self.record.exists() or self._journal.path.exists()) and not self._may_replace:
            resuming = "`resume` to do what is missing, " if resumable else ""
            message = (
                f"{self.path}: expected a folder without earlier results; it holds "
                f"{self.record.name}. Use {resuming}`overwrite` to do all again, or another folder."
            )
            raise OptionError(message)

    def _lock_file(self) -> Path:
        """Return the file that keeps two runs apart; beside a folder that is written whole."""
        if not self._whole:
            return self.path / f".{self.record.name}.lock"
        target = self._target.absolute()
        name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
        return target.parent / f".imgtofmri-{name}.lock"

    def _replaceable(self) -> set[PurePosixPath]:
        """Return the files that an earlier run wrote here, as its record lists them."""
        if not self.record.exists():
            message = (
                f"{self.path}: expected a new or empty folder, or what an earlier {self.command} "
                f"wrote; it holds files and no {self.record.name}. Choose another folder."
            )
            raise OptionError(message)
        try:
            listed = parse_json(read_text(self.record))["outputs"]
            files = {PurePosixPath(output["file"]) for output in listed}
        except (OSError, ValueError, LookupError, TypeError) as error:
            message = (
                f"{self.record}: expected the record of an earlier run, which says what may be "
                f"replaced; it cannot be read ({type(error).__name__}: {error}). Choose another "
                "folder."
            )
            raise OutputError(message) from error
        outside = next((file for file in files if not is_own(file)), None)
        if outside is not None:
            message = (
                f"{self.record}: expected files of its own folder; it names {str(outside)!r}, "
                "which is outside, or can be no file. Choose another folder."
            )
            raise OutputError(message)
        page = {PurePosixPath(PAGE)} if _is_page(self.path / PAGE) else set()
        return files | {PurePosixPath(self.record.name)} | page

    def begin(
        self,
        settings: Mapping[str, Any],
        prediction: Mapping[str, Any] | None = None,
        controls: Mapping[str, Any] | None = None,
        measured: Iterable[Path] = (),
    ) -> Self:
        """Open the record, taking over what an earlier run made if that is resumed.

        Parameters
        ----------
        settings : mapping
            The command's own settings; JSON values.
        prediction : mapping, optional
            What makes predictions: ``prediction.provenance.to_dict()``.
        controls : mapping, optional
            What each control is: ``controls.to_dict()``.
        measured : iterable of Path
            Files of measured data; their digests are recorded.

        Returns
        -------
        OutputFolder
            This one, for a ``with`` block.

        Raises
        ------
        OptionError
            If a run is resumed whose settings or version differ from these.
        OutputError
            If an earlier record cannot be read, none can be written, or another run is writing
            here.
        """
        self._head = {
            "settings": dict(settings),
            "prediction": dict(prediction or {}),
            "controls": dict(controls or {}),
            "measured": [{"path": str(path), "sha256": sha256_of(path)} for path in measured],
        }
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def announce(
        self,
        settings: Mapping[str, Any],
        prediction: Mapping[str, Any],
        failures: Mapping[str, str],
        tasks: int,
    ) -> None:
        """Write the record of a run that several processes do without knowing of each other.

        It says that the run is under way, and what it is: whoever comes first writes it, and the
        others are refused if theirs is another. What they make is not in it until the run is
        merged.

        Parameters
        ----------
        settings, prediction
            As for `begin`.
        failures : mapping of str to str
            Inputs that none of them can use, and why.
        tasks : int
            How many processes there are to be.

        Raises
        ------
        OptionError, OutputError
            As `begin`, but for a run that is writing here.
        """
        self._head = {
            "settings": dict(settings),
            "prediction": dict(prediction),
            "controls": {},
            "measured": [],
        }
        if self.record.exists():
            self._take_over()
            return
        self._failures.update(failures)
        self.tell("tasks", tasks)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._write(RUNNING)

    def _open(self) -> None:
        """Take the folder, and what an earlier run left in it."""
        self._take_lock()
        # Another run may have come between.
        self._check_new()
        if self._whole:
            self._stage()
            return
        sweep(self.path, below=True)
        if self._resumes and self.record.exists():
            self._take_over()
        elif self._may_replace:
            self._clear()
        if self._may_replace:
            remove_page(self.path)
        self._write(RUNNING)
        self._journal.remove()

    def _clear(self) -> None:
        """Remove what an earlier run wrote: beside this one's it would be taken for part of it."""
        try:
            earlier, lines = take_apart(read_text(self.record))
            lines = [*lines, *map(json_line, earlier["inputs"]), *self._journal.lines()]
            of_inputs = (entry.get("outputs", ()) for entry in parse_lines(lines))
            outputs = [*earlier["outputs"], *chain.from_iterable(of_inputs)]
            names = [output["file"] for output in outputs]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return  # What cannot be read does not say what is its run's.
        files = {PurePosixPath(name) for name in names if isinstance(name, str)}
        measured = [Path(entry["path"]) for entry in self._head["measured"]]
        try:
            remove_files(self.path, files, kept=measured)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _take_lock(self) -> None:
        folder = self._target.absolute().parent if self._whole else self.path
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.take()
        except OutputError:
            raise
        except OSError as error:
            raise cannot_write(self._target, error) from error

    def _end_what_was_begun(self) -> None:
        """Carry out the exchange that a run of this folder was killed in, if one was."""
        if not any(abandoned(self._target.resolve().parent)):
            return
        self._take_lock()
        try:
            complete(self._target.resolve())
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close("" if kind is None else INTERRUPTED)

    @property
    def resumes(self) -> bool:
        """Whether what an earlier run made is kept."""
        return self._resumes

    @property
    def names(self) -> list[str]:
        """Names of the inputs whose results are recorded."""
        return list(self._inputs)

    @property
    def files(self) -> list[Path]:
        """The recorded files, and the record itself."""
        entries = (out["file"] for line in self._inputs.values() for out in _outputs(line))
        return [*(self.path / file for file in (*entries, *self._outputs)), self.record]

    def knows(self, name: str) -> bool:
        """Return whether an earlier run recorded this input."""
        return name in self._inputs

    def is_done(self, name: str, sha256: str | None) -> bool:
        """Return whether an input's results are there and are what was recorded.

        Parameters
        ----------
        name : str
        sha256 : str or None
            The input's digest now.
        """
        line = self._inputs.get(name)
        if line is None or sha256 is None:
            return False
        entry = json.loads(line)
        if entry["sha256"] != sha256:
            return False
        return all(
            is_file(self.path / output["file"])
            and sha256_of(self.path / output["file"]) == output["sha256"]
            for output in entry["outputs"]
        )

    def add(
        self,
        name: str,
        sha256: str | None,
        outputs: Mapping[str, str],
        path: Path | None = None,
        **more: Any,
    ) -> None:
        """Record an input's results; outputs are file names, relative to the folder, to digests."""
        files = [{"file": file, "sha256": digest} for file, digest in outputs.items()]
        line = json_line(_input(name, sha256, path) | more | {"outputs": files})
        self._inputs[name] = line
        self._failures.pop(name, None)
        self._journal.append(line)

    def used(
        self, names: Sequence[str], sha256: Sequence[str | None], paths: Sequence[Path | None]
    ) -> None:
        """Record inputs that all results together are made of."""
        for name, digest, path in zip(names, sha256, paths, strict=True):
            self._inputs[name] = json_line(_input(name, digest, path) | {"outputs": []})

    def fail(self, name: str, reason: str) -> None:
        """Record an input that could not be used."""
        self._failures[name] = reason
        self._inputs.pop(name, None)
        self._journal.append(json_line({"name": name, "failure": reason}))

    def wrote(self, *files: Path) -> None:
        """Record files of the run as a whole, with their digests."""
        for file in files:
            self._check_not_record(file)
            self._outputs[file.relative_to(self.path).as_posix()] = sha256_of(file)

    def tell(self, name: str, said: Any) -> None:
        """Record something of the run as a whole under a name of its own; JSON values."""
        self._more[name] = said

    def keep(self, *files: str) -> bool:
        """Keep files that an earlier run wrote as a whole, if all are still what it wrote."""
        kept = all(map(self._is_still, files))
        if kept:
            self._outputs |= {file: self._earlier[file] for file in files}
        return kept

    def close(self, state: str = "") -> None:
        """Write the record for good.

        Parameters
        ----------
        state : str
            `INTERRUPTED`, which leaves nothing of a folder that is written whole; by default
            `COMPLETE`, or `PARTIAL` where inputs failed.

        Raises
        ------
        OutputError
            If it cannot be written, or a file of somebody else's is where one should go.
        """
        if self._whole and state == INTERRUPTED:
            self._unstage()
            self._lock.release()
            return
        try:
            if self._whole:
                self.wrote(*self._files())
            if state != INTERRUPTED:
                self._drop_earlier()
            self._write(state or (PARTIAL if self._failures else COMPLETE))
            self._journal.remove()
            if self._whole:
                new = [PurePosixPath(path.relative_to(self.path)) for path in self._files()]
                exchange(self.path, self._target.resolve(), self._replaced, new)
        except OutputError:
            raise
        except OSError as error:
            raise cannot_write(self._target, error) from error
        finally:
            if self._whole:
                self._unstage()
            self._lock.release()

    def _drop_earlier(self) -> None:
        """Remove what an earlier run wrote as a whole and this one, asked otherwise, did not.

        What somebody has changed since is no longer its.
        """
        own = {path.relative_to(self.path).as_posix() for path in self.files}
        whole = [PurePosixPath(file) for file in {*self._earlier} - own if self._is_still(file)]
        measured = [Path(entry["path"]) for entry in self._head["measured"]]
        remove_files(self.path, whole, kept=measured)

    def _is_still(self, file: str) -> bool:
        """Tell whether a file is what an earlier run wrote as a whole."""
        there = self.path / file
        return is_file(there) and sha256_of(there) == self._earlier.get(file)

    def _check_not_record(self, file: Path) -> None:
        """Refuse a result where the record goes, such as the sidecar of a table of its name."""
        if file == self.record:
            message = (
                f"{file.name} is the record of {self.command}: a table or file of the run must "
                "have another name"
            )
            raise AssertionError(message)

    def _files(self) -> list[Path]:
        """Return all files that are there, the record last: what it lists is then in place."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        return sorted(files, key=lambda path: (path == self.record, path))

    def _stage(self) -> None:
        """Go on in a new folder beside the target."""
        try:
            stage = new_stage(self._target.resolve())
        except OSError as error:
            raise cannot_write(self._target, error) from error
        self._move(stage)

    def _unstage(self) -> None:
        drop_stage(self.path)
        self._move(self._target)

    def _move(self, path: Path) -> None:
        self.path = path
        self.record = path / self.record.name
        self._journal = Journal(path / self._journal.path.name)

    def _write(self, state: str) -> None:
        head = {
            "GeneratedBy": [{"Name": "imgtofmri", "Version": __version__}],
            "RecordVersion": RECORD_VERSION,
            "command": self.command,
            "command_line": COMMAND_LINE.get() or None,
            "state": state,
            "started": self._started,
            "written": _now(),
            "versions": versions(),
            **self._head,
            **self._more,
        }
        lists = {
            "inputs": self._inputs.values(),
            "outputs": [
                json_line({"file": f, "sha256": digest}) for f, digest in self._outputs.items()
            ],
            "failures": [
                json_line({"name": n, "reason": why}) for n, why in self._failures.items()
            ],
        }
        write_whole(self.record, record_bytes(head, lists))

    def _take_over(self) -> None:
        """Go on from what an earlier run recorded, if it is a run of these settings."""
        try:
            earlier, lines = take_apart(read_text(self.record))
            found = earlier.get("RecordVersion")
            if found != RECORD_VERSION:
                what = "without a version" if found is None else f"of version {found}"
                message = (
                    f"{self.record}: expected a record of version {RECORD_VERSION}; got one "
                    f"{what}, which another release of imgtofmri or another program wrote. Use "
                    "`overwrite` to do all again, or another folder."
                )
                raise OutputError(message)
            inputs: dict[str, str] = {}
            lines = [*lines, *map(json_line, earlier["inputs"]), *self._journal.lines()]
            for line, entry in zip(lines, parse_lines(lines), strict=True):
                if "failure" in entry:
                    inputs.pop(str(entry["name"]), None)
                    continue
                _check_entry(entry)
                inputs[entry["name"]] = line
            _check_own(earlier["outputs"])
            written = {
                PurePosixPath(output["file"]).as_posix(): output["sha256"]
                for output in earlier["outputs"]
            }
            before = {key: dict(earlier[key]) for key in ("settings", "prediction")}
            version_then = earlier["GeneratedBy"][0]["Version"]
            started = str(earlier["started"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, OutputError):
                raise
            message = (
                f"{self.record}: expected the record of an earlier run; it is damaged or of "
                f"another kind ({type(error).__name__}: {error}). Use `overwrite` to do all again, "
                "or another folder."
            )
            raise OutputError(message) from error
        # JSON turns tuples into lists.
        now = json.loads(json.dumps({key: self._head[key] for key in before}))
        different = differences(before, now, NOT_COMPARED)
        if version_then != __version__:
            # One record names one version for all its results.
            different.append(
                f"the version of imgtofmri was {version_then} and is now {__version__}"
            )
        if different:
            message = (
                f"{self.path}: expected the settings of the run to resume, but "
                f"{'; '.join(different)}. Resume with the same settings, or use another folder."
            )
            raise OptionError(message)
        self._inputs, self._earlier = inputs, written
        self._started = started


def remove_page(folder: Path) -> None:
    """Remove the page of a run, if there is one: it tells of results that others now replace.

    Parameters
    ----------
    folder : Path
        Of the run. A file of the page's name that this package did not write is left alone.
    """
    if _is_page(folder / PAGE):
        (folder / PAGE).unlink()


def _is_page(path: Path) -> bool:
    if not is_file(path):
        return False
    with path.open("rb") as file:
        return _MARK in file.read(4096)


def _input(name: str, sha256: str | None, path: Path | None) -> dict[str, Any]:
    return {"name": name, "path": None if path is None else str(path), "sha256": sha256}


def _outputs(line: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(line)["outputs"]
    return found


def _check_entry(entry: Mapping[str, Any]) -> None:
    """Raise a KeyError, TypeError or ValueError unless this is a record's entry of one input."""
    digest, outputs = entry["sha256"], entry["outputs"]
    texts = [output[key] for output in outputs for key in ("file", "sha256")]
    if not all(isinstance(text, str) for text in [entry["name"], *texts]):
        message = f"the entry of {entry['name']!r} is not text"
        raise TypeError(message)
    if not outputs or not isinstance(digest, str | None):
        message = f"the entry of {entry['name']!r} lacks outputs or a digest"
        raise ValueError(message)
    _check_own(outputs)


def _check_own(outputs: Sequence[Mapping[str, str]]) -> None:
    """Raise a TypeError or a ValueError unless all are files below the record's folder."""
    for output in outputs:
        if not is_own(PurePosixPath(output["file"])):
            message = f"{output['file']!r} is outside the record's folder, or can be no file"
            raise ValueError(message)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

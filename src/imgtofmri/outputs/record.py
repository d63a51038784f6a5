"""The record of a run: what was made, from which inputs, with which settings.

It is a JSON sidecar beside the results, rewritten whole as the run goes on, so that an interrupted
run can be resumed and a finished one can be explained.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgtofmri import __version__
from imgtofmri.exceptions import OptionError, OutputError
from imgtofmri.files import atomic_path, sha256_of

RECORD_NAME = "predictions.json"
SAVE_INTERVAL_S = 2.0


class RunRecord:
    """The sidecar of one output folder.

    Use `start` to open one; then `is_done` and `add` for each input, and `finish`.

    Parameters
    ----------
    folder : Path
    settings : mapping
        Everything that the results depend on besides the inputs; JSON values.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        self._inputs: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, str] = {}
        self._started = _now()
        self._saved = 0.0

    @classmethod
    def start(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
    ) -> RunRecord:
        """Open the record of a new, a resumed or a repeated run.

        Parameters
        ----------
        folder : Path
            The output folder, made when missing.
        settings : mapping
            As for the class.
        resume : bool
            Keep what an earlier run of the same settings made.
        overwrite : bool
            Replace what an earlier run made.

        Raises
        ------
        OptionError
            If both are asked for; if the folder holds an earlier run and neither is asked for; or
            if that run's settings or version differ from these.
        OutputError
            If an earlier record cannot be read, or none can be written.
        """
        check_folder(folder, resume, overwrite)
        record = cls(folder, settings)
        path = folder / RECORD_NAME
        if path.exists() and not overwrite:
            record._take_over(path)
        record.save("running")
        return record

    def _take_over(self, path: Path) -> None:
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
            inputs = {entry["name"]: entry for entry in earlier["inputs"]}
            for entry in inputs.values():
                _check_entry(entry)
            settings = dict(earlier["settings"])
            version = earlier["GeneratedBy"][0]["Version"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            message = (
                f"{path}: expected the record of an earlier run; it is damaged or of another kind "
                f"({type(error).__name__}: {error}). Use --overwrite to do all again, or another "
                "folder."
            )
            raise OutputError(message) from error
        # What was asked for must be the same; JSON turns tuples into lists, so compare as JSON.
        wanted = json.loads(json.dumps(self.settings))
        different = [
            f"{key} was {settings.get(key)!r} and is now {wanted.get(key)!r}"
            for key in sorted({*wanted, *settings})
            if settings.get(key) != wanted.get(key)
        ]
        if version != __version__:
            # One record names one version for all its results.
            different.append(f"the version of imgtofmri was {version} and is now {__version__}")
        if different:
            message = (
                f"{self.folder}: expected the settings of the run to resume, but "
                f"{'; '.join(different)}. Resume with the same settings, or use another folder."
            )
            raise OptionError(message)
        self._inputs = inputs
        self._started = earlier.get("started", self._started)

    @property
    def names(self) -> list[str]:
        """Names of the inputs whose results are recorded."""
        return list(self._inputs)

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
        entry = self._inputs.get(name)
        if entry is None or entry.get("sha256") != sha256 or sha256 is None:
            return False
        return all(
            (self.folder / output["file"]).is_file()
            and sha256_of(self.folder / output["file"]) == output["sha256"]
            for output in entry["outputs"]
        )

    def add(self, name: str, sha256: str | None, outputs: Mapping[str, str], **more: Any) -> None:
        """Record an input's results; outputs are file names, relative to the folder, to digests."""
        files = [{"file": file, "sha256": digest} for file, digest in outputs.items()]
        self._inputs[name] = {"name": name, "sha256": sha256, **more, "outputs": files}
        self._failures.pop(name, None)
        if time.monotonic() - self._saved > SAVE_INTERVAL_S:
            self.save("running")

    def fail(self, name: str, reason: str) -> None:
        """Record an input that could not be used."""
        self._failures[name] = reason
        self._inputs.pop(name, None)

    def finish(self, state: str) -> None:
        """Write the record for good: "complete" or "interrupted"."""
        self.save(state)

    def save(self, state: str) -> None:
        """Write the record as it stands."""
        content = {
            "GeneratedBy": [{"Name": "imgtofmri", "Version": __version__}],
            "state": state,
            "started": self._started,
            "written": _now(),
            "settings": self.settings,
            "inputs": list(self._inputs.values()),
            "failures": [{"name": n, "reason": reason} for n, reason in self._failures.items()],
        }
        with atomic_path(self.folder / RECORD_NAME) as temporary:
            text = json.dumps(content, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        self._saved = time.monotonic()


def check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds an earlier run, unless it is said what to do with that.

    Raises
    ------
    OptionError
        If it does and neither is asked for, or if both are.
    """
    if resume and overwrite:
        message = (
            f"{folder}: expected --resume, which keeps what is there, or --overwrite, which "
            "replaces it; got both. Leave one out."
        )
        raise OptionError(message)
    if (folder / RECORD_NAME).exists() and not (resume or overwrite):
        message = (
            f"{folder}: expected a folder without earlier predictions; it holds {RECORD_NAME}. Use "
            "--resume to do what is missing, --overwrite to do all again, or another folder."
        )
        raise OptionError(message)


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

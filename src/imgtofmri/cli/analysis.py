"""What the commands that analyse predictions share: their images, refusals, records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgtofmri import __version__
from imgtofmri.exceptions import DataError, OptionError, OutputError

if TYPE_CHECKING:
    from imgtofmri.encoder import Prediction
    from imgtofmri.stimuli import Failure, Source


def find_images(inputs: Sequence[str | Path]) -> tuple[list[Source], list[Failure]]:
    """Find image files, before anything is loaded; movies among them are failures.

    Raises
    ------
    DataError
        If there is no image at all, saying why.
    OptionError
        As `imgtofmri.stimuli.find_sources` does.
    """
    from imgtofmri.stimuli import Failure, find_sources
    from imgtofmri.stimuli.items import refuse

    found, failures = find_sources(inputs)
    sources = [source for source in found if source.kind == "image"]
    for source in found:
        if source.kind != "image":
            got = f"'{source.path}', a movie"
            remedy = "Leave it out: `predict`, `simulate` and `dynamics` take movies."
            error = refuse("find_images", "an image file", got, remedy)
            failures.append(Failure(source.name, error))
    if not sources:
        more = f" And {len(failures) - 1} more could not be used." if len(failures) > 1 else ""
        message = f"{failures[0].error}{more}"
        raise DataError(message)
    return sources, failures


def claim_output(folder: Path, record: str, overwrite: bool) -> None:
    """Refuse to write where an earlier run has written, before anything is computed.

    Raises
    ------
    OptionError
        If the folder holds that run's record and ``overwrite`` is false.
    OutputError
        If it is a file.
    """
    if folder.exists() and not folder.is_dir():
        message = f"{folder}: expected a folder to write to; it is a file. Choose another name."
        raise OutputError(message)
    if (folder / record).exists() and not overwrite:
        message = (
            f"{folder}: expected a folder without earlier results; it holds {record}. Use "
            "--overwrite, or another folder."
        )
        raise OptionError(message)


def write_record(
    path: Path,
    prediction: Prediction,
    failures: Sequence[Failure],
    details: Mapping[str, Any],
) -> None:
    """Write the sidecar that says how results were made; last, so that it marks a whole run."""
    from imgtofmri.files import atomic_path

    inputs = zip(prediction.names, prediction.sources, prediction.sha256, strict=True)
    record = {
        "imgtofmri": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": prediction.provenance.to_dict(),
        **details,
        "inputs": [
            {"name": name, "path": str(source), "sha256": digest} for name, source, digest in inputs
        ],
        "failed": [{"name": failure.name, "reason": str(failure.error)} for failure in failures],
    }
    with atomic_path(path) as temporary:
        text = json.dumps(record, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")

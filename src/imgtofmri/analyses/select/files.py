"""Files of a selection: the sets, their checks, the events of a run, and pictures of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from imgtofmri.analyses.select.analysis import StimulusSelection, events_table
from imgtofmri.encoder.controls import describe_controls
from imgtofmri.exceptions import DataError
from imgtofmri.figures.style import save_figure
from imgtofmri.outputs import OutputFolder
from imgtofmri.stimuli import Failure
from imgtofmri.tables import write_table

RECORD = "selection.json"


def save_selection(
    result: StimulusSelection,
    folder: OutputFolder | str | Path,
    *,
    duration_s: float = 2.0,
    gap_s: float = 4.0,
    n_repeats: int = 1,
    failures: Iterable[Failure] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Write a selection's tables, events, contact sheet and figure of checks, and the record.

    Parameters
    ----------
    result : StimulusSelection
        Of images that are files.
    folder : OutputFolder, str or Path
    duration_s, gap_s, n_repeats
        Of the events, as in `events_table`; the seed is the selection's. Their files are relative
        to the deepest folder that holds the whole pool, which the record names.
    failures : iterable of Failure
        Images that could not be used, for the record.
    overwrite : bool
        Replace what an earlier run wrote there.

    Returns
    -------
    list of Path
        The files, without the record, ``selection.json``.

    Raises
    ------
    OptionError
        If the folder holds results of an earlier run, or a time is out of range.
    DataError
        If an image is no file.
    OutputError
        If the folder cannot be written to.
    """
    prediction, request = result.prediction, result.request
    note = prediction.provenance.note
    file_of = {
        name: path
        for name, path in zip(prediction.names, prediction.sources, strict=True)
        if path is not None
    }
    without = next((name for name in prediction.names if name not in file_of), None)
    if without is not None:
        message = (
            f"{without}: expected an image file, so that events can name it; got a picture in "
            "memory. Save the pictures, and predict the files."
        )
        raise DataError(message)
    common = Path(os.path.commonpath([path.absolute().parent for path in file_of.values()]))
    relative = {
        name: tuple(Path(os.path.relpath(file_of[one], common)).as_posix() for one in members)
        for name, members in result.sets.items()
    }
    events = events_table(relative, duration_s, gap_s, n_repeats, seed=request.seed)
    out = OutputFolder.of(folder, "select", RECORD, overwrite=overwrite)
    details = {
        "goals": [goal.name for goal in request.goals],
        "n_per_set": request.n_per_set,
        "match": list(request.match),
        "tolerance": request.tolerance,
        "reference": request.reference,
        "n_pool": len(prediction),
        "n_random": request.n_random,
        "stimulus_folder": str(common),
        "seed": request.seed,
        "duration_s": duration_s,
        "gap_s": gap_s,
        "n_repeats": n_repeats,
    }
    with out.begin(details, prediction.provenance.to_dict(), describe_controls(result.controls)):
        out.used(prediction.names, prediction.sha256, prediction.sources)
        for failure in failures:
            out.fail(failure.name, str(failure.error))
        tables = {
            "events": events,
            "selection": result.table,
            "checks": result.checks,
            "matching": result.matching,
        }
        files = [write_table(table, out.path / f"{name}.tsv") for name, table in tables.items()]
        sheet = out.path / "contact-sheet"
        files += save_figure(result.plot(), sheet, ("png",), dpi=150, note=note)
        files += save_figure(result.plot_checks(), out.path / "checks", note=note)
        out.wrote(*files)
    return files

"""Predict images into a folder: one volume for each, a record of the run, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from imgtofmri.encoder import Predictor
from imgtofmri.encoder.saving import MapWriter
from imgtofmri.files import sha256_of
from imgtofmri.outputs import Layout, OutputFolder
from imgtofmri.progress import track
from imgtofmri.stimuli import Failure, Source


@dataclass(slots=True)
class RunSummary:
    """What came of a run.

    Attributes
    ----------
    done : list of str
        Names of the stimuli that were predicted now.
    kept : list of str
        Names of those whose results an earlier run had made and that were verified.
    failures : list of Failure
        Inputs that could not be used.
    """

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def predict_images(
    predictor: Predictor,
    sources: Sequence[Source],
    folder: OutputFolder,
    layout: Layout,
    *,
    subjects: bool = False,
    interval: float | None = None,
    progress: bool = True,
) -> RunSummary:
    """Predict image files and write a volume for each.

    Parameters
    ----------
    predictor : Predictor
        An encoder with its settings.
    sources : sequence of Source
        Image files.
    folder : OutputFolder
        Begun. What it holds and can verify is not predicted again.
    layout : Layout
        Names the files.
    subjects : bool
        Whether to write each subject's smoothed map, too.
    interval : float, optional
        The level of a prediction interval whose bounds are written, too.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    RunSummary

    Raises
    ------
    OutputError
        If a volume cannot be written.
    """
    summary = RunSummary()
    pending = []
    for source in sources:
        if folder.knows(source.name) and folder.is_done(source.name, source_digest(source)):
            summary.kept.append(source.name)
        else:
            pending.append(source)
    if not pending:
        return summary
    with track("Predicting", len(pending), "images", enabled=progress) as advance:

        def fail(failure: Failure) -> None:
            summary.failures.append(failure)
            folder.fail(failure.name, str(failure.error))
            advance(1)

        writer = MapWriter(folder, layout, subjects=subjects, interval=interval)
        for part in predictor.stream(pending, fail):
            writer.write(part)
            summary.done.extend(part.names)
            advance(len(part))
    return summary


def source_digest(source: Source) -> str | None:
    """Return the SHA-256 of an input file, or None if it cannot be read."""
    try:
        return sha256_of(source.path)
    except OSError:
        return None

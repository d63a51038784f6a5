"""Predict images into a folder: one volume for each, a record of the run, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from imgtofmri.encoder import Prediction, Predictor
from imgtofmri.exceptions import OptionError
from imgtofmri.files import sha256_of
from imgtofmri.outputs import Layout, OutputFolder, VolumeWriter
from imgtofmri.progress import track
from imgtofmri.stimuli import Failure, Source

BOUNDS = ("lower", "upper")
"""The bounds of a prediction interval, as files are named after them."""


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

        writer: VolumeWriter | None = None
        for part in predictor.stream(pending, fail):
            writer = writer or VolumeWriter(part.mask, part.affine)
            maps = run_maps(part, subjects, interval)
            for index, name in enumerate(part.names):
                files = {}
                for (subject, bound), values in maps.items():
                    file = layout.volume(name, subject, bound)
                    files[file] = writer.write(folder.path / file, values[index])
                folder.add(name, part.sha256[index], files, part.sources[index])
                summary.done.append(name)
                advance(1)
    return summary


def check_targets(folder: OutputFolder, sources: Sequence[Source], layout: Layout) -> None:
    """Refuse to write over files that no earlier run is known to have made.

    Raises
    ------
    OptionError
        Naming the first such file.
    """
    if folder.record.exists():
        return
    for source in sources:
        files = [layout.volume(source.name)]
        if source.kind == "movie":
            files += [layout.timeseries(source.name), layout.sidecar(source.name)]
        target = next((folder.path / file for file in files if (folder.path / file).exists()), None)
        if target is not None:
            message = (
                f"{target}: expected no file of this name; there is one. Use `overwrite` to "
                "replace it, or another folder."
            )
            raise OptionError(message)


def run_maps(
    part: Prediction, subjects: bool, interval: float | None
) -> dict[tuple[str | None, str], npt.NDArray[np.float32]]:
    """Return the maps that a run writes.

    Parameters
    ----------
    part : Prediction
    subjects : bool
        Whether each subject's map is wanted, too.
    interval : float or None
        The level of the prediction interval that is wanted, too.

    Returns
    -------
    dict of (subject or None, bound) to array of shape (n_stimuli, n_voxels)
        The group is None; the bound is empty, "lower" or "upper".
    """
    maps: dict[tuple[str | None, str], npt.NDArray[np.float32]] = {(None, ""): part.group}
    if subjects:
        maps |= {
            (name, ""): values
            for name, values in zip(part.subject_names, part.subjects, strict=True)
        }
    if interval is not None:
        bounds = part.interval(interval)
        maps |= {(None, name): values for name, values in zip(BOUNDS, bounds, strict=True)}
    return maps


def source_digest(source: Source) -> str | None:
    """Return the SHA-256 of an input file, or None if it cannot be read."""
    try:
        return sha256_of(source.path)
    except OSError:
        return None

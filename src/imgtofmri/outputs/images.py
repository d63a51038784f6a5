"""Predict images into a folder: one volume for each, a record of the run, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgtofmri.assets import sha256_of
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import OptionError
from imgtofmri.features import FeatureBatch
from imgtofmri.outputs.layouts import Layout
from imgtofmri.outputs.record import RECORD_NAME, RunRecord
from imgtofmri.outputs.volumes import VolumeWriter
from imgtofmri.pipeline import RunSettings
from imgtofmri.prediction import Prediction
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


def run_settings(
    encoder: Encoder,
    settings: RunSettings,
    subjects: bool,
    output_format: str,
    rate_hz: float | None = None,
) -> dict[str, Any]:
    """Return everything that results depend on besides the inputs, for the record.

    ``rate_hz`` is given where there are movies.

    Raises
    ------
    OptionError
        If a setting is not valid.
    WeightsUnavailableError
        If the network's weights are nowhere to be had.
    """
    run = encoder.pipeline(**settings)
    spec = run.network.spec
    movies = {} if rate_hz is None else {"rate_hz": rate_hz}
    return {
        "encoder": encoder.card["id"],
        "encoder_source": encoder.card.get("source", ""),
        "backbone": spec.id,
        "layers": list(spec.layers),
        "weights": spec.weights_name,
        "weights_sha256": spec.weights_sha256,
        "weights_verified": spec.weights_verified,
        "emulated": spec.emulated,
        "note": spec.note,
        "rois": list(run.rois),
        "sigma_mm": run.sigma_mm,
        "mask": run.mask,
        "average": run.average,
        "center_crop": run.center_crop,
        "space": encoder.bundle.space,
        "subjects": list(run.spatial.subject_names) if subjects else [],
        "format": output_format,
        **movies,
    }


def predict_images(
    encoder: Encoder,
    sources: Sequence[Source],
    record: RunRecord,
    layout: Layout,
    settings: RunSettings,
    *,
    subjects: bool = False,
    progress: bool = True,
) -> RunSummary:
    """Predict image files and write a volume for each.

    Parameters
    ----------
    encoder : Encoder
    sources : sequence of Source
        Image files.
    record : RunRecord
        Of the output folder. What it holds and can verify is not predicted again.
    layout : Layout
        Names the files.
    settings : RunSettings
        As for `Encoder.predict`.
    subjects : bool
        Whether to write each subject's smoothed map, too.
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
        if record.knows(source.name) and record.is_done(source.name, source_digest(source)):
            summary.kept.append(source.name)
        else:
            pending.append(source)
    if not pending:
        return summary
    batches: list[FeatureBatch] = []
    with track("Predicting", len(pending), "images", enabled=progress) as advance:

        def fail(failure: Failure) -> None:
            summary.failures.append(failure)
            record.fail(failure.name, str(failure.error))
            advance(1)

        writer: VolumeWriter | None = None
        stream = encoder.stream(pending, on_failure=fail, on_batch=batches.append, **settings)
        for part in stream:
            digests = batches[-1].sha256
            batches.clear()
            writer = writer or VolumeWriter(part.mask, part.affine)
            for index, name in enumerate(part.names):
                files = _write(part, index, writer, record.folder, layout, subjects)
                record.add(name, digests[index], files)
                summary.done.append(name)
                advance(1)
    return summary


def check_targets(folder: Path, sources: Sequence[Source], layout: Layout) -> None:
    """Refuse to write over files that no earlier run is known to have made.

    Raises
    ------
    OptionError
        Naming the first such file.
    """
    if (folder / RECORD_NAME).exists():
        return
    for source in sources:
        files = [layout.volume(source.name)]
        if source.kind == "movie":
            files += [layout.timeseries(source.name), layout.sidecar(source.name)]
        target = next((folder / file for file in files if (folder / file).exists()), None)
        if target is not None:
            message = (
                f"{target}: expected no file of this name; there is one. Use --overwrite to "
                "replace it, or another folder."
            )
            raise OptionError(message)


def _write(
    part: Prediction, index: int, writer: VolumeWriter, folder: Path, layout: Layout, subjects: bool
) -> dict[str, str]:
    name = part.names[index]
    file = layout.volume(name)
    files = {file: writer.write(folder / file, part.group[index])}
    if subjects:
        for subject, maps in zip(part.subject_names, part.subjects, strict=True):
            file = layout.volume(name, subject)
            files[file] = writer.write(folder / file, maps[index])
    return files


def source_digest(source: Source) -> str | None:
    """Return the SHA-256 of an input file, or None if it cannot be read."""
    try:
        return sha256_of(source.path)
    except OSError:
        return None

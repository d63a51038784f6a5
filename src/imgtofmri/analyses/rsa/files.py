"""A comparison of geometry to files: model matrices, tables, figures and the record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from imgtofmri.analyses.rsa.analysis import GeometryComparison
from imgtofmri.analyses.rsa.figures import plot_comparison, plot_mds, plot_rdms
from imgtofmri.encoder import Prediction
from imgtofmri.encoder.controls import ENCODER, describe_controls
from imgtofmri.figures.style import save_figure
from imgtofmri.files import atomic_path
from imgtofmri.outputs import OutputFolder
from imgtofmri.rsa import RDMs
from imgtofmri.stimuli import Frame, Pixels, Source, read_images
from imgtofmri.tables import write_table

MAX_THUMBNAILS = 120
"""With more images thumbnails hide each other."""


def save_geometry(
    result: GeometryComparison, folder: OutputFolder | str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Write a comparison of geometry and the record of what made it.

    Parameters
    ----------
    result : GeometryComparison
        From `compare_geometry`.
    folder : OutputFolder or path
        Where to; a path is made when missing.
    overwrite : bool
        Replace what an earlier comparison wrote there.

    Returns
    -------
    list of Path
        ``models.npz``, ``models.*``, ``mds.png``; with measured matrices ``rsa.tsv``,
        ``pairs.tsv``, ``subjects.tsv`` and ``comparison_NAME.*`` for each set; and ``rsa.json``.

    Raises
    ------
    OptionError
        If the folder holds an earlier comparison.
    OutputError
        If it cannot be written to.
    """
    target = OutputFolder.of(folder, "rsa", overwrite=overwrite)
    prediction = result.prediction
    note = prediction.provenance.note
    sources = {name: rdms.source for name, rdms in result.measured.items() if rdms.source}
    with target.begin(
        {
            "measured": {name: str(source) for name, source in sources.items()},
            "models": {layer.label: layer.describe() for layer in result.layers},
            **result.options,
        },
        prediction.provenance.to_dict(),
        describe_controls(result.controls),
        sources.values(),
    ):
        target.used(prediction.names, prediction.sha256, prediction.sources)
        for failure in result.failures:
            target.fail(failure.name, str(failure.error))
        joined = _joined(result.models)
        files = [_save_matrices(joined, target.path / "models.npz")]
        files += save_figure(plot_rdms(joined), target.path / "models", note=note)
        mds = plot_mds(result.models[ENCODER], _thumbnails(prediction))
        files += save_figure(mds, target.path / "mds", ("png",), note=note)
        if result.compared:
            for kind, table in result.tables().items():
                files.append(write_table(table, target.path / f"{kind}.tsv"))
        for name, compared in result.compared.items():
            others = {model: each for model, each in compared.items() if model != ENCODER}
            models = [model for model in others if result.is_model(model)]
            figure = plot_comparison(compared[ENCODER], others, models)
            files += save_figure(figure, target.path / f"comparison_{name}", note=note)
        target.wrote(*files)
    return [*files, target.record]


def _joined(models: Mapping[str, RDMs]) -> RDMs:
    """Return all models' matrices as one stack: the encoder's under the ROIs' own names."""
    own = models[ENCODER]
    names = [
        roi if model in (ENCODER, roi) else f"{roi} {model}"
        for model, rdms in models.items()
        for roi in rdms.names
    ]
    stacked = np.concatenate([rdms.dissimilarities for rdms in models.values()])
    return RDMs(stacked, own.conditions, tuple(names), own.measure)


def _save_matrices(rdms: RDMs, path: Path) -> Path:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            dissimilarities=rdms.dissimilarities,
            conditions=np.array(rdms.conditions),
            names=np.array(rdms.names),
        )
    return path


def _thumbnails(prediction: Prediction) -> dict[str, Pixels]:
    """Read the images that are files, if they are not too many."""
    named = zip(prediction.names, prediction.sources, strict=True)
    sources = [Source(path, name, "image") for name, path in named if path is not None]
    if len(sources) > MAX_THUMBNAILS:
        return {}
    frames = read_images(sources, size=64)
    return {frame.name: frame.pixels for frame in frames if isinstance(frame, Frame)}

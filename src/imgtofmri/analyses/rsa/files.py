"""A comparison of geometry to files: model matrices, tables, figures and the record."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imgtofmri.analyses.rsa.analysis import GeometryComparison
from imgtofmri.encoder.controls import describe_controls
from imgtofmri.figures.style import save_figure
from imgtofmri.files import atomic_path
from imgtofmri.outputs import OutputFolder
from imgtofmri.rsa import RDMs
from imgtofmri.tables import write_table


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
        files = [_save_matrices(result.stacked(), target.path / "models.npz")]
        files += save_figure(result.plot_models(), target.path / "models", note=note)
        files += save_figure(result.plot_mds(), target.path / "mds", ("png",), note=note)
        if result.compared:
            for kind, table in result.tables().items():
                files.append(write_table(table, target.path / f"{kind}.tsv"))
        for name in result.compared:
            files += save_figure(result.plot(name), target.path / f"comparison_{name}", note=note)
        target.wrote(*files)
    return [*files, target.record]


def _save_matrices(rdms: RDMs, path: Path) -> Path:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            dissimilarities=rdms.dissimilarities,
            conditions=np.array(rdms.conditions),
            names=np.array(rdms.names),
        )
    return path

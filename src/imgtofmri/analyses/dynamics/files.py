"""A comparison of dynamics to files: each figure, the table behind it, and the record."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imgtofmri.analyses.dynamics.analysis import DynamicsAnalysis
from imgtofmri.analyses.dynamics.figures import (
    plot_agreement,
    plot_boundary_averages,
    plot_similarity,
)
from imgtofmri.figures.style import save_figure
from imgtofmri.files import sha256_of
from imgtofmri.outputs import OutputFolder
from imgtofmri.tables import write_table
from imgtofmri.timeseries import HrfLike


def save_dynamics(
    result: DynamicsAnalysis, folder: OutputFolder | str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Write all figures, tables and the record of a comparison.

    Parameters
    ----------
    result : DynamicsAnalysis
        From `compare_movie` or `analyse_movie`.
    folder : OutputFolder or path
        Where to; a path is made when missing.
    overwrite : bool
        Replace the files of an earlier comparison there.

    Returns
    -------
    list of Path
        ``summary.tsv``, ``agreement.*``, ``boundaries.*`` (with boundaries),
        ``similarity_roi-ROI.*`` for each region, ``dynamics.json``.

    Raises
    ------
    OptionError
        If the folder holds an earlier comparison.
    OutputError
        If it cannot be written to.
    """
    target = OutputFolder.of(folder, "dynamics", overwrite=overwrite)
    _clear(target)
    first = result.regions[0]
    starts = result.boundaries
    settings = {
        **result.options,
        "boundaries_from": result.options["boundaries"],
        "boundaries": None if starts is None else starts.tolist(),
        "rate_hz": result.rate_hz,
        "run": {"tr_s": result.tr_s, **asdict(result.run), "hrf": _plain(result.run.hrf)},
        "models": list(first.models),
        "regions": {region.roi: region.n_voxels for region in result.regions},
        "n_subjects": first.n_subjects,
        "n_volumes": first.n_timepoints,
    }
    target.begin(settings, result.provenance.to_dict(), result.baselines, result.measured)
    if result.movie is not None:
        target.used([result.movie.name], [result.movie.sha256], [result.movie.path])
    for name, path in result.features.items():
        target.used([name], [None if path is None else sha256_of(path)], [path])
    files = [
        write_table(table, target.path / f"{name}.tsv") for name, table in result.tables().items()
    ]
    figures = {"agreement": plot_agreement(result.regions, result.tr_s, starts)}
    if result.effects:
        figures["boundaries"] = plot_boundary_averages(result.effects, result.tr_s)
    for region in result.regions:
        figures[f"similarity_roi-{region.roi}"] = plot_similarity(region, result.tr_s, starts)
    for name, figure in figures.items():
        files += save_figure(figure, target.path / name)
    target.wrote(*files)
    target.close()
    return [*files, target.record]


def _clear(folder: OutputFolder) -> None:
    """Remove an earlier comparison: the record first, then the files it names."""
    if not folder.record.exists():
        return
    try:
        names = [entry["file"] for entry in json.loads(folder.record.read_text("utf-8"))["outputs"]]
    except (ValueError, LookupError, TypeError):
        names = []
    folder.record.unlink()
    for name in names:
        # A record that was tampered with must not reach outside its folder.
        if isinstance(name, str) and Path(name).name == name:
            (folder.path / name).unlink(missing_ok=True)


def _plain(hrf: HrfLike) -> Any:
    """Return a haemodynamic response as JSON can hold it."""
    if callable(hrf):
        return getattr(hrf, "__name__", repr(hrf))
    return hrf if isinstance(hrf, str) else np.asarray(hrf).tolist()

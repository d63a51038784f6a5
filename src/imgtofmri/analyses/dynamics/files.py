"""A movie's dynamics to files: each figure, the table behind it, and the record."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imgtofmri.analyses.dynamics.analysis import DynamicsAnalysis
from imgtofmri.analyses.dynamics.figures import (
    plot_agreement,
    plot_boundary_averages,
    plot_courses,
    plot_similarity,
    region_name,
    region_title,
)
from imgtofmri.analyses.dynamics.predicted import PredictedDynamics
from imgtofmri.figures.style import save_figure
from imgtofmri.files import sha256_of
from imgtofmri.outputs import OutputFolder
from imgtofmri.tables import write_table
from imgtofmri.timeseries import HrfLike


def save_dynamics(
    result: DynamicsAnalysis | PredictedDynamics,
    folder: OutputFolder | str | Path,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write all figures, tables and the record of a movie's dynamics.

    Parameters
    ----------
    result : DynamicsAnalysis or PredictedDynamics
        From `compare_movie` or `analyse_movie`; or, where nothing was measured, from
        `predict_dynamics` or `predicted_dynamics`.
    folder : OutputFolder or path
        Where to; a path is made when missing.
    overwrite : bool
        Replace the files of an earlier run there.

    Returns
    -------
    list of Path
        ``summary.tsv``, ``agreement.*``, ``boundaries.*`` (with boundaries), ``timecourses.*``,
        ``similarity_roi-ROI.*`` for each region, ``predicted.nii.gz`` with its sidecar,
        ``dynamics.json``. Where nothing was measured, ``timecourses.*``, ``events.tsv``,
        ``similarity_roi-ROI.*``, ``predicted.nii.gz`` with its sidecar, and the record.

    Raises
    ------
    OptionError
        If the folder holds an earlier run.
    OutputError
        If it cannot be written to.
    """
    target = OutputFolder.of(folder, "dynamics", overwrite=overwrite)
    settings = {
        **result.options,
        "boundaries_from": result.options["boundaries"],
        "rate_hz": result.rate_hz,
        "run": {"tr_s": result.tr_s, **asdict(result.run), "hrf": _plain(result.run.response)},
    }
    measured: tuple[Path, ...] = ()
    if isinstance(result, DynamicsAnalysis):
        settings |= _compared(result)
        measured = result.measured
    else:
        settings |= _predicted(result)
    with target.begin(settings, result.provenance.to_dict(), result.baselines, measured):
        if result.movie is not None:
            target.used([result.movie.name], [result.movie.sha256], [result.movie.path])
        for name, path in result.features.items():
            target.used([name], [None if path is None else sha256_of(path)], [path])
        files = [
            write_table(table, target.path / f"{name}.tsv")
            for name, table in result.tables().items()
        ]
        for name, figure in _figures(result).items():
            files += save_figure(figure, target.path / name, note=result.provenance.note)
        named = {} if result.movie is None else {"Stimulus": result.movie.name}
        files += result.maps.save(target.path, named)
        target.wrote(*files)
    return [*files, target.record]


def _compared(result: DynamicsAnalysis) -> dict[str, Any]:
    """Return what a record says of a comparison."""
    first, starts = result.regions[0], result.boundaries
    return {
        "boundaries": None if starts is None else starts.tolist(),
        "models": list(first.models),
        "regions": {region.roi: region.n_voxels for region in result.regions},
        "n_subjects": first.n_subjects,
        "n_volumes": first.n_timepoints,
        "tested": first.is_tested,
        "interval": first.brains.shape[1] > 0,
    }


def _predicted(result: PredictedDynamics) -> dict[str, Any]:
    """Return what a record says of a prediction alone."""
    first = next(iter(result.similarity.values()))
    return {
        "boundaries": {roi: starts.tolist() for roi, starts in result.boundaries.items()},
        "models": list(first),
        "regions": list(result.similarity),
        "n_volumes": len(next(iter(first.values()))),
    }


def _figures(result: DynamicsAnalysis | PredictedDynamics) -> dict[str, Any]:
    """Draw all figures, by the names of their files."""
    figures = {"timecourses": plot_courses(result.courses)}
    if isinstance(result, PredictedDynamics):
        for roi, models in result.similarity.items():
            title = region_name(roi)
            figures[f"similarity_roi-{roi}"] = plot_similarity(
                models, result.tr_s, result.boundaries[roi], title
            )
        return figures
    starts = result.boundaries
    figures["agreement"] = plot_agreement(result.regions, result.tr_s, starts)
    if result.effects:
        figures["boundaries"] = plot_boundary_averages(result.effects, result.tr_s)
    for region in result.regions:
        figures[f"similarity_roi-{region.roi}"] = plot_similarity(
            region.similarity, result.tr_s, starts, region_title(region)
        )
    return figures


def _plain(hrf: HrfLike) -> Any:
    """Return a haemodynamic response as JSON can hold it."""
    if callable(hrf):
        return getattr(hrf, "__name__", repr(hrf))
    return hrf if isinstance(hrf, str) else np.asarray(hrf).tolist()

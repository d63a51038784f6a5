"""A comparison of dynamics to files: each figure as PNG and SVG, the table behind it as TSV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from imgtofmri import __version__
from imgtofmri.analyses.dynamics import (
    DynamicsAnalysis,
    agreement_table,
    boundary_table,
    similarity_table,
    summary_table,
)
from imgtofmri.analyses.dynamics.figures import (
    plot_agreement,
    plot_boundary_averages,
    plot_similarity,
)
from imgtofmri.figures.style import FORMATS, save_figure
from imgtofmri.files import atomic_path
from imgtofmri.tables import write_table

__all__ = ["RECORD_NAME", "write_dynamics"]

RECORD_NAME = "dynamics.json"
"""The record of a comparison, written last: where it is, all other files are."""


def write_dynamics(
    analysis: DynamicsAnalysis,
    folder: str | Path,
    *,
    record: Mapping[str, Any] | None = None,
    formats: Sequence[str] = FORMATS,
) -> tuple[Path, ...]:
    """Write all figures, tables and the record of a comparison.

    Parameters
    ----------
    analysis : DynamicsAnalysis
        From `analyse_movie`.
    folder : path
        Where to; made when missing. Files of an earlier comparison are replaced.
    record : dict, optional
        What made the analysis, for the record: encoder, weights, options.
    formats : sequence of str, default ("png", "svg")
        Of figures.

    Returns
    -------
    tuple of Path
        The files: ``summary.tsv``, ``agreement.*``, ``boundaries.*`` (with boundaries),
        ``similarity_roi-ROI.*`` for each region, ``dynamics.json``.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    target = Path(folder)
    tr_s, boundaries = analysis.settings.tr_s, analysis.boundaries
    _clear(target)
    files = [write_table(summary_table(analysis.regions), target / "summary.tsv")]
    table = agreement_table(analysis.regions, tr_s, boundaries)
    files.append(write_table(table, target / "agreement.tsv"))
    figure = plot_agreement(analysis.regions, tr_s, boundaries)
    files += save_figure(figure, target / "agreement", formats)
    if analysis.effects:
        files.append(write_table(boundary_table(analysis.effects, tr_s), target / "boundaries.tsv"))
        figure = plot_boundary_averages(analysis.effects, tr_s)
        files += save_figure(figure, target / "boundaries", formats)
    for region in analysis.regions:
        stem = target / f"similarity_roi-{region.roi}"
        files.append(write_table(similarity_table(region), stem.with_name(f"{stem.name}.tsv")))
        files += save_figure(plot_similarity(region, tr_s, boundaries), stem, formats)
    path = target / RECORD_NAME
    with atomic_path(path) as temporary:
        text = json.dumps(_record(analysis, record or {}, files), indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return (*files, path)


def _clear(folder: Path) -> None:
    """Remove an earlier comparison: the record first, then the files it names."""
    path = folder / RECORD_NAME
    if not path.exists():
        return
    try:
        names = json.loads(path.read_text("utf-8"))["files"]
    except (ValueError, KeyError, TypeError):
        names = []
    path.unlink()
    for name in names:
        # A record that was tampered with must not reach outside its folder.
        if isinstance(name, str) and Path(name).name == name:
            (folder / name).unlink(missing_ok=True)


def _record(
    analysis: DynamicsAnalysis, record: Mapping[str, Any], files: Sequence[Path]
) -> dict[str, Any]:
    """Gather what another person needs to know of a comparison."""
    settings = {
        entry.name: _plain(getattr(analysis.settings, entry.name))
        for entry in fields(analysis.settings)
    }
    first = analysis.regions[0]
    boundaries = analysis.boundaries
    return {
        "imgtofmri_version": __version__,
        **{name: _plain(value) for name, value in record.items()},
        "run": settings,
        "models": list(first.models),
        "regions": {region.roi: region.n_voxels for region in analysis.regions},
        "n_subjects": first.n_subjects,
        "n_volumes": first.n_timepoints,
        "n_subject_samples": int(first.brains.shape[1]),
        "boundaries": None if boundaries is None else boundaries.tolist(),
        "files": [path.name for path in files],
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(getattr(value, "__name__", value))

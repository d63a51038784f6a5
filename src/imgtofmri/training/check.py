"""What a study would read, opened file by file before anything is fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgtofmri import spaces
from imgtofmri.exceptions import ImgToFmriError
from imgtofmri.measured import design_run, read_mask, read_stimulus_rows
from imgtofmri.spaces import Grid
from imgtofmri.training.stimuli import stimulus_paths, study_features
from imgtofmri.training.study import Study, SubjectSettings, is_awaited, read_study
from imgtofmri.training.subjects import (
    Geometry,
    load_places,
    load_subject,
    read_geometry,
    read_rows,
    run_rows,
    said_grid,
    template_grid,
)


@dataclass(frozen=True, slots=True)
class FileReport:
    """What came of one thing that a study reads.

    Attributes
    ----------
    what : str
        The file, or several that are one step of the work.
    found : str
        What it holds; empty where it cannot be used.
    problem : str
        Why it cannot be used.
    is_awaited : bool
        Whether it is a download that is still to be fetched.
    """

    what: str
    found: str = ""
    problem: str = ""
    is_awaited: bool = False


def check_files(
    study: Study | str | Path, geometry: Geometry = read_geometry
) -> Iterator[FileReport]:
    """Open what a fit would read, and say of each file what it holds or what is wrong.

    All is read and compared as for a fit, but for two things that take long: the values of runs, of
    which headers, sidecars, events and confounds are modelled alone, and pictures, which need only
    be there.

    Parameters
    ----------
    study : Study or path
        The study, or its file.
    geometry : callable
        As for `fit_study`.

    Yields
    ------
    FileReport
        In the order of the study.

    Raises
    ------
    OptionError
        If the study's file is not valid.

    Examples
    --------
    >>> for report in check_files("study.toml"):  # doctest: +SKIP
    ...     print(report.what, report.found or report.problem)
    """
    if not isinstance(study, Study):
        study = read_study(study)
    template: Grid | None = None
    if study.template.grid is not None:
        report, template = _try(study.template.grid, lambda: template_grid(study), _grid_text)
        yield report
    else:
        template = spaces.MNI152_2MM
    stimuli = study.stimuli
    if stimuli.table is not None:
        yield _try(
            stimuli.table,
            lambda: read_stimulus_rows(stimuli.table, stimuli.column, stimuli.fold_column),  # type: ignore[arg-type]
            lambda rows: f"{len(rows.names)} rows, {len(set(rows.names))} stimuli",
        )[0]
    tables: list[tuple[str, ...]] = []
    for subject in study.subjects:
        yield from _check_subject(study, subject, template, geometry, tables)
    names = [name for table in dict.fromkeys(tables) for name in table]
    if len(tables) < len(study.subjects):
        return
    if stimuli.features is not None:
        yield _try(
            stimuli.features.file,
            lambda: study_features(study, names, progress=False),
            lambda features: " x ".join(map(str, features.values.shape)) + " features",
        )[0]
    else:
        yield _try(
            stimuli.folder or study.path.parent,
            lambda: stimulus_paths(study, dict.fromkeys(names)),
            lambda paths: f"{len(paths)} stimuli",
        )[0]


def _check_subject(
    study: Study,
    subject: SubjectSettings,
    template: Grid | None,
    geometry: Geometry,
    tables: list[tuple[str, ...]],
) -> Iterator[FileReport]:
    for roi in subject.rois:
        for path in roi.masks.values():
            yield _try(
                path,
                lambda path=path, roi=roi: read_mask(  # type: ignore[misc]
                    path,
                    roi.value,
                    subject.line,
                    threshold=roi.threshold,
                    unoriented=said_grid(subject),
                ),
                lambda mask: f"{mask.n_voxels} voxels of {_grid_text(mask.grid)}",
            )[0]
    native = None
    if template is not None:
        way = subject.geometry or "same space"
        if subject.transform is not None and subject.transform.files:
            way = ", ".join(map(str, subject.transform.files))
        report, places = _try(
            way,
            lambda: load_places(study, subject, template, geometry),
            lambda found: f"{len(found[2].template)} template voxels reached",
        )
        yield report
        native = None if places is None else places[0]
    if subject.derivatives is not None:
        yield from _check_runs(study, subject, native, tables)
        return
    sources = [subject.responses, *(roi.responses for roi in subject.rois)]
    files = dict.fromkeys(source.file for source in sources if source is not None)
    awaited = [FileReport(str(file), is_awaited=True) for file in files if is_awaited(file)]
    yield from awaited
    table = subject.table or study.stimuli.table or study.stimuli.folder or study.path
    report, rows = _try(
        table, lambda: read_rows(study, subject), lambda found: f"{len(found.names)} rows"
    )
    yield report
    if rows is None or native is None or template is None or awaited:
        return
    tables.append(rows.names)
    yield _try(
        ", ".join(map(str, files)),
        lambda: load_subject(study, subject, template, geometry),
        lambda data: ", ".join(
            f"{' x '.join(map(str, roi.responses.shape))} responses of {name}"
            for name, roi in data.rois.items()
        ),
    )[0]


def _check_runs(
    study: Study, subject: SubjectSettings, native: Grid | None, tables: list[tuple[str, ...]]
) -> Iterator[FileReport]:
    said = subject.derivatives
    assert said is not None
    report, runs = _try(said.folder, said.find_runs, lambda found: f"{len(found)} runs")
    yield report
    if runs is None or native is None:
        return
    names: list[str] = []
    for run in runs:
        report, design = _try(
            run.bold,
            lambda run=run: design_run(  # type: ignore[misc]
                run, native, **said.model, unoriented=said_grid(subject)
            ),
            lambda found: (
                f"{found.weights.shape[1]} volumes, {len(found.names)} presentations"
                if found
                else "no presentation"
            ),
        )
        yield report
        if report.problem:
            return
        names += design.names if design else ()
    report, rows = _try(
        said.raw, lambda: run_rows(study, names), lambda found: f"{len(found.names)} presentations"
    )
    yield report
    if rows is not None:
        tables.append(rows.names)


def _grid_text(grid: Grid) -> str:
    x, y, z = grid.shape
    size = " x ".join(f"{edge:.3g}" for edge in grid.voxel_mm)
    return f"{x} x {y} x {z} voxels of {size} mm"


def _try(
    what: Path | str, read: Callable[[], Any], tell: Callable[[Any], str]
) -> tuple[FileReport, Any]:
    """Read something; return the report, and what was read or None."""
    if isinstance(what, Path) and is_awaited(what):
        return FileReport(str(what), is_awaited=True), None
    try:
        found = read()
    except ImgToFmriError as error:
        return FileReport(str(what), problem=str(error)), None
    return FileReport(str(what), tell(found)), found

"""`predict_into`: all that ``imgtofmri predict`` does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgtofmri.analyses.predict.images import RunSummary, predict_images
from imgtofmri.analyses.predict.movies import predict_movies
from imgtofmri.analyses.predict.points import write_points
from imgtofmri.analyses.predict.request import Inputs, Ready, Request, sources_of
from imgtofmri.analyses.predict.shards import predict_store, predict_task
from imgtofmri.analyses.predict.tasks import Task, find_task
from imgtofmri.encoder import Encoder, Predictor, Settings
from imgtofmri.encoder.saving import COMMAND, RECORD, TABLE, EvidenceWriter
from imgtofmri.encoder.storing import STORE
from imgtofmri.exceptions import OptionError
from imgtofmri.files import check_room, is_there
from imgtofmri.outputs import (
    BOUNDS,
    FormatName,
    Layout,
    OutputFolder,
    check_distinct,
    find_layout,
)
from imgtofmri.outputs.folder import PAGE
from imgtofmri.outputs.store import Store
from imgtofmri.outputs.store_plan import StoreDtype
from imgtofmri.outputs.volumes import least_bytes
from imgtofmri.report import MapRows, Preparation, write_report
from imgtofmri.stimuli import Frame, Source
from imgtofmri.stimuli.listed import names_of, of_kind
from imgtofmri.workers import connected

if TYPE_CHECKING:
    import pandas as pd


def predict_into(
    folder: OutputFolder | str | Path,
    encoder: Encoder | str | Path,
    inputs: Inputs,
    settings: Settings | None = None,
    *,
    format: FormatName = "nifti",
    dtype: StoreDtype = "float32",
    rois_only: bool = False,
    subjects: bool = False,
    interval: float | None = None,
    min_accuracy: float | None = None,
    share_of_ceiling: bool = False,
    rate_hz: float = 2.0,
    space: str | None = None,
    transform: str | Path | None = None,
    at: pd.DataFrame | str | Path | None = None,
    shard: str | tuple[int, int] | None = None,
    workers: int = 1,
    scheduler: str = "",
    resume: bool = False,
    overwrite: bool = False,
    report: bool = False,
    progress: bool = True,
    **changes: Any,
) -> RunSummary:
    """Predict images and movies into a folder, with a record from which a run can be resumed.

    Parameters
    ----------
    folder : str, Path or OutputFolder
        Where to write; one that is claimed already is taken as it is.
    encoder : Encoder, str or Path
        One that is loaded, or what `imgtofmri.load_encoder` takes; it is loaded when inputs are
        found and the folder can be used.
    inputs : path, iterable of paths, or SourceList
        Image files, movies, folders and globs, as `imgtofmri.stimuli.find_sources` takes them; or
        a list that `imgtofmri.stimuli.read_list` read.
    settings, **changes
        As for `Encoder.predict`.
    format : {"nifti", "bids", "zarr"}
        A file for each map, plainly named or as a BIDS derivative dataset; or all in one store,
        ``predictions.zarr``, which `Prediction.open` reads.
    dtype : {"float32", "float16"}
        How a store keeps maps. The greatest errors of float16 are recorded.
    rois_only : bool
        Keep no maps, only the means of ROIs, in a store and as tables.
    subjects : bool
        Write each subject's map, too.
    interval : float, optional
        Write the bounds of a prediction interval of this level, too.
    min_accuracy : float, optional
        Leave out voxels whose cross-validated r is below this; see `Encoder.restricted`.
    share_of_ceiling : bool
        ``min_accuracy`` is of r divided by the noise ceiling.
    rate_hz : float
        Frames a second that are taken of a movie.
    space : str, optional
        ``"fsaverage5"`` or ``"fsaverage"``: write each map on that surface, too, as GIFTI; or
        another template's name: write all in that space, see `Encoder.in_space`.
    transform : path, optional
        The transform to that template.
    at : pandas.DataFrame or path, optional
        A table of coordinates; their values are written to ``points.tsv``. See
        `Prediction.at_table`.
    shard : str or (int, int), optional
        Do one task of several that make a store together, such as ``"3/8"``; ``"auto"`` as the
        variables of a job array say; see `imgtofmri.analyses.predict.tasks.find_task`. Tasks need
        the same inputs in the same order; `merge_shards` ends the run.
    workers : int
        How many processes of this machine make a store.
    scheduler : str
        The address of a Dask scheduler whose workers make a store.
    resume : bool
        Do what an earlier run left, and verify what it made.
    overwrite : bool
        Do all again.
    report : bool
        Write ``report.html``, too: the results as one page. Not of a store.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    RunSummary
        Inputs that cannot be used are its failures, and the rest is predicted. Where none can be
        found, nothing is written.

    Raises
    ------
    OptionError
        If an option is not valid, or the folder holds results and neither ``resume`` nor
        ``overwrite`` says what to do with them.
    OutputError
        If a file cannot be written.
    """
    request = Request(
        format=format,
        dtype=dtype,
        rois_only=rois_only,
        subjects=subjects,
        interval=interval,
        min_accuracy=min_accuracy,
        share_of_ceiling=share_of_ceiling,
        rate_hz=rate_hz,
        space=space,
        transform=transform,
        at=at,
    )
    task = None if shard is None else find_task(shard)
    _check_spreading(request, task, workers, scheduler, overwrite)
    points = request.points()
    recipe = request.recipe(encoder, Settings.of(settings, **changes))
    if isinstance(folder, OutputFolder):
        output = folder
    else:
        output = OutputFolder(Path(folder), COMMAND, RECORD)
        # Tasks go on where others, or they themselves, have begun.
        resuming = resume or task is not None
        output.claim(overwrite=overwrite, resume=resuming, resumable=True)
    sources, failures = sources_of(inputs)
    if not sources:
        return RunSummary(failures=failures)
    ready = Ready.of(request, recipe, sources, failures, progress)
    if not request.stores:
        return _write_files(ready, output, points, overwrite, report, progress)
    if not overwrite:
        check_no_store(output)
    if task is not None:
        return predict_task(
            ready.predictor,
            sources,
            failures,
            output,
            ready.written,
            task,
            request.store_options,
            progress=progress,
        )
    with (
        connected(scheduler) if scheduler else nullcontext() as client,
        output.begin(ready.written, ready.predictor.provenance.to_dict()),
    ):
        for failure in failures:
            output.fail(failure.name, str(failure.error))
        summary = predict_store(
            ready.predictor,
            sources,
            output,
            ready.written,
            request.store_options,
            recipe=recipe,
            workers=workers,
            client=client,
            progress=progress,
        )
    return replace(summary, failures=[*failures, *summary.failures])


def _write_files(
    ready: Ready,
    output: OutputFolder,
    points: pd.DataFrame | None,
    overwrite: bool,
    report: bool,
    progress: bool,
) -> RunSummary:
    """Write a file for each map."""
    asked, predictor, sources = ready.request, ready.predictor, ready.sources
    spatial, bundle = predictor.spatial, ready.encoder.bundle
    layout = find_layout(asked.format, bundle.space, asked.interval is not None, asked.rate_hz)
    bounded = asked.interval is not None
    check_distinct(layout, names_of(sources), ready.people, bounded)
    if not overwrite:
        check_targets(output, sources, layout)
    images, movies = of_kind(sources, "image"), of_kind(sources, "movie")
    affine = bundle.template.affine
    n_maps = 1 + len(ready.people) + (len(BOUNDS) if bounded else 0)
    n_voxels = int(spatial.mask.sum())

    def check_disk(n_images: int) -> None:
        check_room(output.record, least_bytes(n_images * n_maps, n_voxels))

    if not (output.resumes or overwrite):
        check_disk(len(images))
    chosen: dict[str, Any] = {
        "subjects": asked.subjects,
        "interval": asked.interval,
        "surface": asked.surface,
        "progress": progress,
    }
    with output.begin(ready.written, predictor.provenance.to_dict()):
        if overwrite:
            Store.remove(output.path / STORE)
        if output.resumes:
            check_disk(sum(not output.knows(name) for name in names_of(images)))
        for failure in ready.failures:
            output.fail(failure.name, str(failure.error))
        gathered = MapRows(spatial.mask, affine, len(images)) if report else None
        prepared = None if gathered is None else Preparation(gathered, bundle.space)
        evidence = EvidenceWriter(output, layout, spatial, affine)
        parts = (
            predict_images(predictor, images, output, layout, evidence, gathered, **chosen),
            predict_movies(predictor, movies, output, layout, rate_hz=asked.rate_hz, **chosen),
        )
        if output.names:
            evidence.write()
        others = [RECORD, TABLE, PAGE]
        if points is not None and output.names:
            tables = write_points(points, predictor, output, layout, ready.people)
            output.wrote(*tables)
            others += [table.name for table in tables]
        output.wrote(*layout.describe(output.path, output.names, others))
    if gathered is not None and prepared is not None and output.names:
        _look_again(gathered, images, output, predictor)
        prepared.wait()
        write_report(output.record, gathered=gathered)
    return RunSummary(
        [name for part in parts for name in part.done],
        [name for part in parts for name in part.kept],
        [*ready.failures, *(failure for part in parts for failure in part.failures)],
    )


def _look_again(
    gathered: MapRows, images: Sequence[Source], output: OutputFolder, predictor: Predictor
) -> None:
    """Look at pictures that an earlier run predicted, so that its page is as that of one run."""
    missing = set(gathered.unseen([s.name for s in images if output.knows(s.name)]))
    sources = (source for source in images if source.name in missing)
    for picture in predictor.extractor.pictures(sources):
        if isinstance(picture, Frame):
            gathered.look(picture)


def _check_spreading(
    request: Request, task: Task | None, workers: int, scheduler: str, overwrite: bool
) -> None:
    """Refuse options of several processes that do not go with the others."""
    if workers < 1:
        message = f"workers must be 1 or more; got {workers}. Leave it out for this process alone."
        raise OptionError(message, "workers")
    given = {"shard": task is not None, "workers": workers > 1, "scheduler": bool(scheduler)}
    asked = [name for name, is_given in given.items() if is_given]
    if len(asked) > 1:
        message = (
            f"{asked[0]} says who does the work, and so does `{asked[1]}`; got both. Leave one out."
        )
        raise OptionError(message, asked[0])
    if asked and not request.stores:
        message = (
            f"{asked[0]} needs a store, of which several processes each write parts; got the "
            f"format {request.format}. Use the format zarr: `imgtofmri export` writes its maps in "
            "the other formats."
        )
        raise OptionError(message, asked[0])
    if task is not None and overwrite:
        message = (
            "shard goes on where other tasks are at work; got `overwrite`, which would remove what "
            "they made. Leave it out, and remove the folder if all shall be done again."
        )
        raise OptionError(message, "shard")


def check_no_store(folder: OutputFolder) -> None:
    """Refuse a store that no earlier run of the folder is known to have made.

    Raises
    ------
    OptionError
    """
    if (folder.path / STORE).exists() and not folder.record.exists():
        message = (
            f"{folder.path / STORE}: expected nothing of this name; there is something, and no "
            f"{folder.record.name} beside it. Use `overwrite` to replace it, or another folder."
        )
        raise OptionError(message)


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
        is_movie = source.kind == "movie"
        files = [layout.volume(source.name, movie=is_movie)]
        if is_movie:
            files += [layout.timeseries(source.name), layout.sidecar(source.name)]
        target = next((folder.path / file for file in files if is_there(folder.path / file)), None)
        if target is not None:
            message = (
                f"{target}: expected no file of this name; there is one. Use `overwrite` to "
                "replace it, or another folder."
            )
            raise OptionError(message)

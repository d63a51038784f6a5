"""`predict_into`: all that ``imgtofmri predict`` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgtofmri.analyses.predict.images import RunSummary, predict_images
from imgtofmri.analyses.predict.movies import predict_movies
from imgtofmri.analyses.predict.points import write_points
from imgtofmri.analyses.predict.stores import check_store_options, predict_store
from imgtofmri.encoder import Encoder, Settings, load_encoder
from imgtofmri.encoder.points import read_points
from imgtofmri.encoder.prediction import check_interval
from imgtofmri.encoder.saving import (
    COMMAND,
    PAGE,
    RECORD,
    TABLE,
    EvidenceWriter,
    output_settings,
)
from imgtofmri.encoder.storing import STORE
from imgtofmri.encoder.surface import MESHES, check_mesh
from imgtofmri.exceptions import OptionError
from imgtofmri.outputs import FormatName, Layout, OutputFolder, check_distinct, find_layout
from imgtofmri.outputs.layouts import check_format
from imgtofmri.outputs.store_plan import StoreDtype
from imgtofmri.report import MapRows, write_report
from imgtofmri.stimuli import Failure, Source, SourceList, check_rate, find_sources

if TYPE_CHECKING:
    import pandas as pd


def predict_into(
    folder: OutputFolder | str | Path,
    encoder: Encoder | str | Path,
    inputs: str | Path | Iterable[str | Path] | SourceList,
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
    check_format(format)
    if share_of_ceiling and min_accuracy is None:
        message = (
            "share_of_ceiling needs `min_accuracy`, which it explains; got none. Add a "
            "`min_accuracy` of 0.5, for example."
        )
        raise OptionError(message, "share_of_ceiling")
    check_rate(rate_hz)
    surface = space if space in MESHES else ""
    _check_space(format, space, transform)
    check_store_options(format, dtype, rois_only, surface, at)
    points = None if at is None else read_points(at)
    if isinstance(folder, OutputFolder):
        output = folder
    else:
        output = OutputFolder(Path(folder), COMMAND, RECORD)
        output.claim(overwrite=overwrite, resume=resume, resumable=True)
    sources, failures = _sources_of(inputs)
    if not sources:
        return RunSummary(failures=failures)
    loaded = encoder if isinstance(encoder, Encoder) else load_encoder(encoder, progress)
    if min_accuracy is not None:
        loaded = loaded.restricted(min_accuracy, share_of_ceiling)
    if surface:
        check_mesh(surface, loaded.bundle.space)
    elif space is not None:
        loaded = loaded.in_space(space, transform)
    predictor = loaded.predictor(settings, **changes)
    spatial = predictor.spatial
    if interval is not None:
        check_interval(predictor.settings.average, spatial.residual_variance, interval)
    names = spatial.subject_names if subjects else ()
    has_movies = any(source.kind == "movie" for source in sources)
    if format == "zarr" or rois_only:
        if not overwrite:
            check_no_store(output)
        written = output_settings("zarr", names, interval, rate_hz if has_movies else None)
        written |= {"dtype": dtype, "rois_only": rois_only}
        with output.begin(written, predictor.provenance.to_dict()):
            for failure in failures:
                output.fail(failure.name, str(failure.error))
            summary = predict_store(
                predictor,
                sources,
                output,
                written,
                subjects=subjects,
                interval=interval,
                rate_hz=rate_hz,
                dtype=dtype,
                rois_only=rois_only,
                progress=progress,
            )
        return replace(summary, failures=[*failures, *summary.failures])
    layout = find_layout(format, loaded.bundle.space, interval is not None, rate_hz)
    check_distinct(layout, [source.name for source in sources], names, interval is not None)
    if not overwrite:
        check_targets(output, sources, layout)
    images = [source for source in sources if source.kind == "image"]
    movies = [source for source in sources if source.kind == "movie"]
    asked = output_settings(format, names, interval, rate_hz if has_movies else None, surface)
    affine = loaded.bundle.template.affine
    chosen: dict[str, Any] = {"subjects": subjects, "interval": interval, "progress": progress}
    chosen["surface"] = surface
    with output.begin(asked, predictor.provenance.to_dict()):
        for failure in failures:
            output.fail(failure.name, str(failure.error))
        gathered = MapRows(spatial.mask, affine, len(images)) if report else None
        evidence = EvidenceWriter(output, layout, spatial, affine)
        parts = (
            predict_images(predictor, images, output, layout, evidence, gathered, **chosen),
            predict_movies(predictor, movies, output, layout, rate_hz=rate_hz, **chosen),
        )
        if output.names:
            evidence.write()
        others = [RECORD, TABLE, PAGE]
        if points is not None and output.names:
            tables = write_points(points, predictor, output, layout, names)
            output.wrote(*tables)
            others += [table.name for table in tables]
        output.wrote(*layout.describe(output.path, output.names, others))
    if report and output.names:
        write_report(output.record, gathered=gathered)
    return RunSummary(
        [name for part in parts for name in part.done],
        [name for part in parts for name in part.kept],
        [*failures, *(failure for part in parts for failure in part.failures)],
    )


def _sources_of(
    inputs: str | Path | Iterable[str | Path] | SourceList,
) -> tuple[Sequence[Source], list[Failure]]:
    if isinstance(inputs, SourceList):
        return inputs, list(inputs.failures)
    return find_sources([inputs] if isinstance(inputs, str | Path) else inputs)


def _check_space(format: FormatName, space: str | None, transform: str | Path | None) -> None:
    if transform is not None and (space is None or space in MESHES):
        message = (
            "transform needs `space`, the template to which it leads; got "
            f"{'none' if space is None else space}. Name the template."
        )
        raise OptionError(message, "transform")
    if space in MESHES and format != "nifti":
        message = (
            f"space {space} is written beside plain volumes; got the format {format}. Leave "
            "`format` out, or `space`."
        )
        raise OptionError(message, "space")


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
        target = next((folder.path / file for file in files if (folder.path / file).exists()), None)
        if target is not None:
            message = (
                f"{target}: expected no file of this name; there is one. Use `overwrite` to "
                "replace it, or another folder."
            )
            raise OptionError(message)

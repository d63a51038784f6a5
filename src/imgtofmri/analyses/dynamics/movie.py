"""A movie file, and measured ones, to dynamics; what can be refused is refused first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics.analysis import (
    DynamicsAnalysis,
    agreement_of,
    analyse_movie,
)
from imgtofmri.analyses.dynamics.boundaries import (
    PARTLY_CLOUDY,
    place_boundaries,
    read_boundaries,
)
from imgtofmri.analyses.dynamics.comparison import check_n_subjects
from imgtofmri.analyses.dynamics.models import check_baselines, check_features, movie_models
from imgtofmri.analyses.dynamics.predicted import (
    DEFAULT_TR_S,
    PredictedDynamics,
    check_n_run,
    predicted_dynamics,
)
from imgtofmri.analyses.dynamics.scan import (
    RunSettings,
    check_least,
    check_movie_length,
    filter_measured,
    group_course,
    to_volumes,
)
from imgtofmri.datasets.partly_cloudy import PARTLY_CLOUDY_SKIP_VOLUMES, fetch_partly_cloudy
from imgtofmri.encoder import Encoder, Settings, load_encoder
from imgtofmri.encoder.regions import roi_mask, roi_names
from imgtofmri.events import boundary_windows
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.measured.movie import MeasuredMovie, read_measured
from imgtofmri.measured.runs import read_runs
from imgtofmri.stimuli import Movie, check_rate
from imgtofmri.timeseries.checks import check_positive
from imgtofmri.timeseries.similarity import check_lags

Measured = MeasuredMovie | str | Path | Sequence[str | Path]
"""Measured responses, or the files or the name that they are found by."""


def compare_movie(
    encoder: Encoder | str | Path,
    movie: Movie | str | Path,
    measured: Measured,
    *,
    confounds: Sequence[str | Path] | None = None,
    tr_s: float | None = None,
    boundaries: ArrayLike | str | Path | None = None,
    baselines: Sequence[str] = ("luminance",),
    features: Mapping[str, ArrayLike | str | Path] | None = None,
    rate_hz: float = 2.0,
    run: RunSettings | None = None,
    band: int | None = None,
    min_lag_s: float = 0.0,
    keep_lag_means: bool | None = None,
    window: tuple[int, int] = (-5, 10),
    exclusion: int = 2,
    n_surrogates: int = 1000,
    n_brains: int = 100,
    n_resamples: int = 10,
    seed: int = 0,
    progress: bool = True,
    settings: Settings | None = None,
    **changes: Any,
) -> DynamicsAnalysis:
    """Compare a movie's predicted dynamics with measured ones, region by region.

    The movie takes longest: what can be refused without predicting it is refused before.

    Parameters
    ----------
    encoder : Encoder, id or path
        As `load_encoder` takes it.
    movie : path or Movie
        The movie that was shown.
    measured : MeasuredMovie, "partly-cloudy", path or sequence of paths
        A public data set; one .npz file of `save_measured`; or 4-D NIfTI files in template space,
        one for each subject.
    confounds : sequence of path, optional
        A table for each NIfTI file, in their order.
    tr_s : float, optional
        Repetition time of NIfTI files in seconds; by default what sidecars and headers say.
    boundaries : array of shape (n_boundaries,), int; text or path; optional
        As in `analyse_movie`; ``"partly-cloudy"`` are the published ones, the data set's default.
    baselines : sequence of {"luminance", "motion", "untrained"}
        As in `movie_models`.
    features : dict of str to array of shape (n_frames, n_features) or .npy file, optional
        Further models of the same frames.
    rate_hz : float
        Frames taken in each second.
    run : RunSettings, optional
        How a run is sampled, filtered and cut.
    band, min_lag_s, keep_lag_means, window, exclusion, n_surrogates, n_brains, n_resamples, seed
        As in `analyse_movie`; the seed is the untrained network's, too.
    progress : bool
        Whether to report progress on standard error.
    settings, **changes
        As for `Encoder.predict`, but that amplitude is kept by default (``average="mean"``).

    Returns
    -------
    DynamicsAnalysis
        `save_dynamics` writes it.

    Raises
    ------
    OptionError
        If an option is not valid.
    DataError, ShapeError
        If measured responses, boundaries or features cannot be used, or are not the movie's.
    StimulusError
        If the movie cannot be read.

    Examples
    --------
    >>> runs = [f"sub-{number:02d}_bold.nii.gz" for number in range(1, 13)]
    >>> compare_movie(encoder, "film.mp4", runs, boundaries="hmm:12")  # doctest: +SKIP
    """
    check_baselines(baselines)
    check_rate(rate_hz)
    for name, value, least in (
        ("n_surrogates", n_surrogates, 19),
        ("n_brains", n_brains, 1),
        ("n_resamples", n_resamples, 1),
        ("exclusion", exclusion, -1),
        ("band", band, 3),
    ):
        check_least(name, value, least)
    run = RunSettings() if run is None else run
    public = _is_public(measured)
    given = PARTLY_CLOUDY if boundaries is None and public else boundaries
    search = read_boundaries(given)
    arrays = {name: _features(values) for name, values in (features or {}).items()}
    loaded, chosen = _loaded(encoder, settings, changes, progress)
    film = Movie.of(movie)
    n_frames = film.n_frames(rate_hz)
    brains = _read(measured, loaded, chosen, confounds, tr_s, run, progress)
    if _are_runs(measured):
        # Compared with their files, of which pauses between volumes make another share.
        run = replace(run, slice_time_ref=None)
    run = _timed(run, brains)
    if run.skip_volumes is None:
        run = replace(run, skip_volumes=PARTLY_CLOUDY_SKIP_VOLUMES if public else 0)
    check_n_subjects(brains.n_subjects)
    course = group_course(filter_measured(brains.data, brains.tr_s, run), run)
    starts = place_boundaries(search, course)
    compared = agreement_of(run, brains.tr_s, band, min_lag_s, keep_lag_means)
    check_lags(len(course), compared.band, compared.min_lag)
    if starts is not None:
        boundary_windows(len(course), starts, window=window, exclusion=exclusion)
    check_features(arrays, baselines, n_frames)
    if n_frames is not None:
        check_movie_length(n_frames, rate_hz, brains.n_timepoints, brains.tr_s, run)
    models = movie_models(
        loaded,
        film,
        baselines=baselines,
        rate_hz=rate_hz,
        untrained_seed=seed,
        published_luminance=run.is_original,
        progress=progress,
        settings=chosen,
    )
    analysis = analyse_movie(
        models,
        brains,
        run=run,
        features=arrays,
        boundaries=starts,
        band=band,
        min_lag_s=min_lag_s,
        keep_lag_means=keep_lag_means,
        window=window,
        exclusion=exclusion,
        n_surrogates=n_surrogates,
        n_brains=n_brains,
        n_resamples=n_resamples,
        seed=seed,
    )
    text = str(given) if isinstance(given, str | Path) else None
    return replace(
        analysis,
        features=_files_of(features),
        options={**analysis.options, "boundaries": text},
    )


def predict_dynamics(
    encoder: Encoder | str | Path,
    movie: Movie | str | Path,
    *,
    tr_s: float = DEFAULT_TR_S,
    boundaries: ArrayLike | str | Path = "gsbs",
    baselines: Sequence[str] = ("luminance",),
    features: Mapping[str, ArrayLike | str | Path] | None = None,
    rate_hz: float = 2.0,
    run: RunSettings | None = None,
    seed: int = 0,
    progress: bool = True,
    settings: Settings | None = None,
    **changes: Any,
) -> PredictedDynamics:
    """Predict a movie's time courses, similarities over time and event boundaries.

    Nothing measured is needed.

    Parameters
    ----------
    encoder, movie, baselines, features, rate_hz, run, progress, settings, **changes
        As in `compare_movie`.
    tr_s : float, default 2.0
        Repetition time in seconds at which the prediction is sampled.
    boundaries : text, path or array of shape (n_boundaries,), int; default "gsbs"
        How to find boundaries in each region's prediction, or volumes, as in `analyse_movie`.
    seed : int
        Of the untrained network's weights.

    Returns
    -------
    PredictedDynamics
        `save_dynamics` writes it.

    Raises
    ------
    OptionError, DataError, ShapeError, StimulusError
        As `compare_movie`.

    Examples
    --------
    >>> predict_dynamics(encoder, "film.mp4", tr_s=1.5)  # doctest: +SKIP
    """
    check_baselines(baselines)
    check_rate(rate_hz)
    check_positive("tr_s", tr_s, "seconds")
    run = RunSettings() if run is None else run
    check_n_run(run)
    read_boundaries(boundaries)
    arrays = {name: _features(values) for name, values in (features or {}).items()}
    loaded, chosen = _loaded(encoder, settings, changes, progress)
    film = Movie.of(movie)
    n_frames = film.n_frames(rate_hz)
    check_features(arrays, baselines, n_frames)
    if n_frames is not None:
        # All that can be wrong with the run is wrong with an empty one.
        to_volumes(np.zeros((n_frames, 1)), np.arange(n_frames) / rate_hz, tr_s, run)
    models = movie_models(
        loaded,
        film,
        baselines=baselines,
        rate_hz=rate_hz,
        untrained_seed=seed,
        published_luminance=run.is_original,
        progress=progress,
        settings=chosen,
    )
    found = predicted_dynamics(models, tr_s, run=run, features=arrays, boundaries=boundaries)
    return replace(found, features=_files_of(features), options={**found.options, "seed": seed})


def _loaded(
    encoder: Encoder | str | Path,
    settings: Settings | None,
    changes: Mapping[str, Any],
    progress: bool,
) -> tuple[Encoder, Settings]:
    """Return the encoder and the settings, amplitude kept unless asked otherwise."""
    usual = {"average": "mean"} if settings is None else {}
    chosen = Settings.of(settings, **{**usual, **changes})
    loaded = encoder if isinstance(encoder, Encoder) else load_encoder(encoder, progress)
    return loaded, loaded.settings(chosen)


def _files_of(features: Mapping[str, ArrayLike | str | Path] | None) -> dict[str, Path | None]:
    """Return the file of each further model; None of an array."""
    return {
        name: Path(values) if isinstance(values, str | Path) else None
        for name, values in (features or {}).items()
    }


def _is_public(measured: Measured) -> bool:
    return not isinstance(measured, MeasuredMovie) and _files(measured) == [PARTLY_CLOUDY]


def _are_runs(measured: Measured) -> bool:
    """Tell whether measured responses are still to be cleaned."""
    if isinstance(measured, MeasuredMovie) or _is_public(measured):
        return False
    files = _files(measured)
    return not (len(files) == 1 and files[0].endswith(".npz"))


def _files(measured: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(name) for name in ([measured] if isinstance(measured, str | Path) else measured)]


def _read(
    measured: Measured,
    encoder: Encoder,
    settings: Settings,
    confounds: Sequence[str | Path] | None,
    tr_s: float | None,
    run: RunSettings,
    progress: bool,
) -> MeasuredMovie:
    """Return measured responses, those of runs in the voxels of the prediction's ROIs."""
    files = ["data"] if isinstance(measured, MeasuredMovie) else _files(measured)
    public = _is_public(measured)
    are_runs = _are_runs(measured)
    if not are_runs and (confounds or tr_s is not None):
        message = (
            f"`confounds` and `tr_s` go with NIfTI files; got them with {files[0]}, which is "
            "cleaned and has a TR. Leave them out."
        )
        raise OptionError(message)
    if isinstance(measured, MeasuredMovie):
        return measured
    if not are_runs and not public:
        return read_measured(files[0])
    spatial = encoder.spatial_model(settings)
    affine = encoder.bundle.template.affine
    masks: dict[str, NDArray[np.bool_]] = {}
    for roi in roi_names(spatial.roi_masks):
        masks[roi] = np.zeros(spatial.mask.shape, dtype=bool)
        masks[roi][spatial.mask] = roi_mask(spatial.roi_masks, roi)
    if public:
        return fetch_partly_cloudy(masks, affine, cutoff_s=run.cutoff_s or None, progress=progress)
    return read_runs(
        files,
        masks,
        affine,
        confounds=confounds,
        tr_s=tr_s,
        slice_time_ref=run.slice_time_ref,
        cutoff_s=run.cutoff_s or None,
        space=encoder.bundle.space,
        progress=progress,
    )


def _timed(run: RunSettings, brains: MeasuredMovie) -> RunSettings:
    """Sample the movie when the measured volumes were, refusing what contradicts them."""
    known = brains.slice_time_ref
    if run.slice_time_ref is None and known is None and not run.is_original:
        where = brains.sources[0] if brains.sources else "the measured responses"
        message = (
            f"{where}: what time of a volume its values are of must be known; got responses that "
            "do not say it. Give `slice_time_ref`: 0.5 where slices were corrected to the middle, "
            "0 where to the first, or not at all."
        )
        raise DataError(message)
    if run.slice_time_ref is None:
        return replace(run, slice_time_ref=known or 0.0)
    if known is not None and abs(known - run.slice_time_ref) > 0.1:
        message = (
            f"slice_time_ref must be that of the measured runs, {known:g}; got "
            f"{run.slice_time_ref:g}. Leave it out."
        )
        raise OptionError(message, "slice_time_ref")
    return run


def _features(given: ArrayLike | str | Path) -> NDArray[np.float32]:
    """Return features as they are, or read them from a file of one array."""
    if not isinstance(given, str | Path):
        return np.asarray(given, dtype=np.float32)
    try:
        with Path(given).open("rb") as stream:
            values = np.lib.format.read_array(stream, allow_pickle=False)
        return values.astype(np.float32)
    except (OSError, ValueError, EOFError) as error:
        message = (
            f"{given} must be an .npy file of numbers; got one that cannot be read ({error}). "
            "Write it with numpy.save."
        )
        raise DataError(message) from error

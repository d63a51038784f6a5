"""A movie's models and its measurement through every step, region by region."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics.boundaries import Search, place_boundaries, read_boundaries
from imgtofmri.analyses.dynamics.comparison import (
    Agreement,
    BoundaryEffects,
    ModelSeries,
    RegionDynamics,
    boundary_effects,
    compare_regions,
)
from imgtofmri.analyses.dynamics.maps import PredictedMaps, predicted_maps
from imgtofmri.analyses.dynamics.models import (
    LUMINANCE,
    MovieModels,
    check_features,
    usable_voxels,
)
from imgtofmri.analyses.dynamics.scan import (
    RunSettings,
    filter_measured,
    group_course,
    volume_operator,
)
from imgtofmri.analyses.dynamics.tables import (
    agreement_table,
    boundary_table,
    course_table,
    similarity_table,
    summary_table,
)
from imgtofmri.encoder import Provenance
from imgtofmri.exceptions import DataError, OptionError, check_choice
from imgtofmri.measured.movie import MeasuredMovie
from imgtofmri.stimuli import Movie
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

ALL_VOXELS = "all"
"""The region that is the union of the ROIs which prediction and measurement share."""


@dataclass(frozen=True, eq=False, repr=False)
class DynamicsAnalysis(Brief):
    """All that was compared, and what made it.

    Attributes
    ----------
    regions : tuple of RegionDynamics
        One for each region, all voxels first.
    effects : tuple of BoundaryEffects
        One for each region; empty without boundaries.
    boundaries : array of int, shape (n_boundaries,), or None
        Volumes at which events begin, counted after trimming.
    courses : pandas.DataFrame
        Predicted time courses, as `imgtofmri.analyses.dynamics.tables.course_table` gives them.
    maps : PredictedMaps
        Of the group, at the volumes.
    tr_s : float
        Repetition time in seconds.
    run : RunSettings
    provenance : Provenance
        Of the prediction.
    movie : Movie or None
    rate_hz : float or None
        Frames that were taken in each second.
    baselines : dict of str to dict of str to str
        What each baseline is.
    features : dict of str to (Path or None)
        Further models, and their files.
    measured : tuple of Path
        The measurement's files.
    options : dict
        As `analyse_movie` took them: boundaries, band, window, ...
    """

    regions: tuple[RegionDynamics, ...]
    effects: tuple[BoundaryEffects, ...]
    boundaries: NDArray[np.intp] | None
    courses: pd.DataFrame
    maps: PredictedMaps
    tr_s: float
    run: RunSettings
    provenance: Provenance
    movie: Movie | None
    rate_hz: float | None
    baselines: Mapping[str, Mapping[str, str]]
    features: Mapping[str, Path | None]
    measured: tuple[Path, ...]
    options: Mapping[str, Any]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables behind the figures, by the names of their files.

        Returns
        -------
        dict of str to pandas.DataFrame
            summary, agreement, boundaries (where there are some), timecourses, and
            similarity_roi-ROI of each region; see `imgtofmri.analyses.dynamics.tables`.
        """
        found = {
            "summary": summary_table(self.regions),
            "agreement": agreement_table(self.regions, self.tr_s, self.boundaries),
            "timecourses": self.courses,
        }
        if self.effects:
            found["boundaries"] = boundary_table(self.effects, self.tr_s)
        return found | {
            f"similarity_roi-{region.roi}": similarity_table(region.similarity)
            for region in self.regions
        }


def analyse_movie(
    models: MovieModels,
    measured: MeasuredMovie,
    *,
    run: RunSettings | None = None,
    features: Mapping[str, ArrayLike] | None = None,
    rois: Sequence[str] | None = None,
    boundaries: ArrayLike | str | Path | Search | None = None,
    band: int | None = None,
    min_lag_s: float = 0.0,
    keep_lag_means: bool | None = None,
    window: tuple[int, int] = (-5, 10),
    exclusion: int = 2,
    n_surrogates: int = 1000,
    n_brains: int = 100,
    n_resamples: int = 10,
    grouping: str = "data",
    seed: int = 0,
) -> DynamicsAnalysis:
    """Compare a movie's models with its measurement in every region.

    Parameters
    ----------
    models : MovieModels
        From `movie_models`.
    measured : MeasuredMovie
        Subjects who watched the same movie.
    run : RunSettings, optional
        By default nothing is trimmed.
    features : dict of str to array of shape (n_frames, n_features), optional
        Further models of the same frames.
    rois : sequence of str, optional
        Which regions; "all" is the union of the ROIs that both have, or, where they share none,
        all voxels of each. Default: "all" and every ROI that both have.
    boundaries : array of shape (n_boundaries,), int; text or path; optional
        Volumes at which events begin, counted after trimming: an array, ``"12,26,44"`` or a text
        file of them; or how to find them in the measured group with `find_boundaries`, such as
        ``"hmm"`` or ``"gsbs:14"``. None leaves boundaries out.
    band, keep_lag_means
        As in `Agreement`; the means are kept in the published analysis alone by default.
    min_lag_s : float
        Leave out pairs of volumes nearer to each other than this, in seconds.
    n_surrogates, n_brains, grouping
        As in `compare_dynamics`.
    window, exclusion, n_resamples
        As in `boundary_effects`.
    seed : int
        Of all draws.

    Returns
    -------
    DynamicsAnalysis

    Raises
    ------
    ShapeError
        If models and measurement differ in length, or a further model has not one row per frame.
    DataError
        If boundaries are not as they should be, data are not finite, or a region holds still.
    OptionError
        If a region or an option is not valid.
    """
    run = RunSettings() if run is None else run
    chosen = choose_regions(_shared(models, measured), rois)
    search = read_boundaries(boundaries)
    compared = agreement_of(run, measured.tr_s, band, min_lag_s, keep_lag_means)
    n_run = measured.n_timepoints if run.n_volumes is None else run.n_volumes
    predicted, others = model_series(models, measured.tr_s, run, n_run, features)
    volumes = filter_measured(measured.data, measured.tr_s, run)
    starts = place_boundaries(search, group_course(volumes, run))
    skip = run.skip_volumes if run.is_original else None
    here = {roi: _voxels(models, measured, roi) for roi in chosen}
    alive = _moving(measured, {roi: there for roi, (_, there) in here.items()})
    regions = compare_regions(
        {roi: predicted(mask) for roi, (mask, _) in here.items()},
        others,
        {roi: volumes[:, :, there & alive] for roi, (_, there) in here.items()},
        compared=compared,
        n_surrogates=n_surrogates,
        n_brains=n_brains,
        grouping=grouping,
        skip=skip,
        seed=seed,
    )
    effects = [
        boundary_effects(
            region,
            starts,
            window=window,
            exclusion=exclusion,
            n_resamples=n_resamples,
            seed=seed,
        )
        for region in regions
        if starts is not None
    ]
    operator = volume_operator(models.onsets_s, measured.tr_s, run, n_run=n_run)
    return DynamicsAnalysis(
        regions=regions,
        effects=tuple(effects),
        boundaries=starts,
        courses=course_table(models.prediction, operator, measured.tr_s),
        maps=predicted_maps(models.prediction, operator, measured.tr_s, run),
        tr_s=measured.tr_s,
        run=run,
        provenance=models.prediction.provenance,
        movie=models.movie,
        rate_hz=models.rate_hz,
        baselines=models.made_of,
        features=dict.fromkeys(features or {}),
        measured=measured.sources,
        options={
            "boundaries": str(boundaries) if isinstance(boundaries, str | Path) else None,
            "band": band,
            "min_lag_s": min_lag_s,
            "keep_lag_means": compared.keep_lag_means,
            "window": list(window),
            "exclusion": exclusion,
            "n_surrogates": n_surrogates,
            "n_brains": n_brains,
            "n_resamples": n_resamples,
            "grouping": grouping,
            "seed": seed,
        },
    )


def agreement_of(
    run: RunSettings,
    tr_s: float,
    band: int | None,
    min_lag_s: float,
    keep_lag_means: bool | None,
) -> Agreement:
    """Return how matrices are compared, the least lag in volumes."""
    if not 0 <= min_lag_s < np.inf:
        message = (
            f"min_lag_s must be 0 or more seconds; got {min_lag_s}. Use 0 to compare all volumes, "
            "12 to leave out those that one haemodynamic response joins."
        )
        raise OptionError(message, "min_lag_s")
    kept = run.is_original if keep_lag_means is None else keep_lag_means
    return Agreement(band, max(1, int(np.ceil(min_lag_s / tr_s - 1e-9))), kept)


def model_series(
    models: MovieModels,
    tr_s: float,
    run: RunSettings,
    n_run: int | None = None,
    features: Mapping[str, ArrayLike] | None = None,
) -> tuple[Callable[[NDArray[np.bool_]], ModelSeries], dict[str, ModelSeries]]:
    """Return the prediction's series, of the voxels asked for, and those of all other models.

    Raises
    ------
    ShapeError, OptionError
        As `check_features`.
    """
    further = check_features(features or {}, models.baselines, len(models.onsets_s))
    operator = volume_operator(models.onsets_s, tr_s, run, n_run=n_run)
    others = {
        name: ModelSeries(values, operator)
        for name, values in {**models.baselines, **further}.items()
    }
    if run.is_original and LUMINANCE in models.baselines:
        plain = volume_operator(models.onsets_s, tr_s, run, n_run=n_run, filtered=False)
        others[LUMINANCE] = ModelSeries(models.baselines[LUMINANCE], plain)
    group = models.prediction.group
    return lambda voxels: ModelSeries(group[:, voxels], operator), others


def choose_regions(known: Sequence[str], rois: Sequence[str] | None) -> tuple[str, ...]:
    """Return the regions to look at; by default all voxels, then each ROI."""
    every = [ALL_VOXELS, *known]
    if rois is None:
        # A single ROI is all there is.
        return tuple(known if len(known) == 1 else every)
    for roi in rois:
        check_choice("rois", roi, every)
    return tuple(dict.fromkeys(rois))


def _shared(models: MovieModels, measured: MeasuredMovie) -> list[str]:
    """List the ROIs that prediction and measurement have, in the prediction's order."""
    return [roi for roi in models.prediction.rois if roi in measured.rois]


def _voxels(
    models: MovieModels, measured: MeasuredMovie, roi: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which predicted and which measured voxels belong to a region."""
    names = _shared(models, measured) if roi == ALL_VOXELS else [roi]
    here = predicted_voxels(models, names)
    if not names:
        return here, np.ones(measured.data.shape[2], dtype=bool)
    return here, np.any([measured.rois[name] for name in names], axis=0)


def predicted_voxels(models: MovieModels, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which voxels of the prediction belong to any of some ROIs and have a value."""
    usable = usable_voxels(models.prediction)
    if not names:
        return usable
    masks = [models.prediction.roi_mask(name) for name in names]
    here: NDArray[np.bool_] = np.any(masks, axis=0) & usable
    if here.sum() < 2:
        message = (
            f"the prediction must have a pattern in {', '.join(names)}; got {int(here.sum())} "
            "voxels that enough people stand behind. Leave the ROI out."
        )
        raise DataError(message)
    return here


def _moving(measured: MeasuredMovie, regions: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return the measured voxels that change over time in every subject.

    Raises
    ------
    DataError
        If a region has none.
    """
    spread = measured.data.std(axis=1, dtype=np.float64)
    # Cleaning leaves rounding of what held still, which is small beside what did not.
    floor = 1e-6 * np.maximum(spread.max(axis=1), np.abs(measured.data).max(axis=(1, 2)))
    alive = spread > floor[:, None]
    every: NDArray[np.bool_] = alive.all(axis=0)
    for roi, voxels in regions.items():
        for name, own in zip(measured.subject_names, alive, strict=True):
            if not own[voxels].any():
                message = (
                    f"{roi} must change over the run in every subject; got one value throughout "
                    f"in {name}. Leave out the subject or the ROI."
                )
                raise DataError(message)
        if (every & voxels).sum() < 2:
            message = (
                f"{roi} must have 2 voxels or more that change over the run in every subject; got "
                f"{int((every & voxels).sum())}. Leave out subjects or the ROI."
            )
            raise DataError(message)
    return every

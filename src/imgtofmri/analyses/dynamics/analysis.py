"""A movie's models and its measurement through every step, region by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics.comparison import (
    BoundaryEffects,
    RegionDynamics,
    boundary_effects,
    compare_dynamics,
)
from imgtofmri.analyses.dynamics.models import PREDICTED, MovieModels
from imgtofmri.analyses.dynamics.scanner import ScanSettings, filter_measured, to_volumes
from imgtofmri.events import (
    check_boundaries,
    choose_n_events,
    fit_events,
    greedy_states,
    optimal_states,
)
from imgtofmri.exceptions import OptionError, ShapeError, choice_message
from imgtofmri.measured.movie import MeasuredMovie

__all__ = ["ALL_VOXELS", "DynamicsAnalysis", "analyse_movie", "find_boundaries"]

ALL_VOXELS = "all"
"""The region that is the union of the ROIs which prediction and measurement share."""

METHODS = ("hmm", "gsbs", "optimal")


@dataclass(frozen=True, eq=False)
class DynamicsAnalysis:
    """All that was compared, for tables and figures.

    Attributes
    ----------
    regions : tuple of RegionDynamics
        One for each region, all voxels first.
    effects : tuple of BoundaryEffects
        One for each region; empty without boundaries.
    boundaries : array of int, shape (n_boundaries,), or None
        Volumes at which events begin, counted after trimming.
    settings : ScanSettings
        The run.
    """

    regions: tuple[RegionDynamics, ...]
    effects: tuple[BoundaryEffects, ...]
    boundaries: NDArray[np.intp] | None
    settings: ScanSettings


def analyse_movie(
    models: MovieModels,
    measured: MeasuredMovie,
    *,
    settings: ScanSettings | None = None,
    extra: Mapping[str, ArrayLike] | None = None,
    rois: Sequence[str] | None = None,
    boundaries: ArrayLike | str | None = None,
    n_events: int | None = None,
    band: int | None = None,
    window: tuple[int, int] = (-5, 10),
    exclusion: int = 2,
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
    settings : ScanSettings, optional
        The run; default: the measurement's TR and nothing trimmed.
    extra : dict of str to array of shape (n_frames, n_features), optional
        Further models of the same frames.
    rois : sequence of str, optional
        Which regions; "all" is the union of the ROIs that both have, or, where they share none,
        all voxels of each. Default: "all" and every ROI that both have.
    boundaries : array of int, or {"hmm", "gsbs", "optimal"}, optional
        Volumes at which events begin, counted after trimming; or how to find them in the measured
        group (`find_boundaries`). None leaves boundaries out.
    n_events : int, optional
        For `find_boundaries`.
    band, n_brains, grouping
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
        If boundaries are not as they should be, or data not finite.
    OptionError
        If a region or an option is not valid.
    """
    run = ScanSettings(tr_s=measured.tr_s) if settings is None else settings
    chosen = _regions(models, measured, rois)
    onsets_s = models.onsets_s
    further = _check_extra(extra or {}, models)
    fixed = {
        name: to_volumes(features, onsets_s, run)
        for name, features in {**models.baselines, **further}.items()
    }
    volumes = filter_measured(measured.data, run)
    predicted = to_volumes(models.prediction.group, onsets_s, run)
    starts = None
    if isinstance(boundaries, str):
        starts = find_boundaries(volumes.mean(axis=0), boundaries, n_events=n_events)
    elif boundaries is not None:
        starts = check_boundaries(boundaries, volumes.shape[1], "analyse_movie")
    regions, effects = [], []
    for roi in chosen:
        here, there = _voxels(models, measured, roi)
        region = compare_dynamics(
            {PREDICTED: predicted[:, here], **fixed},
            volumes[:, :, there],
            roi=roi,
            band=band,
            n_brains=n_brains,
            grouping=grouping,
            seed=seed,
        )
        regions.append(region)
        if starts is not None:
            effects.append(
                boundary_effects(
                    region,
                    starts,
                    window=window,
                    exclusion=exclusion,
                    n_resamples=n_resamples,
                    seed=seed,
                )
            )
    return DynamicsAnalysis(tuple(regions), tuple(effects), starts, run)


def find_boundaries(
    data: ArrayLike, method: str = "hmm", *, n_events: int | None = None
) -> NDArray[np.intp]:
    """Find event boundaries in a group's time courses.

    Parameters
    ----------
    data : array of shape (n_timepoints, n_voxels)
        Mean over subjects.
    method : {"hmm", "gsbs", "optimal"}, default "hmm"
        Hidden Markov model with splits and mergers, greedy state boundary search, or the best of
        all placements of events of 3 volumes or more by the greedy search's score.
    n_events : int, optional
        How many events. Default: chosen by t-distance, for "hmm" among 2 to a quarter of the
        volumes (40 at most); "optimal" needs it.

    Returns
    -------
    boundaries : array of int, shape (n_events - 1,)
        Volumes at which events begin.

    Raises
    ------
    OptionError
        If the method is not known or lacks ``n_events``.
    DataError
        If the data are not finite, or fewer than 3 volumes.

    Notes
    -----
    Boundaries found in a measurement are not independent of it: what happens around them in the
    same measurement is to be read with that in mind.
    """
    if method not in METHODS:
        raise OptionError(choice_message("find_boundaries", "method", method, METHODS))
    if method == "optimal":
        if n_events is None:
            message = (
                "find_boundaries: method 'optimal' needs n_events; got none. Give it, or use "
                "'gsbs', which chooses the number."
            )
            raise OptionError(message)
        return optimal_states(data, n_events, min_length=3)
    if method == "gsbs":
        if n_events is None:
            return greedy_states(data).boundaries
        # Adding one boundary at a time is what reaches every number exactly.
        return greedy_states(data, n_events, statewise=False).steps[-1]
    if n_events is not None:
        return fit_events(data, n_events, split_merge=True).boundaries
    largest = max(2, min(40, len(np.asarray(data)) // 4))
    return choose_n_events(data, range(2, largest + 1), split_merge=True).best.boundaries


def _regions(
    models: MovieModels, measured: MeasuredMovie, rois: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the regions to compare, which both sides must have."""
    shared = _shared(models, measured)
    known = [ALL_VOXELS, *shared]
    if rois is None:
        # A single ROI is all there is.
        return tuple(shared if len(shared) == 1 else known)
    for roi in rois:
        if roi not in known:
            raise OptionError(choice_message("analyse_movie", "rois", roi, known))
    return tuple(dict.fromkeys(rois))


def _shared(models: MovieModels, measured: MeasuredMovie) -> list[str]:
    """List the ROIs that prediction and measurement have, in the prediction's order."""
    return [roi for roi in models.prediction.rois if roi in measured.rois]


def _voxels(
    models: MovieModels, measured: MeasuredMovie, roi: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which predicted and which measured voxels belong to a region."""
    names = _shared(models, measured) if roi == ALL_VOXELS else [roi]
    if not names:
        every = (models.prediction.group.shape[1], measured.data.shape[2])
        return np.ones(every[0], dtype=bool), np.ones(every[1], dtype=bool)
    here = np.any([models.prediction.roi_mask(name) for name in names], axis=0)
    there = np.any([measured.rois[name] for name in names], axis=0)
    return here, there


def _check_extra(
    extra: Mapping[str, ArrayLike], models: MovieModels
) -> dict[str, NDArray[np.float32]]:
    """Return further models as float32, with one row for each frame."""
    n_frames = len(models.onsets_s)
    checked = {}
    for name, values in extra.items():
        features = np.asarray(values, dtype=np.float32)
        if features.ndim != 2 or len(features) != n_frames:
            message = (
                f"analyse_movie: features of {name} must have shape (n_frames, n_features) with "
                f"{n_frames} frames; got {features.shape}. Compute them at the same rate."
            )
            raise ShapeError(message)
        if name in models.baselines or name == PREDICTED:
            message = (
                f"analyse_movie: further models must have names of their own; got {name!r}, which "
                "names another. Rename it."
            )
            raise OptionError(message)
        checked[name] = features
    return checked

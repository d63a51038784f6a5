"""A movie's models and its measurement through every step, region by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics.boundaries import Search, place_boundaries, read_boundaries
from imgtofmri.analyses.dynamics.comparison import (
    BoundaryEffects,
    RegionDynamics,
    boundary_effects,
    compare_dynamics,
)
from imgtofmri.analyses.dynamics.models import PREDICTED, MovieModels, check_features
from imgtofmri.analyses.dynamics.scan import RunSettings, filter_measured, to_volumes
from imgtofmri.analyses.dynamics.tables import (
    agreement_table,
    boundary_table,
    similarity_table,
    summary_table,
)
from imgtofmri.encoder import Provenance
from imgtofmri.exceptions import check_choice
from imgtofmri.measured.movie import MeasuredMovie
from imgtofmri.stimuli import Movie

if TYPE_CHECKING:
    import pandas as pd

ALL_VOXELS = "all"
"""The region that is the union of the ROIs which prediction and measurement share."""


@dataclass(frozen=True, eq=False)
class DynamicsAnalysis:
    """All that was compared, and what made it.

    Attributes
    ----------
    regions : tuple of RegionDynamics
        One for each region, all voxels first.
    effects : tuple of BoundaryEffects
        One for each region; empty without boundaries.
    boundaries : array of int, shape (n_boundaries,), or None
        Volumes at which events begin, counted after trimming.
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
            summary, agreement, boundaries (where there are some), and similarity_roi-ROI of each
            region; see `imgtofmri.analyses.dynamics.tables`.
        """
        found = {
            "summary": summary_table(self.regions),
            "agreement": agreement_table(self.regions, self.tr_s, self.boundaries),
        }
        if self.effects:
            found["boundaries"] = boundary_table(self.effects, self.tr_s)
        return found | {
            f"similarity_roi-{region.roi}": similarity_table(region) for region in self.regions
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
    run : RunSettings, optional
        By default nothing is trimmed.
    features : dict of str to array of shape (n_frames, n_features), optional
        Further models of the same frames.
    rois : sequence of str, optional
        Which regions; "all" is the union of the ROIs that both have, or, where they share none,
        all voxels of each. Default: "all" and every ROI that both have.
    boundaries : array of int, text or path, optional
        Volumes at which events begin, counted after trimming: an array, ``"12,26,44"`` or a text
        file of them; or how to find them in the measured group with `find_boundaries`, such as
        ``"hmm"`` or ``"gsbs:14"``. None leaves boundaries out.
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
    run = RunSettings() if run is None else run
    chosen = _regions(models, measured, rois)
    further = check_features(features or {}, models.baselines, len(models.onsets_s))
    search = read_boundaries(boundaries)
    fixed = {
        name: to_volumes(values, models.onsets_s, measured.tr_s, run)
        for name, values in {**models.baselines, **further}.items()
    }
    volumes = filter_measured(measured.data, measured.tr_s, run)
    predicted = to_volumes(models.prediction.group, models.onsets_s, measured.tr_s, run)
    starts = place_boundaries(search, volumes.mean(axis=0))
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
    return DynamicsAnalysis(
        regions=tuple(regions),
        effects=tuple(effects),
        boundaries=starts,
        tr_s=measured.tr_s,
        run=run,
        provenance=models.prediction.provenance,
        movie=models.movie,
        rate_hz=models.rate_hz,
        baselines=models.made_of,
        features=dict.fromkeys(further),
        measured=measured.sources,
        options={
            "boundaries": str(boundaries) if isinstance(boundaries, str | Path) else None,
            "band": band,
            "window": list(window),
            "exclusion": exclusion,
            "n_brains": n_brains,
            "n_resamples": n_resamples,
            "grouping": grouping,
            "seed": seed,
        },
    )


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
        check_choice("rois", roi, known)
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

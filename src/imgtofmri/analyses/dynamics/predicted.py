"""What a movie predicts by itself: time courses, similarities over time, event boundaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics.analysis import (
    ALL_VOXELS,
    choose_regions,
    model_series,
    predicted_voxels,
)
from imgtofmri.analyses.dynamics.boundaries import Search, place_boundaries, read_boundaries
from imgtofmri.analyses.dynamics.maps import PredictedMaps, predicted_maps
from imgtofmri.analyses.dynamics.models import PREDICTED, MovieModels
from imgtofmri.analyses.dynamics.scan import RunSettings, volume_operator
from imgtofmri.analyses.dynamics.tables import course_table, event_table, similarity_table
from imgtofmri.encoder import Provenance
from imgtofmri.exceptions import OptionError
from imgtofmri.stimuli import Movie
from imgtofmri.text import Brief
from imgtofmri.timeseries.checks import check_positive

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_TR_S = 2.0
"""At which a movie's prediction is sampled where nothing was measured."""


@dataclass(frozen=True, eq=False, repr=False)
class PredictedDynamics(Brief):
    """What a movie predicts, and what made it.

    Attributes
    ----------
    similarity : dict of str to dict of str to array of shape (n_volumes, n_volumes)
        Of each region, of each model: how alike each two volumes' patterns are.
    boundaries : dict of str to array of shape (n_boundaries,), int
        Of each region, the volumes at which events begin, counted after trimming.
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
    options : dict
        Where boundaries are from, and the seed.
    """

    similarity: Mapping[str, Mapping[str, NDArray[np.float64]]]
    boundaries: Mapping[str, NDArray[np.intp]]
    courses: pd.DataFrame
    maps: PredictedMaps
    tr_s: float
    run: RunSettings
    provenance: Provenance
    movie: Movie | None
    rate_hz: float | None
    baselines: Mapping[str, Mapping[str, str]]
    features: Mapping[str, Path | None]
    options: Mapping[str, Any]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables behind the figures, by the names of their files.

        Returns
        -------
        dict of str to pandas.DataFrame
            timecourses, events, and similarity_roi-ROI of each region; see
            `imgtofmri.analyses.dynamics.tables`.
        """
        found = {
            "timecourses": self.courses,
            "events": event_table(self.boundaries, self.tr_s),
        }
        return found | {
            f"similarity_roi-{roi}": similarity_table(models)
            for roi, models in self.similarity.items()
        }


def predicted_dynamics(
    models: MovieModels,
    tr_s: float = DEFAULT_TR_S,
    *,
    run: RunSettings | None = None,
    features: Mapping[str, ArrayLike] | None = None,
    rois: Sequence[str] | None = None,
    boundaries: ArrayLike | str | Path | Search = "gsbs",
) -> PredictedDynamics:
    """Bring a movie's models to volumes, and look at what they predict.

    Parameters
    ----------
    models : MovieModels
        From `movie_models`.
    tr_s : float, default 2.0
        Repetition time in seconds.
    run : RunSettings, optional
        By default nothing is trimmed.
    features : dict of str to array of shape (n_frames, n_features), optional
        Further models of the same frames.
    rois : sequence of str, optional
        Which regions. Default: "all", the union of the ROIs, and every ROI.
    boundaries : text, path or array of shape (n_boundaries,), int; default "gsbs"
        How to find boundaries in each region's prediction, or volumes that are the same in all, as
        in `analyse_movie`.

    Returns
    -------
    PredictedDynamics

    Raises
    ------
    OptionError, DataError, ShapeError
        As `analyse_movie`.
    """
    run = RunSettings() if run is None else run
    check_positive("tr_s", tr_s, "seconds")
    check_n_run(run)
    search = read_boundaries(boundaries)
    rois_of = models.prediction.rois
    chosen = choose_regions(rois_of, rois)
    predicted, others = model_series(models, tr_s, run, run.n_volumes, features)
    fixed = {name: series.similarity for name, series in others.items()}
    similarity, starts = {}, {}
    for roi in chosen:
        voxels = predicted_voxels(models, rois_of if roi == ALL_VOXELS else [roi])
        series = predicted(voxels)
        similarity[roi] = {PREDICTED: series.similarity, **fixed}
        found = place_boundaries(search, series.volumes)
        starts[roi] = np.empty(0, dtype=np.intp) if found is None else found
    operator = volume_operator(models.onsets_s, tr_s, run)
    return PredictedDynamics(
        similarity=similarity,
        boundaries=starts,
        courses=course_table(models.prediction, operator, tr_s),
        maps=predicted_maps(models.prediction, operator, tr_s, run),
        tr_s=tr_s,
        run=run,
        provenance=models.prediction.provenance,
        movie=models.movie,
        rate_hz=models.rate_hz,
        baselines=models.made_of,
        features=dict.fromkeys(features or {}),
        options={"boundaries": str(boundaries) if isinstance(boundaries, str | Path) else None},
    )


def check_n_run(run: RunSettings) -> None:
    """Refuse the published analysis without a run to stretch the film over."""
    if run.is_original and run.n_volumes is None:
        message = (
            "n_volumes must be given where `resample` is original and nothing was measured, as the "
            "film is stretched over so many volumes; got none. Give it, or use resample interp."
        )
        raise OptionError(message, "n_volumes")

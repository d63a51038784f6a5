"""Results as tidy tables, one behind each figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics.comparison import (
    MEASURED,
    BoundaryEffects,
    RegionDynamics,
    p_over_regions,
)
from imgtofmri.encoder.prediction import Prediction
from imgtofmri.encoder.regions import GROUP

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "agreement_table",
    "boundary_table",
    "course_table",
    "event_table",
    "similarity_table",
    "summary_table",
]


def summary_table(regions: Sequence[RegionDynamics]) -> pd.DataFrame:
    """Return the mean agreement of each model in each region, and of differences of models.

    Parameters
    ----------
    regions : sequence of RegionDynamics

    Returns
    -------
    pandas.DataFrame
        Columns roi, model (or "MODEL - BASELINE"), agreement (mean over volumes), ci_lower,
        ci_upper (95 % interval over people, NaN of few), null_mean, null_sd (of phase-randomised
        surrogates), p (one-sided), p_max (corrected over regions), n_volumes, n_subjects, n_voxels.
    """
    import pandas as pd

    rows = []
    corrected = p_over_regions(regions)
    for region, p_max in zip(regions, corrected, strict=True):
        low, high = region.mean_limits()
        null, tested = region.mean_null[0], region.is_tested
        for index, model in enumerate(region.names):
            rows.append(
                {
                    "roi": region.roi,
                    "model": model,
                    "agreement": region.mean_agreement[index],
                    "ci_lower": low[index],
                    "ci_upper": high[index],
                    "null_mean": null[index].mean() if tested else np.nan,
                    "null_sd": null[index].std() if tested else np.nan,
                    "p": region.mean_p[index],
                    "p_max": p_max[index],
                    "n_volumes": region.n_timepoints,
                    "n_subjects": region.n_subjects,
                    "n_voxels": region.n_voxels,
                }
            )
    return pd.DataFrame(rows)


def agreement_table(
    regions: Sequence[RegionDynamics], tr_s: float, boundaries: ArrayLike | None = None
) -> pd.DataFrame:
    """Return the agreement of each model in each region at each volume.

    Parameters
    ----------
    regions : sequence of RegionDynamics
    tr_s : float
        Repetition time in seconds.
    boundaries : array of shape (n_boundaries,), int, optional
        Volumes at which events begin.

    Returns
    -------
    pandas.DataFrame
        Columns roi, model, volume, time_s (both after trimming), agreement, ci_lower, ci_upper,
        boundary (whether an event begins there).
    """
    import pandas as pd

    parts = []
    for region in regions:
        low, high = region.limits()
        volumes = np.arange(region.n_timepoints)
        begins = np.isin(volumes, [] if boundaries is None else np.asarray(boundaries))
        for index, model in enumerate(region.models):
            parts.append(
                pd.DataFrame(
                    {
                        "roi": region.roi,
                        "model": model,
                        "volume": volumes,
                        "time_s": volumes * tr_s,
                        "agreement": region.agreement[index],
                        "ci_lower": low[index],
                        "ci_upper": high[index],
                        "boundary": begins,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def boundary_table(effects: Sequence[BoundaryEffects], tr_s: float) -> pd.DataFrame:
    """Return the averages around boundaries of each model and difference in each region.

    Parameters
    ----------
    effects : sequence of BoundaryEffects
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    pandas.DataFrame
        Columns roi, model, lag (volumes from the boundary), lag_s, agreement, ci_lower, ci_upper
        (over people and boundaries), p (one-sided), p_max (corrected over lags), n_boundaries
        (with a valid volume at that lag).
    """
    import pandas as pd

    parts = []
    for effect in effects:
        average = effect.average
        for index, name in enumerate(effect.names):
            parts.append(
                pd.DataFrame(
                    {
                        "roi": effect.roi,
                        "model": name,
                        "lag": average.lags,
                        "lag_s": average.lags * tr_s,
                        "agreement": average.mean[index],
                        "ci_lower": average.lower[index],
                        "ci_upper": average.upper[index],
                        "p": effect.p[index],
                        "p_max": effect.p_max[index],
                        "n_boundaries": average.n_windows,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def course_table(prediction: Prediction, operator: ArrayLike, tr_s: float) -> pd.DataFrame:
    """Return the predicted time courses of ROIs, as a scanner would see them.

    Parameters
    ----------
    prediction : Prediction
        Of a movie's frames.
    operator : array of shape (n_volumes, n_frames)
        From `volume_operator`.
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    pandas.DataFrame
        Columns roi, hemi, subject ("group" or a name), volume, time_s (both after trimming) and
        response: the mean of `Prediction.roi_means` after haemodynamics, without mean and slow
        cosines, in model units. Subjects who lack an ROI have no rows for it.
    """
    import pandas as pd

    matrix = np.asarray(operator)
    means = prediction.roi_means()
    owners = {GROUP: means.group} | {
        name: means.values[:, number] for number, name in enumerate(means.subjects)
    }
    volumes = np.arange(len(matrix))
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "roi": roi,
                    "hemi": hemi,
                    "subject": subject,
                    "volume": volumes,
                    "time_s": volumes * tr_s,
                    "response": matrix @ values[number],
                }
            )
            for number, (roi, hemi) in enumerate(means.places)
            for subject, values in owners.items()
            if not np.isnan(values[number]).any()
        ],
        ignore_index=True,
    )


def similarity_table(similarity: Mapping[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Return the similarity of each pair of volumes, of the brains and of each model.

    Parameters
    ----------
    similarity : dict of str to array of shape (n_timepoints, n_timepoints)
        Of the models and, under "measured", of the brains.

    Returns
    -------
    pandas.DataFrame
        Columns row, column (volumes, row < column), measured (where there are brains) and one for
        each model: Pearson's r of the two volumes' patterns.
    """
    import pandas as pd

    first = next(iter(similarity.values()))
    rows, columns = np.triu_indices(len(first), k=1)
    names = sorted(similarity, key=lambda name: name != MEASURED)
    values = {name: similarity[name][rows, columns] for name in names}
    return pd.DataFrame({"row": rows, "column": columns, **values})


def event_table(boundaries: Mapping[str, NDArray[np.intp]], tr_s: float) -> pd.DataFrame:
    """Return the boundaries of each region.

    Parameters
    ----------
    boundaries : dict of str to array of shape (n_boundaries,), int
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    pandas.DataFrame
        Columns roi, event (counted from 1; the first, which begins at 0, has no row), volume and
        time_s at which it begins, both after trimming and haemodynamics included.
    """
    import pandas as pd

    parts = [
        pd.DataFrame(
            {
                "roi": roi,
                "event": np.arange(2, len(starts) + 2),
                "volume": starts,
                "time_s": np.asarray(starts) * tr_s,
            }
        )
        for roi, starts in boundaries.items()
    ]
    return pd.concat(parts, ignore_index=True)

"""Results as tidy tables, one behind each figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from imgtofmri.analyses.dynamics.comparison import MEASURED, BoundaryEffects, RegionDynamics

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["agreement_table", "boundary_table", "similarity_table", "summary_table"]


def summary_table(regions: Sequence[RegionDynamics]) -> pd.DataFrame:
    """Return the mean agreement of each model in each region.

    Parameters
    ----------
    regions : sequence of RegionDynamics

    Returns
    -------
    pandas.DataFrame
        Columns roi, model, agreement (mean over volumes), bootstrap_mean, lower, upper (mean and
        95 % of the bootstrap over subjects), p (one-sided), n_volumes, n_subjects, n_voxels.
    """
    import pandas as pd

    rows = []
    for region in regions:
        low, high = region.mean_limits()
        for index, model in enumerate(region.models):
            rows.append(
                {
                    "roi": region.roi,
                    "model": model,
                    "agreement": region.mean_agreement[index],
                    "bootstrap_mean": region.mean_brains[index].mean(),
                    "lower": low[index],
                    "upper": high[index],
                    "p": region.mean_p[index],
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
    boundaries : array of int, optional
        Volumes at which events begin.

    Returns
    -------
    pandas.DataFrame
        Columns roi, model, volume, time_s (both after trimming), agreement, bootstrap_mean, lower,
        upper, boundary (whether an event begins there).
    """
    import pandas as pd

    parts = []
    for region in regions:
        low, high = region.limits()
        mean = region.bootstrap_mean
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
                        "bootstrap_mean": mean[index],
                        "lower": low[index],
                        "upper": high[index],
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
        Columns roi, model, lag (volumes from the boundary), lag_s, agreement, bootstrap_mean,
        lower, upper, p (one-sided), n_boundaries (with a valid volume at that lag), n_samples
        (valid ones).
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
                        "bootstrap_mean": average.bootstrap_mean[index],
                        "lower": average.lower[index],
                        "upper": average.upper[index],
                        "p": average.p[index],
                        "n_boundaries": average.n_windows,
                        "n_samples": np.sum(~np.isnan(average.samples[index]), axis=0),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def similarity_table(region: RegionDynamics) -> pd.DataFrame:
    """Return the similarity of each pair of volumes, of the brains and of each model.

    Parameters
    ----------
    region : RegionDynamics

    Returns
    -------
    pandas.DataFrame
        Columns row, column (volumes, row < column), measured and one for each model.
    """
    import pandas as pd

    rows, columns = np.triu_indices(region.n_timepoints, k=1)
    names = [MEASURED, *region.models]
    values = {name: region.similarity[name][rows, columns] for name in names}
    return pd.DataFrame({"row": rows, "column": columns, **values})

"""The signal of regions in every run, without noise: what the runs are made around."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.simulate.analysis import Simulation
from imgtofmri.analyses.simulate.responses import Responses
from imgtofmri.experiments import Run
from imgtofmri.experiments.scan import stimulus_design
from imgtofmri.timeseries import volume_times

if TYPE_CHECKING:
    import pandas as pd

COURSES = {
    "subject": "the simulated person",
    "run": "number of the run, from 1",
    "roi": "the region",
    "volume": "volume, counted from 0",
    "time_s": "when it is sampled, in seconds from the start of the run",
    "signal": "mean over the region's voxels in template space, without noise, in percent of the "
    "baseline",
}
"""What each column of the table of regions' signals means."""

_ROWS = 256


def region_courses(simulation: Simulation) -> pd.DataFrame:
    """Return each region's signal at each volume, without noise.

    Parameters
    ----------
    simulation : Simulation

    Returns
    -------
    pandas.DataFrame
        Columns as `COURSES` has them; no rows where the simulation has no regions.
    """
    import pandas as pd

    parts = []
    for subject, responses in simulation.subjects.items() if simulation.rois else ():
        known: dict[int, NDArray[np.float64]] = {}
        for number, run in enumerate(simulation.runs):
            # A run that is repeated has the same signal.
            if id(run) not in known:
                known[id(run)] = _signals(simulation, responses, run)
            scan = simulation.scan
            times_s = volume_times(run.n_volumes, scan.tr_s, slice_time_ref=scan.slice_time_ref)
            parts += [
                pd.DataFrame(
                    {
                        "subject": subject,
                        "run": number + 1,
                        "roi": roi,
                        "volume": np.arange(run.n_volumes),
                        "time_s": times_s,
                        "signal": signal,
                    }
                )
                for roi, signal in zip(simulation.rois, known[id(run)].T, strict=True)
            ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*COURSES])


def _signals(simulation: Simulation, responses: Responses, run: Run) -> NDArray[np.float64]:
    """Return the regions' signal in a run, shape (n_volumes, n_rois)."""
    scan = simulation.scan
    design = stimulus_design(run.events, responses.n_stimuli, scan, run.n_volumes)
    found = np.empty((run.n_volumes, len(simulation.rois)))
    for start in range(0, run.n_volumes, _ROWS):
        rows = responses.signal(design[start : start + _ROWS])
        for column, voxels in enumerate(simulation.rois.values()):
            found[start : start + _ROWS, column] = rows[:, voxels].mean(axis=1)
    return found * scan.percent_per_unit

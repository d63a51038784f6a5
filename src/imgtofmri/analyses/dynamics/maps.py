"""The group's predicted maps at the volumes of a run: what a page shows in step with the film."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri import __version__
from imgtofmri.analyses.dynamics.scan import ORIGINAL_TRIM, RunSettings
from imgtofmri.encoder import Prediction
from imgtofmri.files import atomic_path, write_whole
from imgtofmri.outputs import SeriesWriter
from imgtofmri.timeseries import volume_times

STEM = "predicted"


@dataclass(frozen=True, eq=False)
class PredictedMaps:
    """Predicted maps at the volumes of a run, and when in the film each is.

    Attributes
    ----------
    values : array of shape (n_volumes, n_voxels), float32
        After haemodynamics, without mean and slow cosines; voxels in C order of the mask.
    onsets_s : array of shape (n_volumes,)
        From the film's start, in seconds; below 0 for volumes before it.
    mask : array of shape (X, Y, Z), bool
    affine : array of shape (4, 4)
    tr_s : float
        Repetition time in seconds.
    space, units : str
    """

    values: NDArray[np.float32]
    onsets_s: NDArray[np.float64]
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    tr_s: float
    space: str
    units: str

    def save(self, folder: Path, sidecar: dict[str, Any]) -> list[Path]:
        """Write ``predicted.nii.gz``, four-dimensional, and ``predicted.json`` beside it.

        Parameters
        ----------
        folder : Path
        sidecar : dict
            What the sidecar says besides.

        Returns
        -------
        list of Path
        """
        series, text = folder / f"{STEM}.nii.gz", folder / f"{STEM}.json"
        with (
            atomic_path(series) as temporary,
            SeriesWriter(temporary, self.mask, self.affine, self.tr_s) as volumes,
        ):
            volumes.append(self.values)
        said = {
            "GeneratedBy": [{"Name": "imgtofmri", "Version": __version__}],
            "Description": "Predicted responses of the group at the volumes, after haemodynamics, "
            "without mean and slow cosines; nothing here was measured.",
            "RepetitionTime": self.tr_s,
            "NumberOfVolumes": len(self.values),
            "OnsetsSeconds": [round(float(onset), 6) for onset in self.onsets_s],
            "Units": self.units,
            "Space": self.space,
        }
        write_whole(text, (json.dumps(said | sidecar, indent=1) + "\n").encode())
        return [series, text]


def predicted_maps(
    prediction: Prediction, operator: ArrayLike, tr_s: float, run: RunSettings
) -> PredictedMaps:
    """Bring the group's maps of a film's frames to the volumes of a run.

    Parameters
    ----------
    prediction : Prediction
        Of a film's frames.
    operator : array of shape (n_volumes, n_frames)
        From `volume_operator`.
    tr_s : float
        Repetition time in seconds.
    run : RunSettings

    Returns
    -------
    PredictedMaps
    """
    assert prediction.onsets_s is not None
    matrix = np.asarray(operator, dtype=np.float32)
    return PredictedMaps(
        values=matrix @ prediction.group,
        onsets_s=film_times(prediction.onsets_s, len(matrix), tr_s, run),
        mask=prediction.mask,
        affine=prediction.affine,
        tr_s=tr_s,
        space=prediction.space,
        units=prediction.provenance.units,
    )


def film_times(
    onsets_s: ArrayLike, n_volumes: int, tr_s: float, run: RunSettings
) -> NDArray[np.float64]:
    """Return when in the film each volume is that `to_volumes` gives, in seconds from its start.

    Parameters
    ----------
    onsets_s : array of shape (n_frames,)
        When each frame is shown.
    n_volumes : int
        After trimming.
    tr_s, run
        As in `to_volumes`.

    Returns
    -------
    array of shape (n_volumes,)
    """
    onsets = np.asarray(onsets_s, dtype=np.float64)
    if run.is_original:
        first, last = ORIGINAL_TRIM
        places = np.linspace(0.0, len(onsets), first + n_volumes + last)
        stretched: NDArray[np.float64] = places[first : first + n_volumes] * np.median(
            np.diff(onsets)
        )
        return stretched
    skipped = run.skip_volumes or 0
    times_s = volume_times(skipped + n_volumes, tr_s, slice_time_ref=run.slice_time_ref or 0.0)
    return times_s[skipped:] - run.movie_start_s

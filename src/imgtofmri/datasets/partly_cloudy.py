"""Partly Cloudy: adults who watched a short film in the scanner, and the film's event boundaries.

Richardson et al. (2018) scanned 33 adults (and 122 children) while they watched Pixar's silent film
"Partly Cloudy": 168 volumes, 2 s apart. nilearn offers the data at 4 mm in MNI152NLin2009cAsym.

References
----------
Richardson H. et al. (2018). Development of the social brain from age three to twelve years. Nature
Communications 9, 1027. doi:10.1038/s41467-018-03399-2
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from imgtofmri.assets import by_nilearn, is_offline, nilearn_folder
from imgtofmri.exceptions import AssetError, OptionError
from imgtofmri.measured.movie import MeasuredMovie
from imgtofmri.measured.runs import read_runs
from imgtofmri.tables import read_table

__all__ = [
    "PARTLY_CLOUDY_BOUNDARIES",
    "PARTLY_CLOUDY_EVENT_STARTS",
    "PARTLY_CLOUDY_N_SUBJECTS",
    "PARTLY_CLOUDY_SKIP_VOLUMES",
    "PARTLY_CLOUDY_TR_S",
    "fetch_partly_cloudy",
]

PARTLY_CLOUDY_N_SUBJECTS = 33
"""Adults in the data set."""

PARTLY_CLOUDY_TR_S = 2.0
"""Repetition time, in seconds."""

PARTLY_CLOUDY_SKIP_VOLUMES = 10
"""Volumes before the published event boundaries begin to count."""

PARTLY_CLOUDY_EVENT_STARTS = (0, 12, 26, 44, 56, 71, 81, 92, 104, 119, 123, 136, 143, 151)
"""First volume of each event, as published with img2fmri, after the first ten volumes."""

PARTLY_CLOUDY_BOUNDARIES = PARTLY_CLOUDY_EVENT_STARTS[1:]
"""The 13 event boundaries among them: the first event's start is no boundary."""

_FOLDER = "development_fmri"
_BOLD_NAME = "{}_task-pixar_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"


def fetch_partly_cloudy(
    roi_masks: Mapping[str, ArrayLike],
    roi_affine: ArrayLike,
    *,
    n_subjects: int = PARTLY_CLOUDY_N_SUBJECTS,
    cutoff_s: float | None = 128.0,
    data_dir: str | Path | None = None,
    progress: bool = True,
) -> MeasuredMovie:
    """Fetch the adults who watched Partly Cloudy, cleaned, in the voxels of the ROIs.

    The download is nilearn's `fetch_development_fmri` and is kept where nilearn keeps its data.
    Cleaning regresses out its reduced confounds (six motion parameters, framewise displacement,
    white matter, CSF and six components of anatomical CompCor), slow cosines and the mean, all at
    once.

    Parameters
    ----------
    roi_masks : dict of str to array of shape (x, y, z)
        Masks in template space, on a grid of their own.
    roi_affine : array of shape (4, 4)
        Of that grid.
    n_subjects : int, default 33
        How many adults.
    cutoff_s : float, optional
        As in `read_runs`.
    data_dir : path, optional
        Where nilearn keeps its data; default: nilearn's own choice, the folder that
        ``NILEARN_DATA`` names or ``~/nilearn_data``.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    MeasuredMovie
        All 168 volumes. The published boundaries count from volume `PARTLY_CLOUDY_SKIP_VOLUMES`.

    Raises
    ------
    AssetError
        If the data cannot be downloaded, or ``IMGTOFMRI_OFFLINE`` forbids it and they are not
        there.
    OptionError
        If ``n_subjects`` is not between 1 and 33.
    DataError, ShapeError
        As `read_runs`.
    """
    if not 1 <= n_subjects <= PARTLY_CLOUDY_N_SUBJECTS:
        message = (
            "n_subjects must be between 1 and "
            f"{PARTLY_CLOUDY_N_SUBJECTS}, the adults there are; got {n_subjects}. Leave it out for "
            "all of them."
        )
        raise OptionError(message, "n_subjects")
    from nilearn.datasets import fetch_development_fmri
    from nilearn.datasets.utils import get_data_dirs

    folder = None if data_dir is None else str(data_dir)
    if is_offline():
        places = [Path(place) / _FOLDER for place in get_data_dirs(folder)]
        found = max(_n_stored(place, n_subjects) for place in places)
        if found < n_subjects:
            message = (
                f"{n_subjects} runs of Partly Cloudy must be there already, "
                f"as IMGTOFMRI_OFFLINE forbids the network; got {found} in "
                f"{' or '.join(str(place) for place in places)}. Unset it to download them, or "
                f"{nilearn_folder(_FOLDER)}."
            )
            raise AssetError(message)
    with by_nilearn("Partly Cloudy", _FOLDER):
        fetched = fetch_development_fmri(
            n_subjects=n_subjects,
            reduce_confounds=True,
            data_dir=folder,
            age_group="adult",
            verbose=int(progress),
        )
    return read_runs(
        fetched.func,
        roi_masks,
        roi_affine,
        confounds=fetched.confounds,
        tr_s=float(fetched.t_r),
        slice_time_ref=0.0,
        cutoff_s=cutoff_s,
        subject_names=[str(name) for name in fetched.phenotypic["participant_id"]],
        progress=progress,
    )


def _n_stored(folder: Path, n_subjects: int) -> int:
    """Count the first adults whose runs nilearn has stored."""
    path = folder / "participants.tsv"
    if not path.is_file():
        return 0
    people = read_table(path)
    pairs = zip(people.column("participant_id"), people.column("Child_Adult"), strict=True)
    adults = [name for name, kind in pairs if kind == "adult"][:n_subjects]
    return sum((folder / _BOLD_NAME.format(name)).is_file() for name in adults)

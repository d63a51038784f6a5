"""The published validation on the Twinset images, at its four levels.

Measured responses lie as in the published archive: ``data/twinset/avgs/avg_beta_0001.nii.gz``
..., ``data/twinset/subj01/r_m_s_beta_0001.nii.gz`` .... Predictions are ``001.nii.gz`` ...
``156.nii.gz``, as `imgtofmri.compat.img2fmri.predict` names those of ``001.jpg`` ....
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgtofmri.analyses.validate import Comparison, matched_patterns
from imgtofmri.cli.say import say
from imgtofmri.compat.img2fmri.model import ALL_ROIS, THREE_ROIS, published_encoder
from imgtofmri.compat.img2fmri.utils import get_subj_overlap
from imgtofmri.datasets.twinset import CATEGORIES, N_IMAGES, TRAINING_DUPLICATES, find_betas
from imgtofmri.exceptions import DataError
from imgtofmri.measured import Mask, Patterns, read_patterns

if TYPE_CHECKING:
    import pandas as pd

NAMES = tuple(f"{number:03d}" for number in range(1, N_IMAGES + 1))
"""What the images' predictions are called, without their suffix."""

COLUMNS = "name statistic lower upper null_mean null_sd z p n_images n_voxels".split()


def twinset_ROI_permutations(
    fmri_dir: str | Path,
    n_shuffle: int = 1000,
    print_vals: bool = False,
    force_resample: bool = False,
    *,
    data_dir: str | Path = "data",
    seed: int = 0,
) -> pd.DataFrame:
    """Test each ROI's predictions, made of that ROI alone, against the group's responses.

    Parameters
    ----------
    fmri_dir : path
        The folder that holds ``twinset_EarlyVis`` ... ``twinset_PPA``, each with the predictions
        that were made with that ROI alone.
    n_shuffle : int
        How many permutations.
    print_vals, force_resample, data_dir, seed
        As in `twinset_group_permutations`.

    Returns
    -------
    pandas.DataFrame
        A row for each ROI; columns as of `twinset_group_permutations`.

    Raises
    ------
    DataError, ShapeError
        As `twinset_group_permutations`.
    """
    import pandas as pd

    tables = []
    for roi in ALL_ROIS:
        mask = _mask([roi])
        predicted = _predictions(Path(fmri_dir) / f"twinset_{roi}", mask)
        table = _tested("group", n_shuffle, seed, predicted, _group(data_dir, mask))
        tables.append(table.assign(name=roi))
    return _told(pd.concat(tables, ignore_index=True), print_vals)


def twinset_group_permutations(
    fmri_dir: str | Path,
    roi_list: Sequence[str] = THREE_ROIS,
    n_shuffle: int = 10000,
    print_vals: bool = False,
    force_resample: bool = False,
    *,
    data_dir: str | Path = "data",
    seed: int = 0,
) -> pd.DataFrame:
    """Test predictions against the group's responses to the same images.

    Parameters
    ----------
    fmri_dir : path
        The folder of predictions, ``001.nii.gz`` ... ``156.nii.gz``.
    roi_list : sequence of str
        In whose group mask; predict with the same.
    n_shuffle : int
        How many permutations.
    print_vals : bool
        Print the statistic, the mean of its null distribution and p.
    force_resample : bool
        Has no effect: correlations are computed each time, and none are kept.
    data_dir : path
        The folder that holds ``twinset``.
    seed : int
        Of the permutations.

    Returns
    -------
    pandas.DataFrame
        One row; columns name, statistic (mean correlation of matching images less that of others),
        lower and upper (95 %, images being resampled), null_mean, null_sd, z, p
        (``(count + 1) / (n_shuffle + 1)``), n_images, n_voxels.

    Raises
    ------
    DataError
        If a prediction or a response is missing or cannot be read.
    ShapeError
        If one lies on another grid.

    Notes
    -----
    Image 20, which the model was trained on, is left out. Rows, the predictions, are shuffled.
    """
    mask = _mask(roi_list)
    predicted = _predictions(Path(fmri_dir), mask)
    return _told(_tested("group", n_shuffle, seed, predicted, _group(data_dir, mask)), print_vals)


def twinset_category_permutations(
    fmri_dir: str | Path,
    roi_list: Sequence[str] = THREE_ROIS,
    n_shuffle: int = 1000,
    print_vals: bool = False,
    force_resample: bool = False,
    *,
    data_dir: str | Path = "data",
    seed: int = 0,
) -> pd.DataFrame:
    """Test predictions against the group's responses within each category of images.

    Parameters
    ----------
    fmri_dir, roi_list, n_shuffle, print_vals, force_resample, data_dir, seed
        As in `twinset_group_permutations`.

    Returns
    -------
    pandas.DataFrame
        A row for each category; columns as of `twinset_group_permutations`.

    Raises
    ------
    DataError, ShapeError
        As `twinset_group_permutations`.
    """
    mask = _mask(roi_list)
    predicted, group = _predictions(Path(fmri_dir), mask), _group(data_dir, mask)
    labels = {
        NAMES[number - 1]: category
        for category, (first, last) in CATEGORIES.items()
        for number in range(first, last + 1)
    }
    return _told(_tested("category", n_shuffle, seed, predicted, group, labels=labels), print_vals)


def twinset_participant_permutations(
    fmri_dir: str | Path,
    roi_list: Sequence[str] = THREE_ROIS,
    n_shuffle: int = 1000,
    print_vals: bool = False,
    force_resample: bool = False,
    *,
    data_dir: str | Path = "data",
    seed: int = 0,
) -> pd.DataFrame:
    """Test predictions against the responses of each participant.

    Parameters
    ----------
    fmri_dir, roi_list, n_shuffle, print_vals, force_resample, data_dir, seed
        As in `twinset_group_permutations`.

    Returns
    -------
    pandas.DataFrame
        A row for each participant, ``subj01`` ...; columns as of `twinset_group_permutations`.

    Raises
    ------
    DataError, ShapeError
        As `twinset_group_permutations`.
    """
    source = Path(data_dir) / "twinset"
    folders = sorted(source.glob("subj[0-9][0-9]"))
    if not folders:
        message = (
            f"{source}: expected folders subj01 ... of participants' responses; found none. Unpack "
            "the published archive there, or name its folder with `data_dir`."
        )
        raise DataError(message)
    mask = _mask(roi_list)
    predicted = _predictions(Path(fmri_dir), mask)
    people = {
        folder.name: read_patterns(find_betas(folder, "r_m_s"), mask, NAMES) for folder in folders
    }
    return _told(_tested("participant", n_shuffle, seed, predicted, people=people), print_vals)


def _mask(roi_list: Sequence[str]) -> Mask:
    """Return the voxels that are compared."""
    return Mask(get_subj_overlap(roi_list), published_encoder().bundle.template.affine)


def _predictions(folder: Path, mask: Mask) -> Patterns:
    paths = [folder / f"{name}.nii.gz" for name in NAMES]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        message = (
            f"{folder}: expected 001.nii.gz ... {N_IMAGES}.nii.gz, a prediction for each image; "
            f"{missing[0].name} is missing ({len(missing)} of {N_IMAGES} are). Predict the images "
            "001 ... 156 into it."
        )
        raise DataError(message)
    return read_patterns(paths, mask, NAMES)


def _group(data_dir: str | Path, mask: Mask) -> Patterns:
    folder = Path(data_dir) / "twinset" / "avgs"
    return read_patterns(find_betas(folder, "avg"), mask, NAMES)


def _tested(
    level: str,
    n_shuffle: int,
    seed: int,
    predicted: Patterns,
    group: Patterns | None = None,
    people: Mapping[str, Patterns] | None = None,
    labels: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return the rows of a level's tests."""
    comparison = Comparison(
        predicted,
        measured=group,
        participants=people or {},
        categories=labels,
        leave_out=tuple(NAMES[number - 1] for number in TRAINING_DUPLICATES),
    )
    table = matched_patterns(comparison, n_permutations=n_shuffle, seed=seed).table
    return table.loc[table["level"] == level, COLUMNS].reset_index(drop=True)


def _told(table: pd.DataFrame, print_vals: bool) -> pd.DataFrame:
    """Print what was found if it is asked for."""
    if print_vals:
        for row in table.itertuples():
            say(
                f"{row.name}: difference {row.statistic:.8f}, mean null difference "
                f"{row.null_mean:.8f}, p value {row.p:.8f}"
            )
    return table

"""Runs of a movie: timed as their files say, and cleaned of what leaves something."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn import signal
from numpy.typing import NDArray

from imgtofmri.analyses.dynamics import RunSettings
from imgtofmri.analyses.dynamics.movie import _timed
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.measured.images import check_volumes
from imgtofmri.measured.movie import MeasuredMovie, read_measured, save_measured
from imgtofmri.measured.runs import read_runs

SHAPE, N_VOLUMES = (6, 6, 6), 60
AFFINE = np.array([[-4.0, 0, 0, 12], [0, 4, 0, -12], [0, 0, 4, -12], [0, 0, 0, 1]])
MASK = np.zeros(SHAPE, bool)
MASK[1:4, 1:4, 1:4] = True
NLIN6 = "MNI152NLin6Asym"
SIGNAL = np.sin(np.arange(N_VOLUMES) / 2.5)


def write_run(
    path: Path, *, step: float = 2.0, units: str = "sec", codes: int = 4, seed: int = 0
) -> NDArray[Any]:
    """Write a run of noise with a signal in the mask, and return its values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = 1000 + np.random.default_rng(seed).normal(0, 5, (*SHAPE, N_VOLUMES))
    values[MASK] += 30 * SIGNAL
    image = nib.Nifti1Image(values.astype(np.float32), AFFINE)
    image.set_qform(AFFINE, codes)
    image.set_sform(AFFINE, codes)
    image.header.set_xyzt_units("mm", units)
    image.header["pixdim"][4] = step
    nib.save(image, path)
    return values.astype(np.float32)


def read(*paths: Path, **options: Any) -> MeasuredMovie:
    """Read runs, keeping the voxels of one ROI."""
    return read_runs(paths, {"LOC": MASK}, AFFINE, progress=False, **options)


def write_table(path: Path, n_columns: int, seed: int = 1) -> Path:
    """Write confounds of noise, as many columns as asked for."""
    rng = np.random.default_rng(seed)
    columns = {f"a_comp_cor_{n:02d}": rng.normal(size=N_VOLUMES) for n in range(n_columns)}
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)
    return path


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("", "sub-1_task-film_bold.json"),
        ("", "task-film_bold.json"),
        ("", "bold.json"),
        ("sub-1", "sub-1_bold.json"),
        ("sub-1/func", "sub-1_task-film_bold.json"),
        ("sub-1/func", "sub-1_task-film_space-X_desc-preproc_bold.json"),
    ],
)
def test_read_runs_times_are_the_sidecars_by_inheritance(
    tmp_path: Path, place: str, name: str
) -> None:
    """StartTime is found wherever BIDS lets it stand, and is what the movie is sampled at."""
    (tmp_path / "dataset_description.json").write_text("{}")
    path = tmp_path / "sub-1/func/sub-1_task-film_space-X_desc-preproc_bold.nii.gz"
    write_run(path)
    (tmp_path / place / name).write_text(json.dumps({"StartTime": 1.0, "RepetitionTime": 2.0}))
    (tmp_path / place / "sub-2_task-film_bold.json").write_text(json.dumps({"StartTime": 0.3}))
    measured = read(path)
    assert (measured.tr_s, measured.slice_time_ref) == (2.0, 0.5)
    assert _timed(RunSettings(), measured).slice_time_ref == 0.5
    save_measured(measured, tmp_path / "film.npz")
    assert read_measured(tmp_path / "film.npz").slice_time_ref == 0.5
    with pytest.raises(OptionError, match=r"slice_time_ref must be that of the .*0\.5; got 0\. "):
        _timed(RunSettings(slice_time_ref=0.0), measured)
    with pytest.raises(DataError, match="`slice_time_ref` must be what the sidecar says; got 0 of"):
        read(path, slice_time_ref=0.0)


@pytest.mark.parametrize(
    ("said", "options", "reference"),
    [
        ({"SliceTimingCorrected": False}, {}, 0.0),
        ({}, {"slice_time_ref": 0.5}, 0.5),
        ({"SliceTimingCorrected": True}, {"slice_time_ref": 0.25}, 0.25),
        ({"VolumeTiming": (2.0 * np.arange(N_VOLUMES)).tolist(), "StartTime": 1.5}, {}, 0.75),
    ],
)
def test_read_runs_times_from_other_fields(
    tmp_path: Path, said: dict[str, Any], options: dict[str, Any], reference: float
) -> None:
    """Slices that were not corrected begin at 0; what files leave open, the user says."""
    write_run(tmp_path / "a_bold.nii.gz")
    (tmp_path / "a_bold.json").write_text(json.dumps(said))
    measured = read(tmp_path / "a_bold.nii.gz", **options)
    assert measured.slice_time_ref == pytest.approx(reference)
    assert measured.tr_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "a_bold.nii.gz: what time of a volume .*neither StartTime .*Give `slice_time_ref`"),
        ({"SliceTimingCorrected": True}, "that slices were corrected .* but no StartTime"),
        ({"StartTime": 0.0, "RepetitionTime": 3.0}, "must be one; got 3 s .*sidecar, 2 s .*header"),
        ({"StartTime": 5.0}, "StartTime must lie between 0 and the repetition time, 2 s; got 5"),
        (
            {"StartTime": 0.0, "VolumeTiming": (np.arange(N_VOLUMES) ** 1.2 + 0.0).tolist()},
            "must have evenly spaced volumes|volumes must be 2 s apart",
        ),
        ({"StartTime": "0"}, "StartTime must be a number of seconds; got '0'"),
    ],
)
def test_read_runs_times_that_are_missing_or_at_odds_are_refused(
    tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    """Nothing is taken for 0 because nobody said it."""
    write_run(tmp_path / "a_bold.nii.gz")
    (tmp_path / "a_bold.json").write_text(json.dumps(said))
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a_bold.nii.gz")


def test_read_runs_header_units_count(tmp_path: Path) -> None:
    """Milliseconds are milliseconds; a header without a unit of time says no repetition time."""
    path = tmp_path / "a_bold.nii.gz"
    (tmp_path / "a_bold.json").write_text('{"StartTime": 0.0}')
    write_run(path, step=2000.0, units="msec")
    assert read(path).tr_s == pytest.approx(2.0)
    write_run(path, step=2.0, units="unknown")
    with pytest.raises(DataError, match="the repetition time must be known; got no Rep.*`tr_s`"):
        read(path)
    assert read(path, tr_s=2.0).tr_s == 2.0


def test_read_runs_of_subjects_timed_otherwise_are_refused(tmp_path: Path) -> None:
    """One subject's slices were corrected to the middle, another's to the start."""
    paths = [tmp_path / f"sub-{number}_bold.nii.gz" for number in (1, 2)]
    for path, start_s in zip(paths, (0.0, 1.0), strict=True):
        write_run(path)
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(
            f'{{"StartTime": {start_s}}}'
        )
    with pytest.raises(
        DataError, match="sub-2_bold.nii.gz must be timed as sub-1.* from 1 s on, and"
    ):
        read(*paths)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("space-X_res-1", "space-X_res-2", r"\(res: 1, 2\)"),
        ("space-X_desc-preproc", "space-X_desc-smoothed", r"\(desc: preproc, smoothed\)"),
        ("echo-1", "echo-2", r"\(echo: 1, 2\)"),
        ("run-1", "run-01_part-mag", r"\(run: .*part: \(none\), mag\)"),
    ],
)
def test_read_runs_one_acquisition_twice_is_no_second_person(
    tmp_path: Path, first: str, second: str, said: str
) -> None:
    """People who are one agree perfectly."""
    paths = [tmp_path / f"sub-1_task-film_{name}_bold.nii.gz" for name in (first, second)]
    for path in paths:
        write_run(path)
    with pytest.raises(DataError, match=rf"each run must be there once; .*{said}. Give one of"):
        read(*paths, slice_time_ref=0.0)


def test_read_runs_of_one_person_are_told(tmp_path: Path) -> None:
    """Two sessions of a person count as people, which is said."""
    paths = [tmp_path / f"sub-1_ses-{number}_task-film_bold.nii.gz" for number in (1, 2)]
    paths.append(tmp_path / "sub-2_ses-1_task-film_bold.nii.gz")
    for path in paths:
        write_run(path)
    with pytest.warns(UserWarning, match="2 of 3 files are of sub-1: each counts as a person"):
        read(*paths, slice_time_ref=0.0)


def test_read_runs_masks_in_memory_are_of_0_and_1(tmp_path: Path) -> None:
    """Probabilities above 0 are not taken for the inside of a region."""
    write_run(tmp_path / "a_bold.nii.gz")
    images, options = [tmp_path / "a_bold.nii.gz"], {"progress": False, "slice_time_ref": 0.0}
    for mask in (0.3 * MASK, MASK + 2 * np.roll(MASK, 1), np.where(MASK, 1, np.nan)):
        with pytest.raises(DataError, match="roi_masks of LOC must hold 0 and 1; got .* > 0.5"):
            read_runs(images, {"LOC": mask}, AFFINE, **options)
    assert read_runs(images, {"LOC": MASK.astype(float)}, AFFINE, **options).mask.sum() == 27


def test_read_runs_with_pauses_are_sampled_where_their_slices_are(tmp_path: Path) -> None:
    """The share that is given is of what a volume takes; the one that comes out of a repetition."""
    write_run(tmp_path / "a_bold.nii.gz", step=10.0)
    (tmp_path / "a_bold.json").write_text('{"DelayTime": 8.0}')
    measured = read(tmp_path / "a_bold.nii.gz", slice_time_ref=0.5)
    assert (measured.tr_s, measured.slice_time_ref) == (10.0, pytest.approx(0.1))


def test_read_runs_files_that_are_no_volumes_are_refused(tmp_path: Path) -> None:
    """Surfaces, and images that do not say how they lie, each in words of their own."""
    arrays = [nib.gifti.GiftiDataArray(np.zeros(642, np.float32)) for _ in range(20)]
    surface = tmp_path / "sub-1_hemi-L_space-fsaverage5_bold.func.gii"
    nib.save(nib.GiftiImage(darrays=arrays), surface)
    with pytest.raises(DataError, match=r"bold.func.gii must be an image of voxels .*a surface"):
        read(surface, slice_time_ref=0.0)
    folded = tmp_path / "lh.fsaverage5.mgz"
    nib.save(nib.MGHImage(np.zeros((10242, 1, 1, 20), np.float32), np.eye(4)), folded)
    with pytest.raises(DataError, match=r"fsaverage5.mgz must be .* 10242 vertices of a surface"):
        read(folded, slice_time_ref=0.0)
    write_run(tmp_path / "lost_bold.nii.gz", codes=0)
    with pytest.raises(DataError, match=r"lost_bold.nii.gz must say how its voxels lie; .*codes? "):
        read(tmp_path / "lost_bold.nii.gz", slice_time_ref=0.0)


@pytest.mark.parametrize("cutoff_s", [128.0, None])
def test_read_runs_confounds_that_leave_something_equal_nilearns_cleaning(
    tmp_path: Path, cutoff_s: float | None
) -> None:
    """The signal stays, and constant columns and copies of others change nothing."""
    values = write_run(tmp_path / "a_bold.nii.gz")
    table = write_table(tmp_path / "a.tsv", 6)
    own = pd.read_csv(table, sep="\t")
    own.assign(nothing=0.0, one=1e6, again=own["a_comp_cor_00"]).to_csv(
        table, sep="\t", index=False
    )
    options = {"slice_time_ref": 0.0, "cutoff_s": cutoff_s}
    measured = read(tmp_path / "a_bold.nii.gz", confounds=[table], **options)
    expected = signal.clean(
        values[MASK].T.astype(float),
        confounds=own.to_numpy(),
        filter=False if cutoff_s is None else "cosine",
        high_pass=None if cutoff_s is None else 1 / cutoff_s,
        t_r=2.0,
        standardize=None,
        detrend=False,
    )
    expected = expected - expected.mean(axis=0)
    np.testing.assert_allclose(measured.data[0], expected, atol=2e-2)
    assert np.corrcoef(measured.data[0].mean(axis=1), SIGNAL)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("n_columns", "cutoff_s"), [(84, 128.0), (60, None), (58, None), (50, 20.0), (2, 4.3)]
)
def test_read_runs_confounds_that_leave_nothing_are_refused(
    tmp_path: Path, n_columns: int, cutoff_s: float | None
) -> None:
    """More independent regressors than volumes, or nearly, drifts included, leave only noise."""
    write_run(tmp_path / "a_bold.nii.gz")
    table = write_table(tmp_path / "a.tsv", n_columns)
    message = rf"a_bold.nii.gz: something .* be left .*60 volumes less .*\({n_columns} confounds, "
    with pytest.raises(DataError, match=message + r".*Give a table of fewer columns"):
        read(tmp_path / "a_bold.nii.gz", confounds=[table], slice_time_ref=0.0, cutoff_s=cutoff_s)


def test_read_runs_confounds_that_leave_little_are_told(tmp_path: Path) -> None:
    """Less than half of a run is a remark, with the count."""
    write_run(tmp_path / "a_bold.nii.gz")
    table = write_table(tmp_path / "a.tsv", 40)
    with pytest.warns(UserWarning, match="less than half .* 60 volumes less 41 .*40 confounds, 0 "):
        read(tmp_path / "a_bold.nii.gz", confounds=[table], slice_time_ref=0.0, cutoff_s=None)


@pytest.mark.parametrize(
    ("names", "space", "said"),
    [
        (("sub-1_space-T1w_bold",), NLIN6, "must lie in MNI152NLin6Asym, .*got T1w, by its name"),
        (("sub-1_space-fsnative_bold",), NLIN6, "got fsnative, by its name"),
        (("sub-1_space-MNIInfant_cohort-1_bold",), NLIN6, "got MNIInfant, by its name"),
        (("sub-1_task-film_desc-preproc_bold",), NLIN6, "got its own space, without one in its n"),
        (("sub-1_bold", "sub-2_space-T1w_bold"), NLIN6, "sub-2_space-T1w_bold.nii.gz must lie in"),
        (("sub-1_space-MNI152NLin6Asym_bold", "sub-2_space-T1w_bold"), None, "must lie in MNI15"),
        (("sub-1_space-MNI152NLin2009cAsym_bold", "sub-2_space-MNI152NLin6Asym_bold"), NLIN6, ""),
        (("sub-1_space-T1w_bold", "sub-2_space-T1w_bold"), None, ""),
    ],
)
def test_read_runs_images_of_another_space_are_refused(
    tmp_path: Path, names: tuple[str, ...], space: str | None, said: str
) -> None:
    """What an image's name says of its space is compared with the template, and with others."""
    paths = [tmp_path / f"{name}.nii.gz" for name in names]
    for seed, path in enumerate(paths):
        write_run(path, seed=seed)
    if said:
        with pytest.raises(DataError, match=said):
            read(*paths, slice_time_ref=0.0, space=space)
    else:
        assert read(*paths, slice_time_ref=0.0, space=space).n_subjects == 2


def test_read_runs_sidecars_of_other_files_are_not_theirs(tmp_path: Path) -> None:
    """Names that are not BIDS's name one file each: ANNA's times are not BEN's."""
    anna, ben = tmp_path / "ANNA_film.nii.gz", tmp_path / "BEN_film.nii.gz"
    write_run(anna)
    write_run(ben, seed=1)
    (tmp_path / "ANNA_film.json").write_text('{"StartTime": 1.0}')
    assert read(anna).slice_time_ref == 0.5
    with pytest.raises(DataError, match=r"BEN_film.nii.gz: what time of a volume"):
        read(ben)
    (tmp_path / "BEN_film.json").write_text('{"StartTime": 0.0}')
    assert (read(anna).slice_time_ref, read(ben).slice_time_ref) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("image", "table", "fits"),
    [
        ("sub-2_task-film_bold", "sub-1_task-film_desc-confounds_timeseries", False),
        ("sub-1_task-film_run-1_bold", "sub-1_task-film_run-2_desc-confounds_timeseries", False),
        ("sub-1_ses-a_task-film_bold", "sub-1_ses-b_task-film_desc-confounds_timeseries", False),
        ("sub-1_run-01_space-X_desc-preproc_bold", "sub-1_run-1_desc-confounds_timeseries", True),
        ("sub-1_task-film_bold", "motion", True),
    ],
)
def test_read_runs_confounds_of_another_run_are_refused(
    tmp_path: Path, image: str, table: str, fits: bool
) -> None:
    """Tables that a shell sorted otherwise than images are told by their names."""
    path = tmp_path / f"{image}.nii.gz"
    write_run(path)
    confounds = [write_table(tmp_path / f"{table}.tsv", 3)]
    if fits:
        assert read(path, confounds=confounds, slice_time_ref=0.0).n_subjects == 1
    else:
        with pytest.raises(DataError, match=r"must hold the confounds of .* of another run by"):
            read(path, confounds=confounds, slice_time_ref=0.0)


def test_measured_responses_that_do_not_say_their_time_are_refused(tmp_path: Path) -> None:
    """An archive of before, or one made by hand, lacks it: half a repetition is not guessed."""
    write_run(tmp_path / "a_bold.nii.gz")
    measured = read(tmp_path / "a_bold.nii.gz", slice_time_ref=0.5)
    unknown = save_measured(replace(measured, slice_time_ref=None), tmp_path / "film.npz")
    with pytest.raises(DataError, match=r"film.npz: what time of a volume .*`slice_time_ref`: 0.5"):
        _timed(RunSettings(), read_measured(unknown))
    told = RunSettings(slice_time_ref=0.5)
    assert _timed(told, read_measured(unknown)) == told


def test_read_runs_volumes_of_zeros_are_refused(tmp_path: Path) -> None:
    """A scan that broke off is no signal that falls to 0."""
    path = tmp_path / "a_bold.nii.gz"
    values = write_run(path)
    values[..., 50:] = 0
    image = nib.load(path)
    nib.save(nib.Nifti1Image(values, None, image.header), path)
    with pytest.raises(DataError, match=r"got 0 in all voxels in 10 of 60, first in volume 50"):
        read(path, slice_time_ref=0.0)


def test_check_volumes_a_voxel_may_be_0() -> None:
    """One without any value is what is refused."""
    check_volumes(np.array([[0.0, 1.0], [3.0, 2.0]]), "run")


def test_read_measured_masks_are_0_and_1(tmp_path: Path) -> None:
    """A mask of other numbers is not taken for one."""
    write_run(tmp_path / "a_bold.nii.gz")
    measured = read(tmp_path / "a_bold.nii.gz", slice_time_ref=0.0)
    save_measured(measured, tmp_path / "film.npz")
    with np.load(tmp_path / "film.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays["mask"] = arrays["mask"] * 0.4
    arrays["mask"][0] = 1.0
    np.savez(tmp_path / "film.npz", **arrays)
    with pytest.raises(DataError, match=r"must hold a mask of 0 and 1; got 0\.4, too"):
        read_measured(tmp_path / "film.npz")

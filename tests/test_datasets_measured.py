"""Measured responses: reading, cleaning, ROIs on another grid, and Partly Cloudy's layout."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn import signal
from numpy.typing import NDArray

from imgtofmri.datasets.partly_cloudy import (
    PARTLY_CLOUDY_BOUNDARIES,
    PARTLY_CLOUDY_EVENT_STARTS,
    PARTLY_CLOUDY_SKIP_VOLUMES,
    fetch_partly_cloudy,
)
from imgtofmri.events import check_boundaries
from imgtofmri.exceptions import AssetError, DataError, OptionError, ShapeError
from imgtofmri.measured.movie import MeasuredMovie, read_measured, save_measured
from imgtofmri.measured.runs import read_runs
from imgtofmri.spaces import Grid, resample_mask

SHAPE = (10, 12, 9)
AFFINE = np.array([[-4.0, 0, 0, 20], [0, 4, 0, -24], [0, 0, 4, -18], [0, 0, 0, 1]])
FINE = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -24], [0, 0, 2, -18], [0, 0, 0, 1]])
N_VOLUMES = 60
CONFOUNDS = ("trans_x", "framewise_displacement", "csf")


@pytest.fixture
def masks() -> dict[str, NDArray[np.bool_]]:
    """Return two ROIs on a grid of 2 mm."""
    loc, ppa = np.zeros((2, 20, 24, 18), bool)
    loc[4:10, 6:12, 4:10] = True
    ppa[12:16, 6:12, 4:8] = True
    return {"LOC": loc, "PPA": ppa}


def write_run(path: Path, rng: np.random.Generator, n_volumes: int = N_VOLUMES) -> NDArray:
    """Write a run of noise, drift and a mean, and return its values."""
    values = 100 + rng.standard_normal((*SHAPE, n_volumes)) + np.linspace(0, 5, n_volumes)
    run = nib.Nifti1Image(values.astype(np.float32), AFFINE)
    run.header.set_zooms((4, 4, 4, 2.0))
    run.header.set_xyzt_units("mm", "sec")
    nib.save(run, path)
    return values.astype(np.float32)


def write_confounds(path: Path, rng: np.random.Generator, n_volumes: int = N_VOLUMES) -> NDArray:
    """Write a table with an n/a in its first row, and return it with the mean there."""
    table = pd.DataFrame(rng.standard_normal((n_volumes, 3)), columns=list(CONFOUNDS))
    table.loc[0, "framewise_displacement"] = np.nan
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return table.fillna(table.mean()).to_numpy()


@pytest.fixture
def runs(tmp_path: Path, rng: np.random.Generator) -> list[Path]:
    """Write the runs of three subjects."""
    paths = [tmp_path / f"sub-{index}_task-film_bold.nii.gz" for index in range(3)]
    (tmp_path / "task-film_bold.json").write_text('{"StartTime": 0.0, "RepetitionTime": 2.0}')
    for path in paths:
        write_run(path, rng)
    return paths


def test_read_runs_equals_nilearns_cleaning(
    tmp_path: Path, rng: np.random.Generator, masks: dict[str, NDArray[np.bool_]]
) -> None:
    """Cleaned time courses are those of nilearn's signal.clean with the same regressors."""
    path, table = tmp_path / "sub-1_bold.nii.gz", tmp_path / "sub-1_confounds.tsv"
    values, confounds = write_run(path, rng), write_confounds(table, rng)
    path.with_name("sub-1_bold.json").write_text('{"StartTime": 0.0}')
    got = read_runs([path], masks, FINE, confounds=[table], cutoff_s=60.0, progress=False)
    assert got.sources == (path, table)
    expected = signal.clean(
        values[got.mask].T.astype(np.float64),
        confounds=confounds,
        detrend=False,
        standardize=None,
        filter="cosine",
        high_pass=1 / 60.0,
        t_r=2.0,
    )
    assert got.tr_s == 2.0
    assert got.subject_names == ("sub-1",)
    np.testing.assert_allclose(got.data[0], expected - expected.mean(axis=0), atol=2e-4)


def test_read_runs_keeps_the_voxels_of_rois_in_order(
    runs: list[Path], masks: dict[str, NDArray[np.bool_]]
) -> None:
    """Columns are the mask's voxels in C order, and each ROI names its own."""
    got = read_runs(runs, masks, FINE, cutoff_s=None, progress=False)
    assert got.data.shape == (3, N_VOLUMES, int(got.mask.sum()))
    raw = nib.load(runs[1]).get_fdata()[got.mask].T
    np.testing.assert_allclose(got.data[1], raw - raw.mean(axis=0), atol=1e-4)
    volume = np.zeros(SHAPE, bool)
    volume[got.mask] = got.rois["PPA"]
    np.testing.assert_array_equal(volume, resample_mask(masks["PPA"], FINE, Grid(SHAPE, AFFINE)))


def test_read_runs_leaves_out_voxels_without_signal(
    runs: list[Path], masks: dict[str, NDArray[np.bool_]]
) -> None:
    """A voxel that one subject has no data for is left out for all."""
    values = nib.load(runs[2]).get_fdata()
    values[3, 4, 3] = 0
    nib.save(nib.Nifti1Image(values.astype(np.float32), AFFINE), runs[2])
    got = read_runs(runs, masks, FINE, tr_s=2.0, progress=False)
    assert not got.mask[3, 4, 3]
    assert got.mask[3, 4, 2]


def test_resample_mask_to_its_own_grid_is_itself(masks: dict[str, NDArray[np.bool_]]) -> None:
    """On the same grid nothing changes."""
    for mask in masks.values():
        np.testing.assert_array_equal(resample_mask(mask, FINE, Grid(mask.shape, FINE)), mask)


def test_resample_mask_keeps_voxels_half_inside() -> None:
    """On a grid of half the resolution, voxels with four or more of eight inside are kept."""
    rng = np.random.default_rng(1)
    mask = rng.random((8, 6, 10)) < 0.5
    coarse = np.diag([4.0, 4, 4, 1])
    coarse[:3, 3] = 1.0  # each coarse voxel covers exactly eight fine ones
    got = resample_mask(mask, np.diag([2.0, 2, 2, 1]), Grid((4, 3, 5), coarse))
    inside = mask.reshape(4, 2, 3, 2, 5, 2).sum(axis=(1, 3, 5))
    np.testing.assert_array_equal(got, inside >= 4)


def test_resample_mask_of_one_voxel_fills_the_finer_ones_inside_it() -> None:
    """Wherever it lies: 27 voxels of a third of its sides, at either end of the grid, too."""
    for place in ((0, 0, 0), (1, 2, 0), (3, 2, 4)):
        mask = np.zeros((4, 3, 5), dtype=bool)
        mask[place] = True
        fine = np.eye(4)
        fine[:3, 3] = -1.0  # Voxels of 1 mm, of which 27 fill one of 3 mm.
        got = resample_mask(mask, np.diag([3.0, 3, 3, 1]), Grid((12, 9, 15), fine))
        expected = mask.repeat(3, axis=0).repeat(3, axis=1).repeat(3, axis=2)
        np.testing.assert_array_equal(got, expected)


def overlaps(fine: NDArray, coarse: NDArray, n_fine: int, n_coarse: int) -> NDArray[np.float64]:
    """Return the length that each coarse voxel shares with each fine one along an axis, in mm."""

    def edges(line: NDArray, number: int) -> NDArray[np.float64]:
        centres = line[0] * np.arange(number) + line[1]
        return np.sort(np.stack([centres - line[0] / 2, centres + line[0] / 2]), axis=0)

    small, large = edges(fine, n_fine), edges(coarse, n_coarse)
    shared = np.minimum(large[1][:, None], small[1]) - np.maximum(large[0][:, None], small[0])
    return np.maximum(shared, 0.0)


def test_resample_mask_equals_exact_coverage(masks: dict[str, NDArray]) -> None:
    """A voxel is kept where the ROI covers half of it, worked out exactly for upright grids."""
    for mask in masks.values():
        lengths = [
            overlaps(FINE[axis, [axis, 3]], AFFINE[axis, [axis, 3]], mask.shape[axis], SHAPE[axis])
            for axis in range(3)
        ]
        covered = np.einsum("ai,bj,ck,ijk->abc", *lengths, mask.astype(float)) / 4.0**3
        got = resample_mask(mask, FINE, Grid(SHAPE, AFFINE))
        assert got.any()
        np.testing.assert_array_equal(got, covered >= 0.5)


def test_save_measured_is_read_back(
    tmp_path: Path, runs: list[Path], masks: dict[str, NDArray[np.bool_]]
) -> None:
    """What is written is read back, names, ROIs and all."""
    measured = read_runs(runs, masks, FINE, progress=False)
    again = read_measured(save_measured(measured, tmp_path / "new" / "film.npz"))
    np.testing.assert_array_equal(again.data, measured.data)
    np.testing.assert_array_equal(again.mask, measured.mask)
    np.testing.assert_array_equal(again.rois["LOC"], measured.rois["LOC"])
    assert again.subject_names == measured.subject_names == ("sub-0", "sub-1", "sub-2")
    assert (again.tr_s, again.n_subjects, again.n_timepoints) == (2.0, 3, N_VOLUMES)
    assert again.sources == (tmp_path / "new" / "film.npz",)


def test_read_runs_bad_files_are_named(
    tmp_path: Path,
    rng: np.random.Generator,
    runs: list[Path],
    masks: dict[str, NDArray[np.bool_]],
) -> None:
    """Files that are missing, cut short, damaged, flat, of another grid or with NaN."""

    def load(*paths: Path) -> MeasuredMovie:
        return read_runs(paths, masks, FINE, tr_s=2.0, slice_time_ref=0.0, progress=False)

    with pytest.raises(DataError, match=r"gone.nii.gz must be a NIfTI image; .*there is no file"):
        load(runs[0], tmp_path / "gone.nii.gz")
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(runs[0].read_bytes()[:-20000])
    with pytest.raises(DataError, match=r"cut.nii.gz must be a whole NIfTI image"):
        load(runs[0], cut)
    whole = runs[0].read_bytes()
    for name, place in (("middle", len(whole) // 2), ("checksum", len(whole) - 6)):
        damaged = tmp_path / f"{name}.nii.gz"
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=rf"{name}.nii.gz must be a whole NIfTI image"):
            load(runs[0], damaged)
    flat = tmp_path / "flat.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE), flat)
    with pytest.raises(DataError, match=r"flat.nii.gz must be a 4-D image, one volume"):
        load(flat)
    write_run(tmp_path / "long.nii.gz", rng, 61)
    with pytest.raises(ShapeError, match=r"60 volumes; got \(10, 12, 9\) and 61"):
        load(runs[0], tmp_path / "long.nii.gz")
    values = np.asarray(nib.load(runs[0]).dataobj).copy()
    values[3, 4, 3, 17] = np.nan
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "nan.nii.gz")
    with pytest.raises(DataError, match=r"nan.nii.gz must be finite .* 1 values .* volume 17"):
        load(runs[0], tmp_path / "nan.nii.gz")
    write_run(tmp_path / "short.nii.gz", rng, 2)
    with pytest.raises(DataError, match="3 time points or more are needed; got 2"):
        load(tmp_path / "short.nii.gz")


def test_read_runs_bad_options_are_named(
    tmp_path: Path,
    rng: np.random.Generator,
    runs: list[Path],
    masks: dict[str, NDArray[np.bool_]],
) -> None:
    """No file, confounds that do not fit, a wrong TR, and ROIs outside each have an error."""
    with pytest.raises(OptionError, match="one file or more; got none"):
        read_runs([], masks, FINE)
    table = tmp_path / "confounds.tsv"
    with pytest.raises(ShapeError, match="one file for each of 3 images; got 1"):
        read_runs(runs, masks, FINE, confounds=[table], progress=False)
    write_confounds(table, rng, 59)
    with pytest.raises(ShapeError, match="one row for each of 60 volumes; got 59"):
        read_runs(runs[:1], masks, FINE, confounds=[table], progress=False)
    table.write_text("a\tb\n" + "1\tx\n" * 60)
    with pytest.raises(DataError, match=r"confounds.tsv, line 2: b must be a number; got 'x'"):
        read_runs(runs[:1], masks, FINE, confounds=[table], progress=False)
    table.write_text("a\n" + "1\n" * 30 + "n/a\n" * 30)
    with pytest.raises(DataError, match="finite after the first row; got 30"):
        read_runs(runs[:1], masks, FINE, confounds=[table], progress=False)
    with pytest.raises(DataError, match=r"repetition time must be one; got 2000 s .* 2 s from"):
        read_runs(runs, masks, FINE, tr_s=2000.0, progress=False)
    with pytest.raises(ShapeError, match="one for each of 3 images; got 1"):
        read_runs(runs, masks, FINE, subject_names=["a"], progress=False)
    with pytest.raises(OptionError, match="one file for each subject; got .* 2 times"):
        read_runs([runs[0], runs[1], runs[0]], masks, FINE, progress=False)
    far = FINE.copy()
    far[:3, 3] += 500
    with pytest.raises(DataError, match="ROI LOC must cover at least one voxel"):
        read_runs(runs, masks, far, progress=False)
    values = np.asarray(nib.load(runs[0]).dataobj).copy()
    values[resample_mask(masks["PPA"], FINE, Grid(SHAPE, AFFINE))] = 0
    nib.save(nib.Nifti1Image(values, AFFINE), runs[0])
    with pytest.raises(DataError, match="ROI PPA must hold voxels that vary in every subject"):
        read_runs(runs, masks, FINE, tr_s=2.0, progress=False)


def test_measured_movie_parts_must_fit() -> None:
    """Arrays that do not belong together, and NaN, are refused with the subject's name."""
    mask, rois = np.ones((2, 1, 1), bool), {"LOC": np.array([True, False])}
    data = np.zeros((2, 5, 2), np.float32)
    with pytest.raises(ShapeError, match=r"1 subjects and the mask's 2 voxels; got \(2, 5, 2\)"):
        MeasuredMovie(data, ("a",), 2.0, mask, np.eye(4), rois)
    with pytest.raises(ShapeError, match=r"ROI LOC must be a bool array of the mask's 2 voxels"):
        MeasuredMovie(data, ("a", "b"), 2.0, mask, np.eye(4), {"LOC": np.ones(3, bool)})
    data[1, 2, 0] = np.nan
    with pytest.raises(DataError, match="NaN or infinite in b"):
        MeasuredMovie(data, ("a", "b"), 2.0, mask, np.eye(4), rois)


def test_read_measured_bad_files_are_named(tmp_path: Path) -> None:
    """A file that is no archive, holds objects or lacks an array has an error."""
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad.npz must be an .npz file"):
        read_measured(bad)
    np.savez(bad, data=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(DataError, match=r"bad.npz must be an .npz file of arrays"):
        read_measured(bad)
    np.savez(bad, data=np.zeros(3))
    with pytest.raises(DataError, match="got none of the name affine, mask, subject_names, tr_s"):
        read_measured(bad)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"data": np.full((1, 5, 2), "a")}, DataError, "got data as <U1"),
        ({"data": np.zeros((1, 5, 2), complex)}, DataError, "got data as complex128"),
        ({"tr_s": np.array([2.0, 2.0])}, DataError, r"got tr_s as float64 of shape \(2,\)"),
        ({"affine": np.eye(3)}, DataError, r"got affine as float64 of shape \(3, 3\)"),
        ({"tr_s": np.float64(0)}, OptionError, "tr_s must be between 0.05 and 30 seconds; got 0"),
        ({"tr_s": np.float64(np.nan)}, OptionError, "tr_s must be between .* got nan"),
    ],
)
def test_read_measured_wrong_arrays_are_named(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], words: str
) -> None:
    """An array of another kind or shape, and a TR that no scanner has, are refused."""
    arrays: dict[str, object] = {
        "data": np.zeros((1, 5, 2), np.float32),
        "subject_names": np.array(["a"]),
        "tr_s": np.float64(2),
        "mask": np.ones((2, 1, 1), bool),
        "affine": np.eye(4),
    }
    np.savez(tmp_path / "film.npz", **{**arrays, **changes})
    with pytest.raises(error, match=words):
        read_measured(tmp_path / "film.npz")


def test_read_measured_damaged_archives_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """A file that is empty, cut short or damaged in the middle is refused, and one that is gone."""
    path = tmp_path / "film.npz"
    data = rng.normal(size=(2, 50, 8)).astype(np.float32)
    mask = np.ones((8, 1, 1), bool)
    whole = save_measured(MeasuredMovie(data, ("a", "b"), 2.0, mask, np.eye(4), {}), path)
    content = whole.read_bytes()
    middle = len(content) // 3
    damaged = content[:middle] + bytes(30) + content[middle + 30 :]
    for bad in (b"", content[: len(content) // 2], damaged):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"film.npz must be an .npz file .* cannot be read"):
            read_measured(path)
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        read_measured(path)


@pytest.fixture
def partly_cloudy(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Write a data set of the public one's layout, as nilearn stores it."""
    folder = tmp_path / "nilearn" / "development_fmri"
    folder.mkdir(parents=True)
    names = [f"sub-pixar{number:03d}" for number in (1, 123, 124, 125)]
    kind = ["child", "adult", "adult", "adult"]
    pd.DataFrame(
        {
            "participant_id": names,
            "Age": [4.7, 27.0, 30.0, 22.0],
            "AgeGroup": ["4yo", "Adult", "Adult", "Adult"],
            "Child_Adult": kind,
            "Gender": ["F", "M", "F", "M"],
            "Handedness": ["R", "R", "R", "L"],
        }
    ).to_csv(folder / "participants.tsv", sep="\t", index=False)
    motion = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    compcor = [f"a_comp_cor_{number:02d}" for number in range(6)]
    columns = [*motion, "framewise_displacement", *compcor, "csf", "white_matter", "other"]
    for name in names:
        space = "space-MNI152NLin2009cAsym"
        write_run(folder / f"{name}_task-pixar_{space}_desc-preproc_bold.nii.gz", rng, 168)
        table = pd.DataFrame(rng.standard_normal((168, len(columns))), columns=columns)
        table.to_csv(
            folder / f"{name}_task-pixar_desc-confounds_regressors.tsv", sep="\t", index=False
        )
    return tmp_path / "nilearn"


def test_fetch_partly_cloudy_reads_the_public_layout(
    partly_cloudy: Path,
    masks: dict[str, NDArray[np.bool_]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through nilearn's own fetcher, adults alone come back, cleaned of the confounds they have."""
    monkeypatch.setenv("IMGTOFMRI_OFFLINE", "1")
    got = fetch_partly_cloudy(masks, FINE, n_subjects=3, data_dir=partly_cloudy, progress=False)
    assert got.subject_names == ("sub-pixar123", "sub-pixar124", "sub-pixar125")
    assert (got.n_timepoints, got.tr_s) == (168, 2.0)
    folder = partly_cloudy / "development_fmri"
    table = pd.read_csv(next(folder.glob("sub-pixar124*reducedConfounds*.tsv")), sep="\t")
    assert table.shape == (168, 15)
    for column in table:
        confound = table[column] - table[column].mean()
        assert np.abs(confound.to_numpy() @ got.data[1]).max() < 1e-2
    check_boundaries(PARTLY_CLOUDY_BOUNDARIES, got.n_timepoints - PARTLY_CLOUDY_SKIP_VOLUMES)


def test_partly_cloudy_boundaries_are_the_published_ones() -> None:
    """There are 13 boundaries, 14 events with the first, which starts at once."""
    assert PARTLY_CLOUDY_EVENT_STARTS[0] == 0
    assert len(PARTLY_CLOUDY_BOUNDARIES) == 13
    assert np.diff(PARTLY_CLOUDY_EVENT_STARTS).tolist() == [
        12, 14, 18, 12, 15, 10, 11, 12, 15, 4, 13, 7, 8,
    ]  # fmt: skip


def test_fetch_partly_cloudy_offline_without_data_says_so(
    tmp_path: Path,
    partly_cloudy: Path,
    masks: dict[str, NDArray[np.bool_]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Offline, data that are missing or fewer than asked for are refused before any download."""
    monkeypatch.setenv("IMGTOFMRI_OFFLINE", "1")
    with pytest.raises(AssetError, match=r"33 runs .* got 0 in .*empty"):
        fetch_partly_cloudy(masks, FINE, data_dir=tmp_path / "empty")
    monkeypatch.setenv("NILEARN_DATA", str(partly_cloudy))
    with pytest.raises(AssetError, match="10 runs .* got 3 in .* set NILEARN_DATA to the folder"):
        fetch_partly_cloudy(masks, FINE, n_subjects=10)


def test_fetch_partly_cloudy_failed_download_says_what_to_do(
    tmp_path: Path,
    masks: dict[str, NDArray[np.bool_]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A download that fails becomes one error with a remedy; progress goes to standard error."""

    def refuse(**_: object) -> None:
        print("[fetch_development_fmri] Downloading data ...")  # noqa: T201
        message = "no route to host"
        raise OSError(message)

    monkeypatch.delenv("IMGTOFMRI_OFFLINE", raising=False)
    monkeypatch.setattr("nilearn.datasets.fetch_development_fmri", refuse)
    said = r"could not download Partly Cloudy \(no route to host\).* set NILEARN_DATA to the folder"
    with pytest.raises(AssetError, match=said):
        fetch_partly_cloudy(masks, FINE, data_dir=tmp_path)
    assert capsys.readouterr() == ("", "[fetch_development_fmri] Downloading data ...\n")


def test_fetch_partly_cloudy_number_of_subjects_is_checked(
    masks: dict[str, NDArray[np.bool_]],
) -> None:
    """There are 33 adults and no more."""
    with pytest.raises(OptionError, match="between 1 and 33, the adults there are; got 34"):
        fetch_partly_cloudy(masks, FINE, n_subjects=34)

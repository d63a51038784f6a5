"""Which events, sidecars and confounds go with which run, by names and inheritance."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtofmri.exceptions import DataError
from imgtofmri.measured import find_runs
from imgtofmri.measured.bids import agree, inherited
from imgtofmri.spaces.names import entities


def touch(folder: Path, *names: str) -> None:
    """Make empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_entities_and_agreement() -> None:
    """Indices are compared by their number, labels by their text; an empty label wants none."""
    named = entities("sub-01_task-view_run-01_space-T1w_bold.nii.gz")
    assert named == {"sub": "01", "task": "view", "run": "01", "space": "T1w"}
    assert agree(named, {"run": "1", "res": ""})
    assert not agree(named, {"sub": "1"})
    assert not agree(named, {"res": "2"})
    assert not agree(named, {"space": ""})


def test_inherited_takes_the_most_specific_of_each_folder(tmp_path: Path) -> None:
    """Files apply from the root downwards; one that names another run does not."""
    touch(tmp_path, "task-view_events.tsv", "task-rest_events.tsv", "task-viewing_events.tsv")
    touch(
        tmp_path, "sub-01/sub-01_task-view_events.tsv", "sub-01/sub-01_task-view_run-2_events.tsv"
    )
    touch(tmp_path, "sub-01/func/notes_myevents.tsv")
    wanted = {"sub": "01", "task": "view", "run": "1"}
    args = (tmp_path / "sub-01" / "func", tmp_path, "events", ".tsv")
    assert [path.relative_to(tmp_path).as_posix() for path in inherited(wanted, *args)] == [
        "task-view_events.tsv",
        "sub-01/sub-01_task-view_events.tsv",
    ]
    second = inherited(wanted | {"run": "2"}, *args)
    assert second[-1].name == "sub-01_task-view_run-2_events.tsv"
    touch(tmp_path, "sub-01/task-view_run-1_events.tsv")
    touch(tmp_path, "sub-01/sub-01_run-1_events.tsv")
    with pytest.raises(DataError, match=r"one events.tsv file must apply to .*; got .*, .*Remove"):
        inherited(wanted, *args)


PREP = "prep/sub-01/func/sub-01_task-view"
BOLD = "space-T1w_desc-preproc_bold.nii.gz"


def dataset(folder: Path, *runs: str, confounds: str = "timeseries") -> None:
    """Make the names of fMRIPrep's results for some runs."""
    for run in runs:
        touch(folder, f"{PREP}_{run}_{BOLD}", f"{PREP}_{run}_desc-confounds_{confounds}.tsv")
    (folder / "raw/sub-01/func").mkdir(parents=True, exist_ok=True)


def runs_of(folder: Path, space: str = "T1w", **more: str) -> list[str]:
    """Return the names of the images that are found."""
    found = find_runs(folder / "prep", folder / "raw", "01", "view", space, more or None)
    return [run.bold.name for run in found]


def test_find_runs_one_table_at_the_root_serves_all(tmp_path: Path) -> None:
    """Events at the root go with every run, and those beside a run win; so do sidecars."""
    dataset(tmp_path, "run-1", "run-2")
    touch(
        tmp_path, "raw/task-view_events.tsv", "raw/sub-01/func/sub-01_task-view_run-02_events.tsv"
    )
    touch(tmp_path, "prep/task-view_space-T1w_desc-preproc_bold.json", "raw/task-view_bold.json")
    touch(tmp_path, "prep/task-view_space-MNI_desc-preproc_bold.json", f"{PREP}_run-2_bold.json")
    one, two = find_runs(tmp_path / "prep", tmp_path / "raw", "01", "view", "T1w")
    assert one.events == tmp_path / "raw/task-view_events.tsv"
    assert two.events.name == "sub-01_task-view_run-02_events.tsv"
    assert [path.name for path in one.sidecars] == ["task-view_space-T1w_desc-preproc_bold.json"]
    assert [path.name for path in two.sidecars][1:] == ["sub-01_task-view_run-2_bold.json"]
    assert [path.name for path in one.raw_sidecars] == ["task-view_bold.json"]
    assert one.events in one.files


def test_find_runs_come_in_natural_order_with_old_names_of_confounds(tmp_path: Path) -> None:
    """Run 2 precedes run 10; before 20.2 fMRIPrep called confounds regressors."""
    dataset(tmp_path, "run-10", "run-9", "run-2", confounds="regressors")
    touch(tmp_path, "raw/events.tsv")
    assert [entities(name)["run"] for name in runs_of(tmp_path)] == ["2", "9", "10"]


def test_find_runs_takes_images_that_were_unpacked_once(tmp_path: Path) -> None:
    """A run that lies there as .nii alone is not lost; beside its .nii.gz it is one run."""
    dataset(tmp_path, "run-1", "run-2", "run-3")
    touch(tmp_path, "raw/events.tsv", f"{PREP}_run-1_{BOLD[:-3]}", f"{PREP}_run-2_{BOLD[:-3]}")
    (tmp_path / f"{PREP}_run-2_{BOLD}").unlink()
    found = [name.partition("_bold")[2] for name in runs_of(tmp_path)]
    assert found == [".nii.gz", ".nii", ".nii.gz"]


@pytest.mark.parametrize(
    ("names", "more", "said"),
    [
        (("space-T1w_res-1", "space-T1w_res-2"), {"res": "2"}, r'\(res: 1, 2\).*\{ res = "2" \}'),
        (("space-T1w", "space-T1w_res-2"), {"res": ""}, r"\(res: \(none\), 2\)"),
        (("echo-1_space-T1w", "echo-2_space-T1w"), {"echo": "2"}, r"\(echo: 1, 2\)"),
        (("rec-a_space-T1w", "rec-b_space-T1w"), {"rec": "a"}, r"\(rec: a, b\)"),
    ],
)
def test_find_runs_one_acquisition_twice_must_be_told(
    tmp_path: Path, names: tuple[str, ...], more: dict[str, str], said: str
) -> None:
    """Two resolutions, echoes or reconstructions of a run are not two runs."""
    touch(tmp_path, *(f"{PREP}_run-1_{name}_desc-preproc_bold.nii.gz" for name in names))
    touch(tmp_path, f"{PREP}_run-1_desc-confounds_timeseries.tsv", "raw/task-view_events.tsv")
    with pytest.raises(DataError, match=rf"each run must be there once; got .*{said}"):
        runs_of(tmp_path)
    assert len(runs_of(tmp_path, **more)) == 1


def test_find_runs_never_half_match(tmp_path: Path) -> None:
    """Tasks, spaces and subjects are whole labels; what there is instead is listed."""
    touch(tmp_path, "prep/sub-01/func/sub-01_task-viewing_space-T1w_desc-preproc_bold.nii.gz")
    touch(tmp_path, "prep/sub-01/func/sub-01_task-view_space-T1wx_desc-preproc_bold.nii.gz")
    with pytest.raises(DataError, match=r"there is none among 2 images in T1w,T1wx. Check subject"):
        runs_of(tmp_path)
    dataset(tmp_path, "run-1")
    with pytest.raises(DataError, match=r"needs .*_run-1_events.tsv, which does not exist, nor"):
        runs_of(tmp_path)
    touch(tmp_path, "raw/task-viewing_events.tsv")
    with pytest.raises(DataError, match=r"needs .*_run-1_events.tsv, which does not exist, nor"):
        runs_of(tmp_path)

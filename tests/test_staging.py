"""A dataset takes another's place: killed at any step, the next run ends what was begun."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from imgtofmri.exceptions import OptionError, OutputError
from imgtofmri.outputs import OutputFolder
from imgtofmri.owners import new_part

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked")

OLD = {"a": "old", "sub-1/x": "old", "sub-1/y": "old", "sub-2/x": "old"}
NEW = {"a": "new", "sub-1/x": "new", "sub-3/x": "new"}


def write(target: Path, files: dict[str, str]) -> None:
    """Write a dataset, over an earlier one."""
    folder = OutputFolder.of(target, "simulate", overwrite=True, whole=True)
    with folder.begin({}):
        for name, text in files.items():
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_text(text)


def found(target: Path) -> dict[str, str]:
    """Return what a dataset holds, besides its record."""
    return {
        path.relative_to(target).as_posix(): path.read_text()
        for path in target.rglob("*")
        if path.is_file() and path.name != "simulate.json"
    }


def killed(work: Callable[[], None], step: int) -> bool:
    """Do work in a process that is killed before a step; return whether there were so many."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    steps = 0

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in ("replace", "unlink", "rmdir", "fsync", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    try:
        work()
    finally:
        os._exit(0)


@pytest.mark.slow
def test_exchange_killed_at_every_step_is_ended_by_the_next_run(tmp_path: Path) -> None:
    """Old or new, never a mixture; somebody's own file stays; nothing hidden is left."""
    seen, step = set(), 1
    while True:
        target = tmp_path / f"{step}" / "sim"
        write(target, OLD)
        (target / "mine").write_text("mine")
        if not killed(lambda: write(target, NEW), step):  # noqa: B023
            break
        with pytest.raises(OptionError, match="it holds simulate.json"):
            OutputFolder.of(target, "simulate", whole=True)
        now = found(target)
        assert now.pop("mine") == "mine"
        assert now in (OLD, NEW)
        seen.add(now == NEW)
        assert not [*target.parent.rglob(".*.part")]
        write(target, NEW)
        assert found(target) == NEW | {"mine": "mine"}
        assert sorted(path.name for path in target.parent.iterdir()) == ["sim"]
        step += 1
    assert seen == {True, False}
    assert step > 20


@pytest.mark.slow
def test_first_dataset_killed_at_every_step_is_whole_or_not_there(tmp_path: Path) -> None:
    """And the next run makes it."""
    step = 1
    while True:
        target = tmp_path / f"{step}" / "sim"
        target.parent.mkdir()
        if not killed(lambda: write(target, NEW), step):  # noqa: B023
            break
        if target.exists():
            assert found(target) in (NEW, {})
        write(target, NEW)
        assert found(target) == NEW
        assert sorted(path.name for path in target.parent.iterdir()) == ["sim"]
        step += 1
    assert step > 10


@pytest.mark.slow
def test_mixture_has_no_record(tmp_path: Path) -> None:
    """While old and new files lie side by side, no record says that they belong together."""
    steps = 0
    for step in range(1, 80):
        target = tmp_path / f"{step}" / "sim"
        write(target, OLD)
        if not killed(lambda: write(target, NEW), step):  # noqa: B023
            break
        if found(target) not in (OLD, NEW):
            steps += 1
            assert not (target / "simulate.json").exists()
    assert steps


@pytest.mark.parametrize("where", ["below", "top"])
def test_record_that_names_a_path_through_a_link_removes_nothing_outside(
    tmp_path: Path, where: str
) -> None:
    """A folder of the dataset became a link to somebody's data."""
    target, outside = tmp_path / "sim", tmp_path / "precious"
    write(target, {"a": "old", "sub-1/func/x": "old"} if where == "below" else OLD)
    link = target / "sub-1" / "func" if where == "below" else target / "sub-1"
    for path in sorted(link.rglob("*"), reverse=True):
        path.unlink()
    link.rmdir()
    outside.mkdir()
    (outside / "x").write_text("precious")
    link.symlink_to(outside)
    with pytest.raises(OutputError, match=r"expected a folder, .* it is a link to another place"):
        write(target, {"a": "new"})
    assert (outside / "x").read_text() == "precious"
    assert (target / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "sim"]


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "../a", ""])
def test_record_that_names_what_is_no_file_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is moved: no system has files of such names, or they lie elsewhere."""
    target = tmp_path / "sim"
    write(target, OLD)
    record = json.loads((target / "simulate.json").read_text())
    record["outputs"].append({"file": name, "sha256": "0" * 64})
    (target / "simulate.json").write_text(json.dumps(record))
    before = found(target)
    with pytest.raises(OutputError, match="which is outside, or can be no file"):
        write(target, NEW)
    assert found(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sim"]


def leave_stage(folder: Path, plan: str, name: str = "") -> None:
    """Leave a stage in a folder, with its plan and perhaps a file, as a process that was killed."""
    child = os.fork()
    if not child:
        stage = new_part(folder)
        (stage / "files").mkdir(parents=True)
        if name:
            (stage / "files" / name).write_text("new")
        (stage / "exchange.json").write_text(plan)
        os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            '{"target": "sim", "replaced": ["../precious"], "new": ["simulate.json"]}',
            "it names files outside",
        ),
        ('{"target": "sim", "replaced": ["a"], "new": ["/simulate.json"]}', "it names files outs"),
        ('{"target": "sim", "replaced": ["a"], "new": []}', "it names no new files"),
        ('{"target": "sim", "replaced": 3, "new": ["simulate.json"]}', "TypeError"),
        ('{"target": "sim"}', "KeyError"),
        ('["sim"]', "TypeError"),
        ("{", "JSONDecodeError"),
    ],
)
def test_plan_that_cannot_be_read_is_one_error(tmp_path: Path, plan: str, said: str) -> None:
    """A stage of a dead process whose plan is damaged, or leads outside, is not carried out."""
    target = tmp_path / "sim"
    write(target, OLD)
    leave_stage(tmp_path, plan)
    (tmp_path / "precious").write_text("precious")
    with pytest.raises(OutputError, match=f"expected the plan .*{said}"):
        write(target, NEW)
    assert (tmp_path / "precious").read_text() == "precious"
    assert found(target) == OLD


@pytest.mark.parametrize(
    ("replaced", "new", "why"),
    [
        ("b", "a", "Is a directory"),
        ("9" * 5000, "a", "File name too long"),
        ("c", "9" * 5000, "File name too long"),
        ("c", "b", "Is a directory|not empty"),
    ],
)
def test_plan_that_cannot_be_carried_out_is_one_error(
    tmp_path: Path, replaced: str, new: str, why: str
) -> None:
    """Names of folders, and names that no file can have: nothing but an `OutputError`."""
    target = tmp_path / "data"
    (target / "b").mkdir(parents=True)
    (target / "b" / "mine").write_text("mine")
    plan = {"target": "data", "replaced": [replaced], "new": [new]}
    leave_stage(tmp_path, json.dumps(plan), "b" if new == "b" else "")
    with pytest.raises(OutputError, match=why):
        OutputFolder.of(target, "simulate", overwrite=True, whole=True)
    assert (target / "b" / "mine").read_text() == "mine"


@pytest.mark.parametrize("whole", [True, False])
def test_result_that_bears_the_records_name_is_refused_and_nothing_is_lost(
    tmp_path: Path, whole: bool
) -> None:
    """A sidecar of a table that is called as the record is a mistake of whoever wrote it."""
    folder = OutputFolder.of(tmp_path / "out", "predict", whole=whole)
    with (
        pytest.raises(AssertionError, match=r"^predict\.json is the record of predict: a table"),
        folder.begin({}),
    ):
        sidecar = folder.path / "predict.json"
        sidecar.write_text("{}")
        folder.wrote(sidecar)
    assert (tmp_path / "out").exists() == (not whole)
    again = OutputFolder.of(tmp_path / "out", "predict", whole=whole, overwrite=True)
    with again.begin({}):  # The lock is free.
        (again.path / "predict.tsv").write_text("a\n")
        again.wrote(again.path / "predict.tsv")
    assert (tmp_path / "out" / "predict.tsv").exists()

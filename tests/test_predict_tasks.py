"""Which of several tasks a process is."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from imgtofmri.analyses.predict.tasks import Task, find_task
from imgtofmri.exceptions import OptionError


def slurm(number: int, first: int, last: int, step: int = 1) -> dict[str, str]:
    """Return what Slurm sets for one task of ``--array=first-last:step``."""
    found = {"ID": number, "MIN": first, "MAX": last, "STEP": step}
    found["COUNT"] = len(range(first, last + 1, step))
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in found.items()}


def sge(number: int, first: int, last: int, step: int = 1) -> dict[str, str]:
    """Return what SGE sets for one task of ``-t first-last:step``."""
    found = {"ID": number, "FIRST": first, "LAST": last, "STEPSIZE": step}
    return {f"SGE_TASK_{name}": str(value) for name, value in found.items()}


@pytest.mark.parametrize("scheduler", [slurm, sge])
@pytest.mark.parametrize("array", [(1, 8, 1), (0, 7, 1), (5, 12, 1), (2, 23, 3)])
def test_tasks_of_an_array_are_numbered_from_one_and_all_there(
    scheduler: Callable[..., dict[str, str]], array: tuple[int, int, int]
) -> None:
    """Whatever the array's numbers are, its tasks are 1/n to n/n, each once."""
    first, last, step = array
    numbers = range(first, last + 1, step)
    tasks = [find_task("auto", scheduler(number, *array)) for number in numbers]
    assert tasks == [Task(i + 1, len(numbers)) for i in range(len(numbers))]


def test_tasks_said_and_counted() -> None:
    """What is said is taken; a count beside auto makes the array's number the task's."""
    assert find_task("3/8", slurm(1, 1, 2)) == Task(3, 8)
    assert find_task((3, 8)) == Task(3, 8)
    for variables in (slurm(7, 3, 7), {"PBS_ARRAY_INDEX": "7"}, sge(7, 1, 8)):
        assert find_task("auto/8", variables) == Task(7, 8)


@pytest.mark.parametrize(
    ("said", "variables", "expected"),
    [
        ("auto", {}, "none is set. Submit it as an array, such as sbatch --array=1-8"),
        ("auto/8", {"SGE_TASK_ID": "undefined"}, "none is set"),
        ("auto", {"PBS_ARRAY_INDEX": "2"}, "which PBS does not tell.*auto/8"),
        ("auto", slurm(7, 3, 7) | {"SLURM_ARRAY_TASK_COUNT": "2"}, "not numbered one after"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "x"}, "a whole number in SLURM_ARRAY_TASK_ID; got 'x'"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1"}, "a whole number in SLURM_ARRAY_TASK_MIN; got ''"),
        ("auto/8", {"PBS_ARRAY_INDEX": "0"}, "from 1/8 to 8/8; got number 0 of the job array"),
        ("9/8", {}, "from 1/8 to 8/8; got 9/8"),
        ("0/8", {}, "such as 3/8, auto, or auto/N; got '0/8'"),
        pytest.param(f"3/{'8' * 5000}", {}, "such as 3/8, auto, or auto/N; got '3/888", id="long"),
        pytest.param(f"auto/{'8' * 5000}", {"PBS_ARRAY_INDEX": "1"}, "such as 3/8", id="auto long"),
        ("three", {}, "got 'three'. Count from 1"),
    ],
)
def test_tasks_that_cannot_be_told_are_refused(
    said: str, variables: dict[str, str], expected: str
) -> None:
    """One error says what is missing and what to do."""
    with pytest.raises(OptionError, match=re.compile(expected)):
        find_task(said, variables)

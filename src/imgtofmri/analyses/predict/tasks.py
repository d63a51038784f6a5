"""Which part of a run a task of a job array does: as said, or as the scheduler's variables say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from imgtofmri.exceptions import OptionError

AUTO = "auto"

_SAID = re.compile(r"([1-9][0-9]{0,17})/([1-9][0-9]{0,17})")
_AUTO_OF = re.compile(r"auto/([1-9][0-9]{0,17})")


class Task(NamedTuple):
    """One of several tasks that together do a run.

    Attributes
    ----------
    i : int
        Counted from 1.
    n : int
        How many there are.
    """

    i: int
    n: int

    def __str__(self) -> str:
        return f"{self.i}/{self.n}"


def find_task(said: str | tuple[int, int], variables: Mapping[str, str] | None = None) -> Task:
    """Return which task this process is.

    Parameters
    ----------
    said : str or (int, int)
        ``"3/8"``, the third of eight; ``"auto"``, as the variables of Slurm or SGE say; or
        ``"auto/8"``, one of eight, and which one as the variable of Slurm, PBS or SGE says, whose
        tasks are then numbered from 1.
    variables : mapping of str to str, optional
        By default the environment's.

    Returns
    -------
    Task

    Raises
    ------
    OptionError
        If there is no such task, or no variable says which.

    Examples
    --------
    >>> find_task("auto", {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "8",
    ...                    "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_STEP": "1"})
    Task(i=5, n=8)
    >>> find_task("auto/8", {"PBS_ARRAY_INDEX": "5"})
    Task(i=5, n=8)
    """
    text = said if isinstance(said, str) else "/".join(map(str, said))
    known = os.environ if variables is None else variables
    if found := _SAID.fullmatch(text):
        i, n = map(int, found.groups())
        source = text
    elif found := _AUTO_OF.fullmatch(text):
        i, n = _index(known), int(found[1])
        source = f"number {i} of the job array"
    elif text == AUTO:
        i, n = _counted(known)
        source = f"{i} of {n} in the job array"
    else:
        message = (
            f"shard must be I/N, such as 3/8, auto, or auto/N; got {text!r}. Count from 1: the "
            "first of eight is 1/8."
        )
        raise OptionError(message, "shard")
    if not 1 <= i <= n:
        message = (
            f"shard must be from 1/{n} to {n}/{n}; got {source}. Number the tasks from 1 to {n}, "
            "each once."
        )
        raise OptionError(message, "shard")
    return Task(i, n)


def _counted(variables: Mapping[str, str]) -> Task:
    """Return the task that the variables say, of as many as they say."""
    for names in (
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"),
        ("SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_STEPSIZE"),
    ):
        if not _is_set(variables, names[0]):
            continue
        number = _number(variables, names[0])
        first, step = _number(variables, names[1]), _number(variables, names[2], "1")
        if names[0].startswith("SLURM"):
            n = _number(variables, "SLURM_ARRAY_TASK_COUNT")
        else:
            n = (_number(variables, "SGE_TASK_LAST") - first) // max(step, 1) + 1
        i, rest = divmod(number - first, max(step, 1))
        if rest or not 0 <= i < n:
            message = (
                f"shard cannot be told from the job array: its tasks are not numbered one after "
                f"the other ({names[0]} is {number}, the first {first}, their count {n}). Use "
                "`shard` auto/N, N being how many there were at first."
            )
            raise OptionError(message, "shard")
        return Task(i + 1, n)
    if _is_set(variables, "PBS_ARRAY_INDEX"):
        message = (
            "shard auto needs how many tasks there are, which PBS does not tell; PBS_ARRAY_INDEX "
            f"is {variables['PBS_ARRAY_INDEX']}. Use auto/8, for example, for qsub -J 1-8."
        )
        raise OptionError(message, "shard")
    raise _none_set()


def _index(variables: Mapping[str, str]) -> int:
    for name in ("SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "SGE_TASK_ID"):
        if _is_set(variables, name):
            return _number(variables, name)
    raise _none_set()


def _none_set() -> OptionError:
    message = (
        "shard auto needs the variable of a job array, SLURM_ARRAY_TASK_ID, PBS_ARRAY_INDEX or "
        "SGE_TASK_ID; none is set. Submit it as an array, such as sbatch --array=1-8, or say which "
        "it is, such as 3/8."
    )
    return OptionError(message, "shard")


def _is_set(variables: Mapping[str, str], name: str) -> bool:
    # SGE sets its variable in jobs that are no array, too.
    return variables.get(name, "") not in ("", "undefined")


def _number(variables: Mapping[str, str], name: str, usual: str = "") -> int:
    text = variables.get(name) or usual
    if not re.fullmatch(r"\d{1,12}", text):
        message = f"shard needs a whole number in {name}; got {text!r}. Say which it is: 3/8."
        raise OptionError(message, "shard")
    return int(text)

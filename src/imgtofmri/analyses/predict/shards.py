"""Runs that write to a store: as a whole, or one task of several, which a merge ends.

Tasks know nothing of each other: each makes or joins the same store, does shards of its own and
marks them. They may run in any order, at the same time, on any machines, be killed and repeated.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from imgtofmri.analyses.predict.images import RunSummary
from imgtofmri.analyses.predict.recipe import Recipe
from imgtofmri.analyses.predict.spread import spread
from imgtofmri.analyses.predict.stores import (
    StoreRun,
    close_store,
    count_rows,
    known_rows,
    runs_of,
)
from imgtofmri.analyses.predict.tasks import Task
from imgtofmri.documents import parse_json, read_text
from imgtofmri.encoder import Predictor, Provenance
from imgtofmri.encoder.saving import COMMAND, RECORD
from imgtofmri.encoder.storing import STORE
from imgtofmri.exceptions import DataError, StimulusError
from imgtofmri.files import check_room
from imgtofmri.outputs import OutputFolder
from imgtofmri.outputs.store import Store
from imgtofmri.progress import track
from imgtofmri.stimuli import Failure, Source
from imgtofmri.stimuli.listed import names_of, of_kind

_THREADS = 4
_MOST_NAMED = 8


def predict_store(
    predictor: Predictor,
    sources: Sequence[Source],
    folder: OutputFolder,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    recipe: Recipe | None = None,
    workers: int = 1,
    client: Any = None,
    progress: bool = True,
) -> RunSummary:
    """Predict images and movies into the store of a folder.

    Parameters
    ----------
    predictor : Predictor
    sources : sequence of Source
    folder : OutputFolder
        Begun. What its store holds and can be verified is not predicted again if it resumes.
    settings : mapping
        What the folder's record says of how the run writes.
    options : mapping
        What `StoreRun.create` takes by name.
    recipe : Recipe, optional
        Of the predictor, for other processes.
    workers : int
        Processes of this machine; by default this one alone.
    client : distributed.Client, optional
        Of a Dask cluster whose workers do all instead.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    RunSummary

    Raises
    ------
    OptionError
        If a store of other settings is there.
    DataError
        If the store that is there is damaged.
    OutputError
        If it cannot be written.
    """
    path = folder.path / STORE
    failures: list[Failure] = []
    images, movies = of_kind(sources, "image"), of_kind(sources, "movie")
    rows = count_rows(images, movies, options["rate_hz"], failures.append)
    if not folder.resumes:
        Store.remove(path)
    if not rows.sources:
        for failure in failures:
            folder.fail(failure.name, str(failure.error))
        return RunSummary(failures=failures)
    run = StoreRun.create(predictor, rows, path, settings, **options, grow=folder.resumes)
    store = run.store
    store.sweep()
    left = list(store.unfinished())
    check_room(path, sum(map(store.plan.shard_bytes, left)))
    with track("Predicting", store.plan.n_rows, "maps", enabled=progress) as advance:
        if recipe is None or (workers == 1 and client is None):
            run.work(range(store.plan.n_shards), advance)
        else:
            spread(run, recipe, workers=workers, client=client, advance=advance)
    gone = close_store(folder, store)
    lost = {name: Failure(name, StimulusError(one.reason)) for name, one in gone.items()}
    for failure in (*failures, *lost.values()):
        folder.fail(failure.name, str(failure.error))
    found = [name for name in names_of(rows.sources) if name not in lost]
    asked = set(names_of(sources))
    return RunSummary(
        [name for name in found if name in run.predicted],
        [name for name in found if name not in run.predicted],
        [*failures, *(failure for name, failure in lost.items() if name in asked)],
    )


def predict_task(
    predictor: Predictor,
    sources: Sequence[Source],
    failures: Sequence[Failure],
    folder: OutputFolder,
    settings: Mapping[str, Any],
    task: Task,
    options: Mapping[str, Any],
    *,
    progress: bool = True,
) -> RunSummary:
    """Do the shards of one task.

    Parameters
    ----------
    predictor : Predictor
    sources : sequence of Source
        Those of the whole run: the same for all tasks, in the same order.
    failures : sequence of Failure
        Inputs that are none.
    folder : OutputFolder
        Claimed, and not begun: tasks share it.
    settings : mapping
        What the folder's record says of how the run writes.
    task : Task
    options : mapping
        What `StoreRun.create` takes by name.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    RunSummary
        Of the stimuli of this task. Inputs that no task can use are in the folder's record.

    Raises
    ------
    OptionError
        If a store of other settings or of other stimuli is there.
    DataError
        If the store that is there is damaged.
    OutputError
        If it cannot be written.
    """
    unusable = list(failures)
    path = folder.path / STORE
    images, movies = of_kind(sources, "image"), of_kind(sources, "movie")
    rows = known_rows(path, images, movies) if movies else None
    if rows is None:
        rows = count_rows(images, movies, options["rate_hz"], unusable.append)
    reasons = {failure.name: str(failure.error) for failure in unusable}
    folder.announce(settings, predictor.provenance.to_dict(), reasons, task.n)
    if not rows.sources:
        return RunSummary(failures=unusable)
    run = StoreRun.create(predictor, rows, path, settings, **options)
    store = run.store
    share = store.plan.share(*task)
    left = [shard for shard in share.shards if not store.is_done(shard)]
    check_room(path, sum(map(store.plan.shard_bytes, left)))
    with track(f"Predicting {task}", len(share.rows), "maps", enabled=progress) as advance:
        run.work(share.shards, advance)
    names = list(dict.fromkeys(store.row_names(share.rows)))
    lost = store.lost(share.shards)
    return RunSummary(
        [name for name in names if name in run.predicted and name not in lost],
        [name for name in names if name not in run.predicted and name not in lost],
        [Failure(name, StimulusError(one.reason)) for name, one in lost.items()],
    )


def merge_shards(folder: str | Path, *, progress: bool = True) -> RunSummary:
    """Check all shards of a store that tasks made, and write the record of the run.

    Parameters
    ----------
    folder : str or Path
        Where the tasks wrote.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    RunSummary
        With all stimuli as kept; failures are those of all tasks.

    Raises
    ------
    DataError
        If there is no store, or shards are missing or damaged: which, and how to make them.
    OptionError
        If another release of imgtofmri made it.
    OutputError
        If a run is writing there, or the record cannot be written.
    """
    output = OutputFolder(Path(folder), COMMAND, RECORD)
    store = Store.open(output.path / STORE)
    names = list(dict.fromkeys(store.names))
    said = _said(output.record)
    _check_whole(store, said, progress)
    output.claim(resume=True)
    # What the record of the tasks says besides is of the machine of the first.
    prediction = {
        **said.get("prediction", {}),
        **Provenance.of_stored(store.settings["prediction"]).to_dict(),
    }
    with output.begin(store.settings["settings"], prediction):
        store.sweep()
        output.tell("command_line", said.get("command_line"))
        lost = close_store(output, store)
        known = set(names)
        reasons = {name: why for name, why in said.get("failures", ()) if name not in known}
        reasons |= {name: one.reason for name, one in lost.items()}
        for name, reason in reasons.items():
            output.fail(name, reason)
    failures = [Failure(name, StimulusError(reason)) for name, reason in reasons.items()]
    return RunSummary(kept=[name for name in names if name not in lost], failures=failures)


def _said(record: Path) -> Mapping[str, Any]:
    """Return what the record of the run says so far; nothing if there is none."""
    try:
        said = parse_json(read_text(record))
        failures = [(str(each["name"]), str(each["reason"])) for each in said["failures"]]
        prediction = dict(said["prediction"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError) as error:
        message = (
            f"{record}: expected the record of a run; it is damaged or of another kind "
            f"({type(error).__name__}: {error}). Remove it and run any of the tasks again."
        )
        raise DataError(message) from error
    return dict(said) | {"failures": failures, "prediction": prediction}


def _check_whole(store: Store, said: Mapping[str, Any], progress: bool) -> None:
    """Refuse a store of which anything is missing, or is not what was written."""
    missing = [file for file in store.frame_files(marks=False) if not file.is_file()]
    if missing:
        message = (
            f"{store.path}: expected {missing[0].relative_to(store.path)}, which every task "
            f"writes; it is not there. Run any task again: {_command(said, Task(1, 1))}."
        )
        raise DataError(message)
    wrong: dict[int, str] = {}
    with (
        track("Verifying", store.plan.n_rows, "maps", enabled=progress) as advance,
        ThreadPoolExecutor(_THREADS, "imgtofmri-verify") as threads,
    ):
        for shard, reason in enumerate(threads.map(store.verify, range(store.plan.n_shards))):
            if reason:
                wrong[shard] = reason
            advance(len(store.plan.shard(shard)))
    if not wrong:
        return
    n, n_shards = said.get("tasks"), store.plan.n_shards
    tasks = []
    if isinstance(n, int) and n > 0:
        # The first task whose share ends behind the shard, however many tasks a record speaks of.
        tasks = [Task(i, n) for i in sorted({-(-(shard + 1) * n // n_shards) for shard in wrong})]
    of_tasks = f", those of the tasks {_listed(list(map(str, tasks)))}" if tasks else ""
    command = _command(said, tasks[0] if tasks else Task(1, 1))
    message = (
        f"{store.path}: expected {store.plan.n_shards} shards that are done; {len(wrong)} are not "
        f"({_listed(_ranges(wrong))}){of_tasks}; {next(iter(wrong.values()))}. Run these tasks "
        f"again, then merge: {command}."
    )
    raise DataError(message)


def _command(said: Mapping[str, Any], task: Task) -> str:
    """Return the command line of a task, as that of another was."""
    line = said.get("command_line")
    words: list[str] = []
    if isinstance(line, str):
        with suppress(ValueError):  # A quotation without an end.
            words = shlex.split(line)
    for at, word in enumerate(words):
        if word == "--shard" and at + 1 < len(words):
            return shlex.join([*words[: at + 1], str(task), *words[at + 2 :]])
        if word.startswith("--shard="):
            return shlex.join([*words[:at], f"--shard={task}", *words[at + 1 :]])
    if words:
        return shlex.join([*words, "--shard", str(task)])
    return f"predict_into(..., shard='{task}')"


def _ranges(numbers: Iterable[int]) -> list[str]:
    """Return ascending numbers as words, those that follow one another as ranges."""
    found = runs_of(list(numbers))
    return [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in found]


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _MOST_NAMED
    shown = list(words[:_MOST_NAMED]) + ([f"{more} more"] if more > 0 else [])
    return ", ".join(shown)

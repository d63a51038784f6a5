"""Runs of trials, laid out from kinds of images and numbers of trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from imgtofmri.exceptions import OptionError, StimulusError, choice_message
from imgtofmri.experiments import EventsTable, Experiment, Scan
from imgtofmri.experiments.experiment import check_tables
from imgtofmri.stimuli import find_images

_COLUMNS = ("onset", "duration", "trial_type", "stim_file")


def lay_out_experiment(
    folders: Sequence[str | Path],
    scan: Scan,
    trials: int | Mapping[str, int],
    *,
    duration_s: float = 2.0,
    gap_s: float = 4.0,
    n_runs: int = 1,
    n_volumes: int | None = None,
    seed: int = 0,
) -> Experiment:
    """Lay out runs of trials: each shows images of every kind, in random order, evenly spaced.

    Parameters
    ----------
    folders : sequence of str or Path
        One for each condition, which is named after it.
    scan : Scan
    trials : int or mapping of str to int
        Trials of each condition in a run. Images come again only when all of their folder were
        shown.
    duration_s : float
        How long each image is shown.
    gap_s : float
        From the end of an image to the onset of the next.
    n_runs : int
        How many runs to lay out, each in an order of its own.
    n_volumes : int, optional
        Length of each run; by default up to 16 s after its last trial.
    seed : int
        Seed of the order.

    Returns
    -------
    Experiment

    Raises
    ------
    OptionError
        If there are fewer than two folders, two of one name, a number of trials is missing or below
        1, or a time is out of range.
    StimulusError
        If a folder holds no images, or files that are none.
    """
    paths = {Path(folder).resolve().name: Path(folder) for folder in folders}
    if len(paths) != len(folders) or len(paths) < 2:
        message = (
            "expected two folders or more, of different names, as they name the conditions; got "
            f"{', '.join(map(str, folders)) or 'none'}. Give one for each condition."
        )
        raise OptionError(message)
    numbers = _numbers(trials, list(paths))
    for name, value, least in (("duration_s", duration_s, 1e-3), ("gap_s", gap_s, 0.0)):
        if not (np.isfinite(value) and value >= least):
            message = f"{name} must be {least:g} seconds or more; got {value:g}. Raise it."
            raise OptionError(message, name)
    files: dict[str, Path] = {}
    pools: dict[str, list[str]] = {}
    for name, folder in paths.items():
        images, failures = find_images([folder])
        if failures:
            message = (
                f"{folder}: every image must be usable; {len(failures)} cannot be used: "
                f"{'; '.join(str(failure.error) for failure in failures)}"
            )
            raise StimulusError(message)
        pools[name] = [f"{name}/{image.path.name}" for image in images]
        files |= dict(zip(pools[name], (image.path for image in images), strict=True))
    rng = np.random.default_rng(seed)
    endless = {name: _endless(pool, rng) for name, pool in pools.items()}
    tables = []
    for number in range(n_runs):
        shown = [
            (name, next(endless[name])) for name, count in numbers.items() for _ in range(count)
        ]
        order = rng.permutation(len(shown))
        rows = tuple(
            (f"{place * (duration_s + gap_s):.10g}", f"{duration_s:.10g}", *shown[index])
            for place, index in enumerate(order)
        )
        lines = tuple(range(2, 2 + len(rows)))
        tables.append(EventsTable(Path(f"run-{number + 1:02d}"), _COLUMNS, rows, lines))
    check_tables(tables, scan, n_volumes)
    used = {name for table in tables for name in table.stim_files}
    stimuli = tuple((name, path) for name, path in files.items() if name in used)
    layout = {"trials": numbers, "duration_s": duration_s, "gap_s": gap_s, "seed": seed}
    return Experiment(scan, stimuli, tuple(tables), n_volumes=n_volumes, layout=layout)


def parse_trials(words: Sequence[str]) -> int | dict[str, int]:
    """Read ``["20"]``, trials of every condition, or ``["place=20", "object=10"]``.

    Raises
    ------
    OptionError

    Examples
    --------
    >>> parse_trials(["20"]), parse_trials(["place=20", "object=10"])
    (20, {'place': 20, 'object': 10})
    """
    try:
        if len(words) == 1 and "=" not in words[0]:
            return int(words[0])
        pairs = [word.rpartition("=") for word in words]
        if all(name for name, _, _ in pairs):
            return {name: int(number) for name, _, number in pairs}
    except ValueError:
        pass
    message = (
        "trials must be a whole number for all conditions, or CONDITION=NUMBER for each; got "
        f"{' '.join(words)!r}. Write for example 20, or place=20 and object=10."
    )
    raise OptionError(message, "trials")


def _numbers(trials: int | Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    """Return how many trials each condition has."""
    numbers = dict.fromkeys(names, trials) if isinstance(trials, int) else dict(trials)
    unknown = next((name for name in numbers if name not in names), None)
    if unknown is not None:
        raise OptionError(choice_message("", "trials", unknown, names), "trials")
    few = [name for name in names if numbers.get(name, 0) < 1]
    if few:
        message = (
            "trials must be 1 or more for each condition; got "
            f"{', '.join(f'{numbers.get(name, 0)} of {name}' for name in few)}. Give a number."
        )
        raise OptionError(message, "trials")
    return {name: numbers[name] for name in names}


def _endless(pool: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Yield images in random order, all of them before any comes again."""
    while True:
        yield from (pool[index] for index in rng.permutation(len(pool)))

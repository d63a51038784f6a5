"""`plan_prediction`: what a run would take, from its inputs and a second that is measured."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from imgtofmri.analyses.predict.request import Inputs, Ready, Request, sources_of
from imgtofmri.encoder import Encoder, Prediction, Settings
from imgtofmri.encoder.movie_files import mean_rows
from imgtofmri.encoder.saving import COMMAND, RECORD, MapWriter, RoiTableWriter, roi_rows
from imgtofmri.encoder.storing import plan_store, store_rows
from imgtofmri.exceptions import StimulusError
from imgtofmri.files import cannot_write, check_room
from imgtofmri.outputs import OutputFolder, find_layout
from imgtofmri.outputs.store import Store
from imgtofmri.outputs.store_plan import TEXT_ROWS, StorePlan
from imgtofmri.outputs.store_writer import RowWriter
from imgtofmri.owners import new_part
from imgtofmri.progress import track
from imgtofmri.stimuli import Failure, Movie, Source
from imgtofmri.stimuli.listed import names_of, of_kind, paths_of

SAMPLE_S = 1.0
"""How long prediction is measured, after a first part that warms up."""

TASK_S = 600.0
"""How long a task of a job array should last: beginning and ending it then cost little."""

_SAMPLE_ROWS = 1 << 16

# What a process keeps of each stimulus, in bytes, measured with a million of them.
_FILE_STIMULUS, _STORE_STIMULUS = 1700, 600


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would take.

    Attributes
    ----------
    folder : Path
        Where it would write.
    n_images, n_movies, n_frames : int
        What it would predict; of movies whose packets do not tell, frames are estimated.
    failures : list of Failure
        Inputs that could not be used, as far as can be told without opening images.
    n_files, n_bytes : int
        What it would write, about.
    free_bytes : int
        Room on the disk.
    memory_bytes : int
        What one process would need, about.
    images_per_s, frames_per_s : float or None
        What was measured on this machine; None where there are none.
    n_shards, shard_rows : int
        Of its store; 0 where none is written.
    """

    folder: Path
    n_images: int
    n_movies: int
    n_frames: int
    failures: list[Failure]
    n_files: int
    n_bytes: int
    free_bytes: int
    memory_bytes: int
    images_per_s: float | None
    frames_per_s: float | None
    n_shards: int = 0
    shard_rows: int = 0

    @property
    def seconds(self) -> float:
        """How long it would take one process on this machine."""
        images = self.n_images / self.images_per_s if self.images_per_s else 0.0
        return images + (self.n_frames / self.frames_per_s if self.frames_per_s else 0.0)

    @property
    def n_tasks(self) -> int:
        """Tasks of a job array that make sense: as many as last ten minutes each, one at least."""
        return max(1, min(self.n_shards, round(self.seconds / TASK_S)))

    def check(self) -> None:
        """Refuse a run that does not fit the disk.

        Raises
        ------
        OutputError
        """
        check_room(self.folder / RECORD, self.n_bytes)

    def lines(self) -> list[str]:
        """Return it in words, a line each."""
        inputs = [f"{self.n_images:,} images"] if self.n_images or not self.n_movies else []
        if self.n_movies:
            inputs.append(f"{self.n_movies:,} movies of {self.n_frames:,} frames")
        if self.failures:
            inputs.append(f"{len(self.failures):,} that cannot be used")
        rates = [("images", self.images_per_s), ("frames", self.frames_per_s)]
        measured = " and ".join(f"{rate:.3g} {what}" for what, rate in rates if rate)
        lines = [
            f"inputs: {', '.join(inputs)}",
            f"files : {self.n_files:,}",
            f"bytes : {_bytes(self.n_bytes)}; {_bytes(self.free_bytes)} are free at {self.folder}",
            f"memory: {_bytes(self.memory_bytes)}",
            f"time  : {_time(self.seconds)} by one process here"
            + (f", at the measured {measured} a second" if measured else ""),
        ]
        if self.n_shards:
            each = _time(self.seconds / self.n_tasks)
            tasks = f"{self.n_tasks} tasks of {each}" if self.n_tasks > 1 else f"one task of {each}"
            lines.append(
                f"shards: {self.n_shards:,} of {self.shard_rows:,} rows, in {tasks}"
                f" (--shard 1/{self.n_tasks}), or in up to {self.n_shards:,}"
            )
        return lines


def plan_prediction(
    folder: str | Path,
    encoder: Encoder | str | Path,
    inputs: Inputs,
    settings: Settings | None = None,
    *,
    progress: bool = True,
    **asked: Any,
) -> Plan:
    """Find what `predict_into` would take, and change nothing.

    A second of the work is done and thrown away: some of the images, and the beginning of a movie,
    are predicted and written to a hidden folder beside the place where results would go.

    Parameters
    ----------
    folder, encoder, inputs, settings
        As for `predict_into`.
    progress : bool
        Whether to report progress on standard error.
    **asked
        Its other options, and settings by their names. Nothing is asked of results that are there.

    Returns
    -------
    Plan

    Raises
    ------
    OptionError
        If an option is not valid.
    StimulusError
        If there is nothing to predict.
    OutputError
        If nothing can be written there.
    """
    named = {field.name for field in fields(Request)}
    request = Request(**{name: asked.pop(name) for name in sorted(named & asked.keys())})
    recipe = request.recipe(encoder, Settings.of(settings, **asked))
    sources, failures = sources_of(inputs)
    if not sources:
        raise failures[0].error
    ready = Ready.of(request, recipe, sources, failures, progress)
    target = Path(folder)
    images, movies = of_kind(sources, "image"), of_kind(sources, "movie")
    counted = _count_frames(movies, request.rate_hz, failures)
    n_frames = sum(counted.values())
    films = [source for source in movies if source.name in counted]
    with track("Measuring", enabled=progress), _scratch(target) as scratch, ExitStack() as opened:
        kind: type[_FileSample | _StoreSample] = _StoreSample if request.stores else _FileSample
        of_images, of_frames = kind(ready, scratch / "images"), kind(ready, scratch / "frames")
        opened.enter_context(of_images)
        opened.enter_context(of_frames)
        images_per_s = _measure(_images(ready, images), of_images.write)
        frames_per_s = _measure(_frames(ready, films), of_frames.write)
        if images_per_s is None and frames_per_s is None:
            raise failures[0].error if failures else _none_usable(sources)
        sizes = (of_images.size(len(images), len(images)), of_frames.size(len(films), n_frames))
    n_files, n_bytes = (sum(of_kind) for of_kind in zip(*sizes, strict=True))
    store: StorePlan | None = None
    if request.stores:
        store = _store_plan(ready, len(images) + n_frames, onsets=bool(films))
        of_store = _store_size(store, sources)
        n_files, n_bytes = n_files + of_store[0], n_bytes + of_store[1]
    per_stimulus = _STORE_STIMULUS if request.stores else _FILE_STIMULUS
    return Plan(
        folder=target,
        n_images=len(images),
        n_movies=len(films),
        n_frames=n_frames,
        failures=failures,
        n_files=n_files,
        n_bytes=n_bytes,
        free_bytes=shutil.disk_usage(_existing(target)).free,
        memory_bytes=_peak_bytes() + per_stimulus * (len(images) + len(films)),
        images_per_s=images_per_s,
        frames_per_s=frames_per_s,
        n_shards=store.n_shards if store else 0,
        shard_rows=store.shard_rows if store else 0,
    )


def _count_frames(
    movies: Sequence[Source], rate_hz: float, failures: list[Failure]
) -> dict[str, int]:
    """Return how many frames each movie has, about; those that cannot be read are failures."""
    found: dict[str, int] = {}
    for source in movies:
        try:
            found[source.name] = Movie(source).expected_frames(rate_hz) or 0
        except StimulusError as error:
            failures.append(Failure(source.name, error))
    return found


def _images(ready: Ready, images: Sequence[Source]) -> Iterator[Prediction]:
    # Those that cannot be used are found when they are predicted.
    return ready.predictor.stream(iter(images), lambda _: None) if len(images) else iter(())


def _frames(ready: Ready, films: Sequence[Source]) -> Iterator[Prediction]:
    for source in films:
        with suppress(StimulusError):
            yield from ready.predictor.stream_movie(source, ready.request.rate_hz)


def _measure(stream: Iterator[Prediction], write: Callable[[Prediction], object]) -> float | None:
    """Return how many stimuli are done in a second; None where there are none."""
    begun = time.perf_counter()
    warm: float | None = None
    n_first = n = 0
    for part in stream:
        write(part)
        now = time.perf_counter()
        if warm is None:
            warm, n_first = now, len(part)
            continue
        n += len(part)
        if now - warm >= SAMPLE_S:
            break
    if warm is None:
        return None
    end = time.perf_counter()
    return n / (end - warm) if n else n_first / (end - begun)


class _FileSample(ExitStack):
    """Some stimuli as files, of whose size all others will be."""

    def __init__(self, ready: Ready, folder: Path) -> None:
        super().__init__()
        asked, space = ready.request, ready.encoder.bundle.space
        self._folder = OutputFolder(folder, COMMAND, RECORD)
        self._folder.claim()
        self.enter_context(self._folder.begin({}))
        layout = find_layout(asked.format, space, asked.interval is not None, asked.rate_hz)
        self._maps = MapWriter(
            self._folder,
            layout,
            subjects=asked.subjects,
            interval=asked.interval,
            surface=asked.surface,
        )
        self._table = RoiTableWriter(self._folder, ready.predictor.spatial)
        self._n = 0

    def write(self, part: Prediction) -> None:
        self._maps.write(part)
        self._table.add(part)
        self._n += len(part)

    def size(self, n_stimuli: int, n_rows: int) -> tuple[int, int]:
        """Return how many files and bytes so many stimuli and rows take."""
        if not self._n:
            return 0, 0
        files = [path for path in self._folder.path.rglob("*") if path.is_file()]
        maps = sum(path.suffix in (".gz", ".gii") for path in files)
        n_bytes = sum(path.stat().st_size for path in files)
        # The record, the table and the evidence come to these.
        return math.ceil(maps / self._n * n_stimuli) + 4, math.ceil(n_bytes / self._n * n_rows)


class _StoreSample(ExitStack):
    """Some stimuli in a shard of a store that never ends."""

    def __init__(self, ready: Ready, folder: Path) -> None:
        super().__init__()
        asked = ready.request
        self._interval = asked.interval
        plan = _store_plan(ready, _SAMPLE_ROWS, onsets=folder.name == "frames")
        self._plan = replace(plan, shard_rows=_SAMPLE_ROWS)
        self._n = self._table_bytes = 0
        store = Store(folder, self._plan, {}, {})
        self._writer = self.enter_context(RowWriter(store, range(_SAMPLE_ROWS)))

    def write(self, part: Prediction) -> None:
        self._writer.add(store_rows(part, self._plan, self._interval))
        if not self._plan.maps:
            means = part.roi_means()
            if self._plan.onsets:
                onsets_s = part.onsets_s
                assert onsets_s is not None
                self._table_bytes += sum(map(len, mean_rows(onsets_s, means)))
            else:
                self._table_bytes += sum(len(rows) for _, rows in roi_rows(means, part.names))
        self._n += len(part)

    def size(self, n_stimuli: int, n_rows: int) -> tuple[int, int]:
        """Return how many files and bytes the tables beside it take; its plan knows its own size.

        Where it holds no maps there is one of all images, and one of each film.
        """
        if self._plan.maps or not self._n:
            return 0, 0
        n_tables = n_stimuli if self._plan.onsets else 1
        return n_tables, math.ceil(self._table_bytes / self._n * n_rows)


def _store_plan(ready: Ready, n_rows: int, *, onsets: bool) -> StorePlan:
    asked = ready.request
    return plan_store(
        ready.predictor.spatial,
        n_rows,
        unit=ready.predictor.provenance.unit,
        subjects=asked.subjects,
        interval=asked.interval,
        onsets=onsets,
        dtype=asked.dtype,
        rois_only=asked.rois_only,
    )


def _store_size(plan: StorePlan, sources: Sequence[Source]) -> tuple[int, int]:
    """Return how many files and bytes a store takes."""
    names = sum(len(os.fsencode(text)) for text in (*names_of(sources), *paths_of(sources)))
    n_names = -(-plan.n_rows // TEXT_ROWS) * (len(plan.text_arrays()) - 1)
    # A file of names says their number, and how long each is that it has room for.
    lengths = n_names * 4 * (1 + TEXT_ROWS)
    constants = 2 * _CONSTANTS
    marks = plan.n_shards * _MARK_BYTES
    n_files = plan.n_shards * (len(plan.streams()) + 1) + n_names + constants
    frames = plan.n_rows / max(1, len(sources))
    return n_files, math.ceil(plan.n_bytes() + names * frames + lengths + marks)


_CONSTANTS, _MARK_BYTES = 10, 600


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Make a hidden folder on the disk of another, and remove it."""
    place = _existing(target)
    scratch = new_part(place)
    try:
        scratch.mkdir()
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _existing(folder: Path) -> Path:
    """Return the first folder on the way up that is there."""
    whole = folder.absolute()
    return next(place for place in (whole, *whole.parents) if place.is_dir())


def _none_usable(sources: Sequence[Source]) -> StimulusError:
    message = (
        f"expected one or more inputs that can be used; got none among {len(sources)}, of which "
        f"the first is '{sources[0].path}'. Run predict, which says of each what is wrong."
    )
    return StimulusError(message)


def _peak_bytes() -> int:
    """Return the most memory that this process had."""
    try:
        import resource
    except ImportError:  # Not POSIX.
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _bytes(n: int) -> str:
    """Return a number of bytes as people say it.

    Examples
    --------
    >>> _bytes(50_600_000_000), _bytes(1_234_000)
    ('50.6 GB', '1.2 MB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n / 1e3:.0f} kB"


def _time(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> _time(4), _time(200), _time(13_300), _time(400_000)
    ('4 s', '3 min', '3.7 h', '4.6 days')
    """
    if seconds < 120:
        return f"{max(1, math.ceil(seconds))} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"

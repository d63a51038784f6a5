"""Images and movies into a store: planned as a whole, then made shard by shard, in any order."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from imgtofmri.analyses.predict.earlier import source_digest
from imgtofmri.encoder import Prediction, Predictor
from imgtofmri.encoder.exporting import export_tables
from imgtofmri.encoder.stored import open_stored
from imgtofmri.encoder.storing import (
    describe_store,
    digest_text,
    plan_store,
    store_constants,
    store_rows,
)
from imgtofmri.exceptions import DataError, OptionError, StimulusError, check_choice
from imgtofmri.files import is_there
from imgtofmri.outputs import OutputFolder
from imgtofmri.outputs.store import Lost, Store
from imgtofmri.outputs.store_plan import (
    DIGEST,
    MEANS,
    MOVIE,
    PATH,
    STORE_DTYPES,
    SUBJECTS,
    Roster,
    StoreDtype,
)
from imgtofmri.outputs.store_writer import RowWriter
from imgtofmri.outputs.zarr_format import DOCUMENT
from imgtofmri.stimuli import Failure, Movie, Source
from imgtofmri.stimuli.listed import names_of, paths_of

_THREADS = 4
"""Threads that read inputs for their digests."""

MOST_TOGETHER = 1 << 16
"""Rows that are predicted in one go, which ends with all of them written."""

Advance = Callable[[float], object]


@dataclass(frozen=True)
class Rows:
    """Which rows of a store each stimulus has.

    Attributes
    ----------
    sources : sequence of Source
        In the order of rows.
    counts : sequence of int
        Rows of each; empty where each has one.
    movies : dict of str to str
        What the header of each movie says, as JSON.
    """

    sources: Sequence[Source]
    counts: Sequence[int]
    movies: Mapping[str, str]

    @property
    def each(self) -> Sequence[int]:
        """Rows of each, also where each has one."""
        return self.counts or [1] * len(self.sources)

    @property
    def roster(self) -> Roster:
        """What the store keeps of it."""
        names, paths = names_of(self.sources), paths_of(self.sources)
        return Roster(names, paths, self.counts, self.movies)

    def spans(self, rows: range) -> Iterator[tuple[Source, range]]:
        """Yield who has some of these rows, and all the rows that each has."""
        if not self.counts:
            for row in rows:
                yield self.sources[row], range(row, row + 1)
            return
        ends = self._ends
        for number in range(bisect_right(ends, rows.start), len(ends)):
            first = ends[number] - self.counts[number]
            if first >= rows.stop:
                return
            yield self.sources[number], range(first, ends[number])

    @cached_property
    def _ends(self) -> list[int]:
        """Return the row after the last of each."""
        return [*accumulate(self.counts)]


def count_rows(
    images: Sequence[Source],
    movies: Sequence[Source],
    rate_hz: float,
    on_failure: Callable[[Failure], object],
) -> Rows:
    """Find how many rows stimuli have: an image one, a movie one for each frame.

    Movies are opened, and decoded where their packets do not tell how many frames there are.

    Parameters
    ----------
    images, movies : sequence of Source
    rate_hz : float
        Frames a second that are taken of movies.
    on_failure : callable
        Called with each movie that cannot be read; it has no rows.
    """
    usable, counts, told = [], [], {}
    for source in movies:
        movie = Movie(source)
        try:
            n = movie.n_frames(rate_hz)
            if n is None:
                n = sum(1 for _ in movie.frames(rate_hz, size=1))
            told[source.name] = json.dumps(asdict(movie.info))
        except StimulusError as error:
            on_failure(Failure(source.name, error))
            continue
        usable.append(source)
        counts.append(n)
    if not usable:
        return Rows(images, [], told)
    return Rows([*images, *usable], [*[1] * len(images), *counts], told)


def earlier_rows(store: Store) -> Rows:
    """Return the stimuli of a store that is there.

    Raises
    ------
    DataError
        If it does not say which.
    """
    names, paths = store.names, store.texts(PATH)
    movies = store.texts(MOVIE) if store.plan.onsets else [""] * len(names)
    sources: list[Source] = []
    counts: list[int] = []
    for name, path, said in zip(names, paths, movies, strict=True):
        if sources and sources[-1].name == name:
            counts[-1] += 1
        else:
            sources.append(Source(Path(path), name, "movie" if said else "image"))
            counts.append(1)
    told = {name: said for name, said in zip(names, movies, strict=True) if said}
    return Rows(sources, counts if told else [], told)


def known_rows(path: Path, images: Sequence[Source], movies: Sequence[Source]) -> Rows | None:
    """Return the rows of stimuli as a store that is there has them; None where it has others.

    Movies then need not be opened to count their frames.
    """
    try:
        earlier = earlier_rows(Store.open(path))
    except DataError:
        return None
    if names_of(earlier.sources) != [*names_of(images), *names_of(movies)]:
        return None
    return Rows([*images, *movies], earlier.counts, earlier.movies)


def joined_rows(earlier: Rows, now: Rows) -> Rows:
    """Return the stimuli of an earlier run, then those that are new, as a store grows by them.

    Raises
    ------
    OptionError
        If a movie has another number of frames than before.
    """
    before = dict(zip((source.name for source in earlier.sources), earlier.each, strict=True))
    asked = {source.name: source for source in now.sources}
    sources = [asked.get(source.name, source) for source in earlier.sources]
    counts = [*earlier.each]
    for source, n in zip(now.sources, now.each, strict=True):
        if source.name not in before:
            sources.append(source)
            counts.append(n)
        elif before[source.name] != n:
            message = (
                f"expected the movies of the run to resume; {source.name} had "
                f"{before[source.name]} frames and has {n}. Use `overwrite` to do all again, or "
                "another folder."
            )
            raise OptionError(message)
    movies = {**earlier.movies, **now.movies}
    return Rows(sources, counts if movies else [], movies)


class Spans(Protocol):
    """What tells which rows of a store stimuli have."""

    def spans(self, rows: range) -> Iterator[tuple[Source, range]]:
        """Yield who has some of these rows, and all the rows that each has."""
        ...


class StoreRun:
    """A run that writes to a store; any number of processes can do shards of it.

    Parameters
    ----------
    predictor : Predictor
    store : Store
    rows : Rows, or anything that tells spans of rows
    interval : float, optional
        The level of the prediction interval whose bounds are kept.
    rate_hz : float
        Frames a second that are taken of movies.
    earlier : Store, optional
        What was there before: rows of it that are still right are kept.
    here : str
        The folder at which relative paths of stimuli begin; by default the current one.
    """

    def __init__(
        self,
        predictor: Predictor,
        store: Store,
        rows: Spans,
        *,
        interval: float | None = None,
        rate_hz: float = 2.0,
        earlier: Store | None = None,
        here: str = "",
    ) -> None:
        self.predictor, self.store, self.rows = predictor, store, rows
        self.interval, self.rate_hz = interval, rate_hz
        self._earlier, self._here = earlier, here
        self._lost: dict[str, Lost] = {}
        self._digests: dict[str, str | None] = {}
        self.predicted: set[str] = set()
        """Stimuli of which rows were predicted by this run."""

    @classmethod
    def create(
        cls,
        predictor: Predictor,
        rows: Rows,
        path: Path,
        settings: Mapping[str, Any],
        *,
        subjects: bool = False,
        interval: float | None = None,
        rate_hz: float = 2.0,
        dtype: StoreDtype = "float32",
        rois_only: bool = False,
        grow: bool = False,
    ) -> StoreRun:
        """Make the store of a run, or join the one that is there.

        Parameters
        ----------
        predictor : Predictor
        rows : Rows
        path : Path
            The store.
        settings : mapping
            How the run writes, as its record says it.
        subjects, interval, rate_hz, dtype, rois_only
            As for `imgtofmri.analyses.predict.predict_into`.
        grow : bool
            Whether stimuli are added to those of a store that is there.

        Raises
        ------
        OptionError, DataError, OutputError
            As `Store.create`.
        """
        earlier = Store.open(path) if (path / DOCUMENT).exists() else None
        if earlier is not None and grow:
            # Where it no longer says whose its rows are, they can only be those asked for.
            with suppress(DataError):
                rows = joined_rows(earlier_rows(earlier), rows)
        roster = rows.roster
        plan = plan_store(
            predictor.spatial,
            roster.n_rows,
            unit=predictor.provenance.unit,
            subjects=subjects,
            interval=interval,
            onsets=bool(rows.movies),
            dtype=dtype,
            rois_only=rois_only,
        )
        affine = predictor.readout.bundle.template.affine
        constants = store_constants(predictor.spatial, affine, plan)
        prediction = predictor.provenance.to_stored()
        store = Store.create(path, plan, roster, constants, settings, prediction, grow=grow)
        if earlier is not None:
            earlier = store.with_rows(earlier.plan.n_rows)
        return cls(predictor, store, rows, interval=interval, rate_hz=rate_hz, earlier=earlier)

    def work(self, shards: Iterable[int], advance: Advance = lambda _: None) -> None:
        """Make shards, and verify those that an earlier run made.

        Those that are not there yet come first, so that work begins at once.

        Parameters
        ----------
        shards : iterable of int
        advance : callable
            Called with how many rows are done, whenever there are some more.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        for run in self.in_order(shards):
            if not self._has_mark(run.start):
                self._predict(self.rows_of(run), {}, advance)
                continue
            for shard in run:
                kept = self._kept(shard)
                rows = self.store.plan.shard(shard)
                if len(kept) < len(rows) or self.store.mark(shard) is None:
                    self._predict(rows, kept, advance)
                else:
                    advance(len(rows))

    def in_order(self, shards: Iterable[int]) -> Iterator[range]:
        """Yield runs of shards: those that are new, then those that an earlier run made."""
        there: list[int] = []
        new: list[int] = []
        for shard in shards:
            (there if self._has_mark(shard) else new).append(shard)
        # What goes with each row is held for so many at a time.
        together = max(1, MOST_TOGETHER // self.store.plan.shard_rows)
        for run in (*runs_of(new), *runs_of(there)):
            for first in range(run.start, run.stop, together):
                yield range(first, min(first + together, run.stop))

    @property
    def n_earlier(self) -> int | None:
        """How many rows the store had before; None where there was none."""
        return None if self._earlier is None else self._earlier.plan.n_rows

    def _has_mark(self, shard: int) -> bool:
        return self._earlier is not None and (
            shard < self._earlier.plan.n_shards and self._earlier.mark(shard) is not None
        )

    def rows_of(self, shards: range) -> range:
        """Return the rows of consecutive shards."""
        plan = self.store.plan
        return range(plan.shard(shards.start).start, plan.shard(shards.stop - 1).stop)

    def _kept(self, shard: int) -> dict[int, Lost | None]:
        """Return the rows of a shard that are still right, and why a row of them holds nothing."""
        earlier = self._earlier
        mark = None if earlier is None else earlier.mark(shard)
        if earlier is None or mark is None or earlier.verify(shard):
            return {}
        old = earlier.plan.shard(shard)
        stream = next(one for one in earlier.plan.streams() if one.array == DIGEST)
        digests = [digest_text(row) for row in earlier.read(stream, old)]
        lost = {one.name: one for one in mark.lost}
        kept: dict[int, Lost | None] = {}
        spans = list(self.rows.spans(old))
        with ThreadPoolExecutor(_THREADS, "imgtofmri-verify") as threads:
            found = list(threads.map(self._digest_now, (source for source, _ in spans)))
        for (source, rows), now in zip(spans, found, strict=True):
            # What is gone since is kept as it was.
            unknown = now is None and not is_there(self._placed(source).path)
            for row in range(max(rows.start, old.start), min(rows.stop, old.stop)):
                before = lost.get(source.name)
                then = digests[row - old.start] if before is None else before.sha256
                if then == now or (unknown and before is None):
                    kept[row] = before
        return kept

    def _digest_now(self, source: Source) -> str | None:
        """Return the digest of an input's file; a movie's, which shards share, is found once."""
        placed = self._placed(source)
        if source.kind == "image":
            return source_digest(placed)
        if source.name not in self._digests:
            self._digests[source.name] = source_digest(placed)
        return self._digests[source.name]

    def _placed(self, source: Source) -> Source:
        """Return a source with a path that leads to it from where this process is."""
        return replace(source, path=Path(self._here) / source.path) if self._here else source

    def _lose(self, source: Source, error: StimulusError) -> None:
        placed = self._placed(source)
        # What is said of it does not depend on where it was read.
        reason = str(error).replace(str(placed.path), str(source.path))
        self._lost[source.name] = Lost(source.name, reason, source_digest(placed))

    def _predict(self, rows: range, kept: Mapping[int, Lost | None], advance: Advance) -> None:
        """Write the rows of whole shards, predicting those that are not kept."""
        with RowWriter(self.store, rows) as writer:
            filler = _Filler(writer, self._earlier, self.store, kept, self._lost, advance)
            if kept:
                filler.keep_rounding(rows.start // self.store.plan.shard_rows)
            images: list[tuple[int, Source]] = []
            for source, span in self.rows.spans(rows):
                if source.kind == "image":
                    images.append((span.start, source))
                    continue
                self._images(images, filler)
                images = []
                filler.fill(max(span.start, rows.start))
                self._movie(source, span, min(span.stop, rows.stop), filler)
            self._images(images, filler)
            filler.fill(rows.stop)

    def _images(self, images: Sequence[tuple[int, Source]], filler: _Filler) -> None:
        """Predict images that follow one another."""
        wanted = [(row, source) for row, source in images if row not in filler.kept]
        if not wanted:
            return
        row_of = {source.name: row for row, source in wanted}
        sources = {source.name: source for _, source in wanted}

        def fail(failure: Failure) -> None:
            self._lose(sources[failure.name], failure.error)

        stream = self.predictor.stream([self._placed(source) for _, source in wanted], fail)
        for part in stream:
            values = self._values(part)
            numbers = [row_of[name] for name in part.names]
            for first, end in _consecutive(numbers):
                filler.fill(numbers[first])
                filler.add(values, slice(first, end))
            self.predicted.update(part.names)

    def _movie(self, source: Source, span: range, end: int, filler: _Filler) -> None:
        """Predict a movie's rows from the next to be written up to ``end``."""
        filler.copy(end)
        if filler.row == end:
            return
        self.predicted.add(source.name)
        left = end - filler.row
        ends = end == span.stop
        held: dict[str, Any] = {}
        try:
            # That a movie breaks off after its last frame is known when no more come: until then
            # the last ones are held back.
            first = span.index(filler.row)
            for part in self.predictor.stream_movie(self._placed(source), self.rate_hz, first):
                if held:
                    filler.add(held, slice(0, len(held[MEANS])))
                    left = end - filler.row
                held = self._values(part)
                if len(part) >= left and not ends:
                    filler.add(held, slice(0, left))
                    return
                if len(part) > left:
                    raise _other_length(source, len(span))
            if not held or len(held[MEANS]) < left:
                raise _other_length(source, len(span))
            filler.add(held, slice(0, left))
        except StimulusError as error:
            if held:
                filler.add(held, slice(0, min(len(held[MEANS]), left - 1)))
            self._lose(source, error)
            filler.lose(end)

    def _values(self, part: Prediction) -> dict[str, Any]:
        return store_rows(part, self.store.plan, self.interval)


class _Filler:
    """Fills the rows between those that are predicted: kept ones, and those that are lost."""

    def __init__(
        self,
        writer: RowWriter,
        earlier: Store | None,
        store: Store,
        kept: Mapping[int, Lost | None],
        lost: Mapping[str, Lost],
        advance: Advance,
    ) -> None:
        self.kept = kept
        self._writer, self._earlier, self._store = writer, earlier, store
        self._lost, self._advance = lost, advance

    @property
    def row(self) -> int:
        """The row that is written next."""
        return self._writer.row

    def keep_rounding(self, shard: int) -> None:
        """Let the errors of rows that are kept count in the new mark."""
        mark = None if self._earlier is None else self._earlier.mark(shard)
        if mark is not None:
            self._writer.keep_rounding(mark.rounding or {})

    def add(self, values: Mapping[str, Any], some: slice) -> None:
        """Write predicted rows."""
        chosen = {
            name: rows[:, some] if name == SUBJECTS else rows[some] for name, rows in values.items()
        }
        self._writer.add(chosen)
        self._advance(some.stop - some.start)

    def fill(self, end: int) -> None:
        """Write the rows before ``end``: those that are kept as they were, the others empty."""
        while self.row < end:
            self.copy(end)
            if self.row < end:
                self.lose(self.row + 1)

    def copy(self, end: int) -> None:
        """Write the next rows before ``end`` as they were, as long as they are kept."""
        while self.row < end and self.row in self.kept:
            first = self.row
            before = self.kept[first]
            if before is not None:
                self._writer.lose(before)
                self._advance(1)
                continue
            stop = first
            while stop < min(end, first + 64) and self.kept.get(stop, _NONE) is None:
                stop += 1
            assert self._earlier is not None
            self.add(_read(self._earlier, range(first, stop)), slice(0, stop - first))

    def lose(self, end: int) -> None:
        """Leave the rows before ``end`` empty."""
        while self.row < end:
            [name] = self._store.row_names(range(self.row, self.row + 1))
            self._writer.lose(self._lost[name])
            self._advance(1)


_NONE = Lost("", "")


def _read(store: Store, rows: range) -> dict[str, Any]:
    """Return rows of a store as values of rows."""
    found: dict[str, list[Any]] = {}
    for stream in store.plan.streams():
        found.setdefault(stream.array, []).append(store.read(stream, rows))
    return {name: np.stack(v) if name == SUBJECTS else v[0] for name, v in found.items()}


def _other_length(source: Source, n: int) -> StimulusError:
    message = (
        f"expected a movie of {n} frames, as its packets say; got '{source.path}', which has "
        "others. Get the file again."
    )
    return StimulusError(message)


def runs_of(numbers: Sequence[int]) -> Iterator[range]:
    """Cut ascending numbers into runs of consecutive ones."""
    for first, end in _consecutive(numbers):
        yield range(numbers[first], numbers[end - 1] + 1)


def _consecutive(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield where runs of consecutive numbers begin and end."""
    first = 0
    for k in range(1, len(numbers) + 1):
        if k == len(numbers) or numbers[k] != numbers[k - 1] + 1:
            yield first, k
            first = k


def close_store(folder: OutputFolder, store: Store) -> dict[str, Lost]:
    """Say in a folder's record what its store holds; write tables where it holds nothing else.

    Returns
    -------
    dict of str to Lost
        Stimuli that could not be used, as the marks of all shards say.
    """
    folder.wrote(*store.frame_files())
    folder.tell("store", describe_store(store))
    if not store.plan.maps:
        export_tables(open_stored(store.path), folder)
    return store.lost(range(store.plan.n_shards))


def check_store_options(format: str, dtype: str, rois_only: bool, surface: str, at: object) -> None:
    """Refuse what a store does not go with, before anything is loaded.

    Raises
    ------
    OptionError
    """
    check_choice("dtype", dtype, STORE_DTYPES)
    stores = format == "zarr" or rois_only
    if rois_only and format not in ("nifti", "zarr"):
        message = (
            f"rois_only keeps no maps, which a format lays out; got the format {format}. Leave "
            "`format` out, or choose zarr."
        )
        raise OptionError(message, "rois_only")
    if dtype != "float32" and (not stores or rois_only):
        message = (
            f"dtype is how a store keeps maps; got {dtype} "
            f"{'with `rois_only`' if rois_only else f'for the format {format}'}. Use the format "
            "zarr, or leave `dtype` out."
        )
        raise OptionError(message, "dtype")
    for name, given in (("space", surface), ("at", at is not None)):
        if stores and given:
            message = (
                f"{name} is not written to a store; got it with "
                f"{'`rois_only`' if rois_only else 'the format zarr'}. Leave it out: `imgtofmri "
                "export` writes surfaces of a store, and Prediction.open reads values at points."
            )
            raise OptionError(message, name)

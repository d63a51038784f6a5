"""Rows into a store's shards: streamed to files, placed when a shard is whole, then marked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import OptionError, OutputError, ShapeError
from imgtofmri.files import cannot_write, place_all, write_whole
from imgtofmri.outputs.store import Lost, Mark, Store
from imgtofmri.outputs.store_plan import DONE, MEANS, STIMULUS, Stream
from imgtofmri.outputs.zarr_format import (
    file_key,
    little_endian,
    padded,
    shard_index,
    text_chunk,
)
from imgtofmri.owners import new_part


class RowWriter:
    """Writes consecutive rows of whole shards; each shard counts from its last row on.

    Use it in a ``with`` block. What of a shard is not whole when the block ends is removed.

    Parameters
    ----------
    store : Store
    rows : range
        They begin where a shard does, and end where one does, such as `StorePlan.share` has them.
    """

    def __init__(self, store: Store, rows: range) -> None:
        plan = store.plan
        at_end = rows.stop in (plan.n_rows, -(-rows.stop // plan.shard_rows) * plan.shard_rows)
        if rows.step != 1 or rows.start % plan.shard_rows or not at_end:
            message = (
                f"rows must be those of whole shards of {plan.shard_rows}; got {rows}. Take them "
                "from StorePlan.share."
            )
            raise OptionError(message, "rows")
        self._store, self._rows = store, rows
        self._shard: _Shard | None = None
        self.row = rows.start
        """The row that is written next."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shard is not None:
            self._shard.drop()

    def add(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the next rows.

        Parameters
        ----------
        values : mapping of str to array
            Of each of `StorePlan.row_arrays`, for some rows: of the array's shape but for their
            number.

        Raises
        ------
        ShapeError
            If an array is missing or of another shape, or there are more rows than were asked for.
        OptionError
            If a value is too large for the type.
        OutputError
            If they cannot be written.
        """
        n = self._check(values)
        done = 0
        while done < n:
            shard = self._current()
            some = slice(done, done + min(n - done, shard.n_left))
            for file in shard.files:
                place: tuple[int | slice, ...] = (*file.stream.place, some)
                file.add(values[file.stream.array][place])
            done = some.stop
            self._advance(shard, some.stop - some.start)

    def lose(self, lost: Lost) -> None:
        """Leave the next row empty, as its stimulus could not be used.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        shard = self._current()
        shard.lost.append(lost)
        for file in shard.files:
            file.skip(1)
        self._advance(shard, 1)

    def keep_rounding(self, rounding: Mapping[str, tuple[float, float]]) -> None:
        """Let errors of rounding count that rows of an earlier making have."""
        if self.row < self._rows.stop:
            self._current().rounding.update(rounding)

    def _check(self, values: Mapping[str, npt.NDArray[Any]]) -> int:
        """Return how many rows these values are of."""
        n = len(values[MEANS]) if MEANS in values else 0
        for name, layout in self._store.plan.row_arrays().items():
            axis = layout.dims.index(STIMULUS)
            shape = (*layout.shape[:axis], n, *layout.shape[axis + 1 :])
            if name not in values or values[name].shape != shape:
                got = values[name].shape if name in values else "none"
                message = f"{name} must have the shape {shape}; got {got}. Give all of the plan."
                raise ShapeError(message)
        if self.row + n > self._rows.stop:
            message = f"expected rows up to {self._rows.stop}; got {self.row + n}. Give fewer."
            raise ShapeError(message)
        return n

    def _current(self) -> _Shard:
        if self._shard is None:
            number = self.row // self._store.plan.shard_rows
            self._shard = _Shard(self._store, number)
        return self._shard

    def _advance(self, shard: _Shard, n: int) -> None:
        self.row += n
        shard.n_left -= n
        if not shard.n_left:
            shard.place()
            self._shard = None


class _Shard:
    """The files of one shard, from its first row to its mark."""

    def __init__(self, store: Store, number: int) -> None:
        self._store, self._number = store, number
        self.n_left = len(store.plan.shard(number))
        self.lost: list[Lost] = []
        self.rounding: dict[str, tuple[float, float]] = {}
        self.files: list[_ShardFile] = []
        try:
            for stream in store.plan.streams():
                self.files.append(_ShardFile(store.path / stream.file(number), stream))
        except BaseException:
            self.drop()
            raise

    def place(self) -> None:
        """Bring the files to the disk and to their places, then the mark."""
        try:
            for file in self.files:
                file.finish()
            mark = self._store.path / file_key(DONE, self._number)
            # While files of two makings lie side by side, no mark may speak for them.
            with suppress(FileNotFoundError):
                mark.unlink()
            place_all({file.target: file.part for file in self.files})
            write_whole(mark, text_chunk([self._mark().text()], 1))
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise cannot_write(self._store.path, error) from error
        finally:
            self.drop()

    def _mark(self) -> Mark:
        rounding = dict(self.rounding)
        for file in self.files:
            if file.rounds:
                (error, relative), array = file.rounding, file.stream.array
                before = rounding.get(array, (0.0, 0.0))
                rounding[array] = (max(before[0], error), max(before[1], relative))
        files = {file.stream.file(self._number): file.sha256 for file in self.files}
        lost = tuple(dict.fromkeys(self.lost))
        return Mark(self._store.key(self._number), files, lost, rounding)

    def drop(self) -> None:
        """Remove what was not placed."""
        for file in self.files:
            file.drop()


class _ShardFile:
    """One file of a shard under its hidden name, with the digest of what was written."""

    def __init__(self, target: Path, stream: Stream) -> None:
        self.target, self.stream = target, stream
        layout = stream.layout
        self._dtype = np.dtype(layout.dtype)
        self.rounds = layout.dtype == "float16"
        self.rounding = (0.0, 0.0)
        self._n, self._digest = 0, hashlib.sha256()
        self.part = new_part(target.parent)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
            self._file: BinaryIO = os.fdopen(os.open(self.part, flags, 0o666), "wb")
        except OSError as error:
            raise cannot_write(target, error) from error

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Append rows."""
        stored = rows
        if self.rounds and rows.dtype != self._dtype:
            with np.errstate(over="ignore"):
                stored = rows.astype(self._dtype)
            self.rounding = _rounding(rows, stored, self.rounding)
        self._write(little_endian(stored, self._dtype.name).data)
        self._n += len(rows)

    def skip(self, n: int) -> None:
        """Append rows that hold nothing."""
        fill = self.stream.layout.fill
        value = np.nan if fill == "NaN" else fill
        row = little_endian(np.full(self.stream.row_shape, value), self._dtype.name)
        for _ in range(n):
            self._write(row.data)
        self._n += n

    def finish(self) -> None:
        """Append what is behind the last row."""
        stream = self.stream
        of_shard = stream.layout.file_shape[len(stream.place)]
        chunk = stream.layout.chunk_rows
        n_rows = self._n
        self.skip((padded(n_rows, chunk) if chunk else of_shard) - n_rows)
        if chunk:
            n_filled, size = padded(n_rows, chunk) // chunk, chunk * stream.row_bytes
            self._write(shard_index(n_filled, of_shard // chunk, size))
        try:
            self._file.close()
        except OSError as error:
            raise cannot_write(self.target, error) from error

    def _write(self, data: Any) -> None:
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise cannot_write(self.target, error) from error

    def drop(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.part.unlink()


def _rounding(
    rows: npt.NDArray[Any], stored: npt.NDArray[Any], before: tuple[float, float]
) -> tuple[float, float]:
    """Return the greatest absolute and relative errors of rounding, an earlier one's included.

    Raises
    ------
    OptionError
        If a number is too large for the type.
    """
    exact = np.asarray(rows, dtype=np.float64)
    if np.isinf(stored).any() and not np.isinf(exact).any():
        largest, limit = float(np.nanmax(np.abs(exact))), np.finfo(stored.dtype).max
        message = (
            f"dtype must hold all values; got {stored.dtype.name}, which ends at {limit:g}, and a "
            f"value of {largest:g}. Use float32."
        )
        raise OptionError(message, "dtype")
    error = np.abs(stored.astype(np.float64) - exact)
    error, size = error[np.isfinite(error)], np.abs(exact[np.isfinite(error)])
    # Below it numbers have fewer digits, down to none.
    normal = size >= float(np.finfo(stored.dtype).smallest_normal)
    relative = error[normal] / size[normal]
    return (
        max(before[0], float(error.max(initial=0.0))),
        max(before[1], float(relative.max(initial=0.0))),
    )

"""What a store will hold, and how its rows fall into shards: all of it known before any work."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from imgtofmri.exceptions import OptionError, check_choice
from imgtofmri.outputs.layouts import BOUNDS
from imgtofmri.outputs.zarr_format import TEXT, ArrayLayout, file_key, index_bytes, padded

StoreDtype: TypeAlias = Literal["float32", "float16"]
STORE_DTYPES: tuple[StoreDtype, ...] = ("float32", "float16")

GROUP, SUBJECTS, MEANS, DIGEST, ONSET = "group", "subjects", "rois", "digest", "onset"
STIMULUS, PATH, MOVIE, DONE = "stimulus", "path", "movie", "done"
MASK, AFFINE, ROI_VOXELS = "mask", "affine", "roi_voxels"
COVERAGE, ACCURACY, RESIDUAL = "coverage", "accuracy", "residual_variance"
SUBJECT, HEMI, ROI = "subject", "hemi", "roi"

MAPS = (GROUP, *BOUNDS)
"""The arrays of maps that a store can have, besides subjects'."""
MODEL_UNIT = "model units"
HEMIS = ("L", "R", "both")
"""The hemispheres of ROI means."""

ARRAYS = frozenset(
    (
        *(*MAPS, SUBJECTS, MEANS, DIGEST, ONSET, STIMULUS, PATH, MOVIE, DONE),
        *(MASK, AFFINE, ROI_VOXELS, COVERAGE, ACCURACY, RESIDUAL, SUBJECT, HEMI, ROI),
    )
)
"""All arrays that a store can have."""

CHUNK_ROWS = 16
"""Maps of a chunk, the least that readers fetch."""
LEAST_ROWS, MOST_ROWS = 64, 4096
"""Rows of a shard, at least and at most."""
MANY_SHARDS = 1024
"""A store has no more shards than this, unless they would hold more rows than `MOST_ROWS`."""
TEXT_ROWS = 4096
"""Names in one file."""

_DIGEST_BYTES = 32


def rows_in_shards(n_rows: int) -> int:
    """Return how many rows a shard of a store of so many has.

    It depends on nothing else, so that a run has the same files on however many machines it is
    made.

    Examples
    --------
    >>> [rows_in_shards(n) for n in (300, 200_000, 1_300_000, 10_000_000)]
    [64, 256, 2048, 4096]
    """
    rows = LEAST_ROWS
    while rows < MOST_ROWS and rows * MANY_SHARDS < n_rows:
        rows *= 2
    return rows


@dataclass(frozen=True, slots=True)
class Share:
    """Shards that one worker does, and the rows that they are.

    Attributes
    ----------
    shards : range
    rows : range
    """

    shards: range
    rows: range


@dataclass(frozen=True, slots=True)
class Stream:
    """One file of each shard, into which values go row by row.

    Attributes
    ----------
    array : str
        The array's name.
    place : tuple of int
        What stands before the shard's number in the file's name.
    layout : ArrayLayout
    """

    array: str
    place: tuple[int, ...]
    layout: ArrayLayout

    def file(self, shard: int) -> str:
        """Return a shard's file, relative to the store."""
        n_after = len(self.layout.shape) - len(self.place) - 1
        return file_key(self.array, *self.place, shard, *(0,) * n_after)

    def n_bytes(self, n_rows: int) -> int:
        """Return the size of a shard's file in which so many rows are filled."""
        row, of_shard = self.row_bytes, self.layout.file_shape[len(self.place)]
        chunk = self.layout.chunk_rows
        if not chunk:
            return of_shard * row
        return padded(n_rows, chunk) * row + index_bytes(of_shard // chunk)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row's values."""
        return self.layout.shape[len(self.place) + 1 :]

    @property
    def row_bytes(self) -> int:
        """The size of one row's values."""
        import numpy as np

        size: int = np.dtype(self.layout.dtype).itemsize
        for length in self.row_shape:
            size *= length
        return size


@dataclass(frozen=True, slots=True)
class StorePlan:
    """The size and the content of a store.

    Parameters
    ----------
    n_rows : int
        Stimuli; each frame of a movie is one.
    n_voxels : int
        Voxels of a map.
    people : tuple of str
        The subjects, whose ROI means are kept.
    rois : tuple of str
    maps : tuple of str
        The arrays of shape (n_rows, n_voxels), of `MAPS`; none where only means of ROIs are kept.
    subject_maps : bool
        Whether each person's map is kept, too.
    onsets : bool
        Whether there are movies, whose frames have onsets.
    dtype : {"float32", "float16"}
        Of maps. All else is kept as it was computed.
    unit : str
        Of the maps, but for subjects', which as ROI means have the models' own.
    shard_rows : int
        Rows of a shard, a multiple of 16; by default as `rows_in_shards` says.

    Raises
    ------
    OptionError
        If a size or the type is not valid.
    """

    n_rows: int
    n_voxels: int
    people: tuple[str, ...]
    rois: tuple[str, ...]
    maps: tuple[str, ...] = (GROUP,)
    subject_maps: bool = False
    onsets: bool = False
    dtype: StoreDtype = "float32"
    unit: str = ""
    shard_rows: int = 0

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, STORE_DTYPES)
        for name in self.maps:
            check_choice("maps", name, MAPS)
        if not self.shard_rows:
            object.__setattr__(self, "shard_rows", rows_in_shards(self.n_rows))
        if self.shard_rows < 1 or self.shard_rows % CHUNK_ROWS:
            message = (
                f"shard_rows must be a multiple of {CHUNK_ROWS}; got {self.shard_rows}. Leave it "
                "out."
            )
            raise OptionError(message, "shard_rows")
        if self.n_rows < 1:
            message = f"a store must have one row or more; got {self.n_rows}. Give some stimuli."
            raise OptionError(message)

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return -(-self.n_rows // self.shard_rows)

    def shard(self, number: int) -> range:
        """Return the rows of a shard."""
        first = number * self.shard_rows
        return range(first, min(first + self.shard_rows, self.n_rows))

    def share(self, i: int, n: int) -> Share:
        """Return what worker ``i`` of ``n`` does, counted from 1: whole shards.

        Together the shares are all shards, each of them once, and none has more than one more than
        another. Where there are more workers than shards some have nothing to do.

        Raises
        ------
        OptionError
            If there is no such worker.

        Examples
        --------
        >>> StorePlan(300, 9641, ("CSI1",), ("LOC",)).share(2, 2)
        Share(shards=range(2, 5), rows=range(128, 300))
        """
        if not 1 <= i <= n:
            message = f"shard must be 1/{n} to {n}/{n}; got {i}/{n}. Count from 1."
            raise OptionError(message, "shard")
        shards = range((i - 1) * self.n_shards // n, i * self.n_shards // n)
        first, end = shards.start * self.shard_rows, shards.stop * self.shard_rows
        return Share(shards, range(min(first, self.n_rows), min(end, self.n_rows)))

    def n_bytes(self) -> int:
        """Return the size of all shards together, which is almost all of a store."""
        return (self.n_shards - 1) * self.shard_bytes(0) + self.shard_bytes(self.n_shards - 1)

    def shard_bytes(self, number: int) -> int:
        """Return the size of a shard's files."""
        n_rows = len(self.shard(number))
        return sum(stream.n_bytes(n_rows) for stream in self.streams())

    def streams(self) -> list[Stream]:
        """Return the files that each shard has."""
        layouts = self.row_arrays()
        places = {SUBJECTS: [(number,) for number in range(len(self.people))]}
        return [
            Stream(name, place, layout)
            for name, layout in layouts.items()
            for place in places.get(name, [()])
        ]

    def row_arrays(self) -> dict[str, ArrayLayout]:
        """Return the arrays whose values are made shard by shard."""
        n, rows, voxels = self.n_rows, self.shard_rows, self.n_voxels
        people, rois = len(self.people), len(self.rois)
        own = {"units": MODEL_UNIT}
        said = {"units": self.unit} if self.unit else {}
        one = ArrayLayout(
            (n, voxels), self.dtype, (STIMULUS, "voxel"), (rows, voxels), CHUNK_ROWS, said
        )
        found = dict.fromkeys(self.maps, one)
        if self.subject_maps:
            dims = ("subject", STIMULUS, "voxel")
            shape, whole = (people, n, voxels), (1, rows, voxels)
            found[SUBJECTS] = ArrayLayout(shape, self.dtype, dims, whole, CHUNK_ROWS, own)
        means = (people, len(HEMIS), rois)
        of_means = (STIMULUS, "subject", "hemi", "roi")
        found[MEANS] = ArrayLayout((n, *means), "float64", of_means, (rows, *means), 0, own)
        digest = (_DIGEST_BYTES,)
        found[DIGEST] = ArrayLayout((n, *digest), "uint8", (STIMULUS, "byte"), (rows, *digest))
        if self.onsets:
            found[ONSET] = ArrayLayout((n,), "float64", (STIMULUS,), (rows,))
        return found

    def text_arrays(self) -> dict[str, ArrayLayout]:
        """Return the arrays of names and of marks."""
        of_rows = ArrayLayout((self.n_rows,), TEXT, (STIMULUS,), (TEXT_ROWS,))
        names = (STIMULUS, PATH, *((MOVIE,) if self.onsets else ()))
        marks = ArrayLayout((self.n_shards,), TEXT, ("shard",), (1,))
        return dict.fromkeys(names, of_rows) | {DONE: marks}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> StorePlan:
        """Return the plan that plain data say.

        Raises
        ------
        OptionError, KeyError, TypeError, ValueError
            If they say none.
        """
        return cls(
            n_rows=count(said["n_rows"]),
            n_voxels=count(said["n_voxels"]),
            people=tuple(map(str, said["people"])),
            rois=tuple(map(str, said["rois"])),
            maps=tuple(map(str, said["maps"])),
            subject_maps=bool(said["subject_maps"]),
            onsets=bool(said["onsets"]),
            dtype=said["dtype"],
            unit=str(said["unit"]),
            shard_rows=count(said["shard_rows"]),
        )


def count(value: Any) -> int:
    """Return a number that counts something.

    Raises
    ------
    ValueError
        If it is none, or larger than any that could be meant.
    """
    if not isinstance(value, int) or not 0 <= value < 2**40:
        message = f"expected a count, got {value!r}"
        raise ValueError(message)
    return value


@dataclass(frozen=True, slots=True)
class Roster:
    """The stimuli of a store, in the order of its rows.

    Parameters
    ----------
    names : sequence of str
        Each stimulus' name.
    paths : sequence of (str, Path or None)
        The files; empty where there are none.
    counts : sequence of int
        How many rows each has: 1, or a movie's frames. Empty where each has one.
    movies : mapping of str to str
        What the headers of those that are movies say.

    Raises
    ------
    OptionError
        If two have one name.
    """

    names: Sequence[str]
    paths: Sequence[str | Path | None] = ()
    counts: Sequence[int] = ()
    movies: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.names)) < len(self.names):
            twice = next(name for name, n in Counter(self.names).items() if n > 1)
            message = (
                f"expected stimuli with names of their own; got {twice!r} more than once. Rename "
                "one of them."
            )
            raise OptionError(message)

    @property
    def n_rows(self) -> int:
        """Rows of all together."""
        return sum(self.counts) if self.counts else len(self.names)

    def texts(self, array: str) -> Iterator[str]:
        """Yield the text of each row of ``stimulus``, ``path`` or ``movie``.

        A movie's rows have its name and file, and the first what its header says.
        """
        counts = self.counts or [1] * len(self.names)
        if array == MOVIE:
            for name, n in zip(self.names, counts, strict=True):
                yield self.movies.get(name, "")
                yield from [""] * (n - 1)
            return
        given = self.paths if array == PATH else self.names
        for text, n in zip(given or [None] * len(self.names), counts, strict=True):
            yield from ["" if text is None else str(text)] * n


def names_digest(names: Iterable[str]) -> str:
    """Return the SHA-256 of names, in order."""
    found = hashlib.sha256()
    for name in names:
        found.update(name.encode("utf-8", "backslashreplace") + b"\0")
    return found.hexdigest()

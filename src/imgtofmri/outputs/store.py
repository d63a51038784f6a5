"""`Store`: the results of a run in one folder, as arrays of Zarr's format 3, made shard by shard.

A store is planned as a whole before any work: which stimulus has which row, and how rows fall into
shards. Then shards are made in any order, by any number of processes that know nothing of each
other: a shard's files are brought to the disk and placed, then a mark that holds their digests.
What has no mark does not count. No locks are needed: whoever makes a shard writes the same bytes.

`docs/reference/store.md` describes the files.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri import __version__
from imgtofmri.documents import parse_json, read_text
from imgtofmri.exceptions import DataError, OptionError, OutputError
from imgtofmri.files import cannot_write, sha256_of, sweep, write_all, write_whole
from imgtofmri.limits import check_limit
from imgtofmri.outputs.differences import differences
from imgtofmri.outputs.store_plan import (
    ARRAYS,
    DONE,
    STIMULUS,
    TEXT_ROWS,
    Roster,
    StorePlan,
    Stream,
    count,
    names_digest,
)
from imgtofmri.outputs.zarr_format import (
    DOCUMENT,
    TEXT,
    ArrayLayout,
    document_bytes,
    file_key,
    group_document,
    little_endian,
    read_text_chunk,
    text_chunk,
)

STORE_VERSION = 1
"""Of the store's layout."""

_TOGETHER = 64
"""Files that are written together."""

_REMEDY = "Resume the run that made it, which writes what is missing, or get the store again."


@dataclass(frozen=True, slots=True)
class Constant:
    """An array that a store holds once, such as the mask.

    Attributes
    ----------
    values : array or tuple of str
    dims : tuple of str
        The name of each axis.
    attributes : mapping
        JSON values.
    """

    values: npt.NDArray[Any] | tuple[str, ...]
    dims: tuple[str, ...]
    attributes: Mapping[str, Any] | None = None

    @property
    def layout(self) -> ArrayLayout:
        """How it lies in its file."""
        is_text = isinstance(self.values, tuple)
        shape = np.shape(self.values)
        dtype = TEXT if is_text else np.asarray(self.values).dtype.name
        return ArrayLayout(shape, dtype, self.dims, shape, 0, dict(self.attributes or {}))

    def data(self) -> bytes:
        """Return its file's content."""
        if isinstance(self.values, tuple):
            return text_chunk(self.values, len(self.values))
        return little_endian(self.values, self.values.dtype.name).tobytes()


@dataclass(frozen=True, slots=True)
class Lost:
    """A stimulus whose rows hold nothing, as it could not be used.

    Attributes
    ----------
    name, reason : str
    sha256 : str or None
        The file's digest; None where it could not be read.
    """

    name: str
    reason: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """That a shard is done.

    Attributes
    ----------
    key : str
        Of which settings and stimuli: `Store.key`.
    files : dict of str to str
        SHA-256 of each of its files.
    lost : tuple of Lost
    rounding : dict of str to (float, float)
        The greatest absolute and relative error of each array that is kept in fewer digits than it
        was computed in.
    """

    key: str
    files: Mapping[str, str]
    lost: tuple[Lost, ...] = ()
    rounding: Mapping[str, tuple[float, float]] | None = None

    def text(self) -> str:
        """Return it as a line of JSON."""
        content = {
            "key": self.key,
            "files": dict(self.files),
            "lost": [[one.name, one.reason, one.sha256] for one in self.lost],
            "rounding": {name: list(pair) for name, pair in (self.rounding or {}).items()},
        }
        return json.dumps(content, sort_keys=True, ensure_ascii=False)

    @classmethod
    def of(cls, text: str) -> Mark:
        """Return what a line of JSON says.

        Raises
        ------
        ValueError, LookupError, TypeError
            If it is no mark.
        """
        said = parse_json(text)
        lost = tuple(Lost(str(n), str(why), d) for n, why, d in said["lost"])
        rounding = {str(n): (float(a), float(r)) for n, (a, r) in said["rounding"].items()}
        files = {str(file): str(digest) for file, digest in said["files"].items()}
        return cls(str(said["key"]), files, lost, rounding)


class Store:
    """The store at a path: `create` makes or joins it, `open` reads it.

    Attributes
    ----------
    path : Path
    plan : StorePlan
    settings : dict
        What the results depend on besides the stimuli: ``settings``, how the run writes;
        ``prediction``, what predicts; ``version``, of imgtofmri.
    """

    def __init__(
        self,
        path: Path,
        plan: StorePlan,
        settings: Mapping[str, Any],
        constants: Mapping[str, ArrayLayout],
        names: Sequence[str] | None = None,
        stimuli: str = "",
    ) -> None:
        self.path, self.plan = path, plan
        self.settings = dict(settings)
        self._constants = dict(constants)
        if names is not None:
            self.names = names
        self._stimuli = stimuli if names is None else names_digest(names)
        # All that one shard's values and files depend on, but for its stimuli.
        shards = {key: said for key, said in plan.to_dict().items() if key != "n_rows"}
        self._settings_key = _digest(document_bytes({**self.settings, "plan": shards}))
        self._last_names: tuple[tuple[int, ...], list[str]] | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        plan: StorePlan,
        roster: Roster,
        constants: Mapping[str, Constant],
        settings: Mapping[str, Any],
        prediction: Mapping[str, Any],
        *,
        grow: bool = False,
    ) -> Store:
        """Make the store, or join the one that is there if it is of the same plan.

        Any number of processes may do so at the same time: each writes the same bytes, and the
        group's own metadata last.

        Parameters
        ----------
        path : Path
            A folder, by custom called ``something.zarr``.
        plan : StorePlan
        roster : Roster
            The stimuli in the order of their rows.
        constants : mapping of str to Constant
            Arrays that are the same for all stimuli.
        settings : mapping
            How the run writes; JSON values.
        prediction : mapping
            What predicts: ``prediction.provenance.to_dict()``.
        grow : bool
            Whether stimuli may be added to those that the store has, after them.

        Returns
        -------
        Store

        Raises
        ------
        OptionError
            If a store of other settings, or of other stimuli, is there; or other files.
        DataError
            If what is there cannot be read.
        OutputError
            If it cannot be written.
        """
        made = {name: constant.data() for name, constant in constants.items()}
        layouts = {name: constant.layout for name, constant in constants.items()}
        said = {
            "settings": _plain(settings),
            "prediction": _plain(prediction),
            "version": __version__,
            "constants": _digest(
                b"".join(
                    _digest(document_bytes(layouts[name].document()) + made[name]).encode()
                    for name in sorted(made)
                )
            ),
        }
        store = cls(path, plan, said, layouts, list(roster.texts(STIMULUS)))
        try:
            if (path / DOCUMENT).exists():
                store = store._joined(grow)
            elif path.is_dir():
                _check_own(path)
            store._write_frame(made, roster, grow)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise cannot_write(path, error) from error
        return store

    def _joined(self, grow: bool) -> Store:
        """Return this store with the shards' size of the one that is there, which it must be."""
        there = Store.open(self.path)
        then, now = there.plan, self.plan
        if then.n_rows < now.n_rows and grow:
            now = replace(now, shard_rows=then.shard_rows)
        parts = {"settings", "prediction"}
        different = differences(
            {part: there.settings[part] for part in parts} | {"plan": then.to_dict()},
            {part: self.settings[part] for part in parts}
            | {"plan": now.to_dict() | {"n_rows": then.n_rows}},
        )
        if there.settings["version"] != __version__:
            different.append(
                f"the version of imgtofmri was {there.settings['version']} and is now {__version__}"
            )
        if not different and there.settings["constants"] != self.settings["constants"]:
            different.append("the encoder's mask, or another array of it, is not the same")
        if different:
            message = (
                f"{self.path}: expected a store of these settings, but {'; '.join(different)}. Use "
                "the same settings, or another folder."
            )
            raise OptionError(message)
        n = then.n_rows
        if then.n_rows > now.n_rows or names_digest(self.names[:n]) != there._stimuli:
            message = (
                f"{self.path}: expected a store of these {now.n_rows} stimuli; it holds {n}, and "
                "not the same, or not in this order. Give the stimuli that it was made of, or use "
                "another folder."
            )
            raise OptionError(message)
        if n < now.n_rows and not grow:
            message = (
                f"{self.path}: expected a store of these {now.n_rows} stimuli; it holds the first "
                f"{n}. Use `resume` to add the others, or another folder."
            )
            raise OptionError(message)
        return Store(self.path, now, self.settings, self._constants, self.names)

    @staticmethod
    def remove(path: Path) -> None:
        """Remove a store, so that another can be made in its place.

        Raises
        ------
        OptionError
            If the folder holds anything else.
        OutputError
            If it cannot be removed.
        """
        try:
            if path.is_dir():
                _check_own(path)
                # Without them nothing of what may be left counts.
                (path / DOCUMENT).unlink(missing_ok=True)
                for name in (DONE, *ARRAYS):
                    if (path / name).is_dir():
                        shutil.rmtree(path / name)
                if not any(path.iterdir()):
                    path.rmdir()
        except OSError as error:
            raise cannot_write(path, error) from error

    def _write_frame(self, made: Mapping[str, bytes], roster: Roster, grow: bool) -> None:
        """Write what no shard writes, where it is not there already: the group's metadata last."""
        root = document_bytes(self._document())
        is_there = _is_same(self.path / DOCUMENT, root)
        new: dict[Path, bytes] = {}
        any_new = False
        for file, make in self._frame(made, roster):
            path = self.path / file
            # Of many workers that join a store each need not read all of it.
            if is_there and not grow and path.exists():
                continue
            data = make()
            if not _is_same(path, data):
                new[path], any_new = data, True
            if len(new) == _TOGETHER:
                write_all(new)
                new = {}
        # All that the group's metadata speak of is there before them.
        write_all(new)
        if any_new or not is_there:
            write_whole(self.path / DOCUMENT, root)

    def _frame(
        self, made: Mapping[str, bytes], roster: Roster
    ) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Yield each file but the group's metadata, and what makes its content."""
        layouts = self._layouts()
        for name, layout in layouts.items():
            yield f"{name}/{DOCUMENT}", partial(document_bytes, layout.document())
        for name, data in made.items():
            yield file_key(name, *(0,) * len(layouts[name].shape)), partial(bytes, data)
        for array in self.plan.text_arrays():
            texts = roster.texts(array) if array != DONE else iter(())
            for number in range(-(-self.plan.n_rows // TEXT_ROWS) if array != DONE else 0):
                some = list(islice(texts, TEXT_ROWS))
                yield file_key(array, number), partial(text_chunk, some, TEXT_ROWS)

    def _layouts(self) -> dict[str, ArrayLayout]:
        return {**self._constants, **self.plan.text_arrays(), **self.plan.row_arrays()}

    def _document(self) -> dict[str, Any]:
        attributes = {
            "store_version": STORE_VERSION,
            "plan": self.plan.to_dict(),
            "stimuli": self._stimuli,
            **self.settings,
        }
        documents = {name: layout.document() for name, layout in self._layouts().items()}
        return group_document(attributes, documents)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Return the store at a path, of which as yet only the metadata are read.

        Raises
        ------
        DataError
            If there is none, or it is damaged or not as imgtofmri writes it.
        """
        place = Path(path)
        try:
            content = parse_json(read_text(place / DOCUMENT))
            said = content["attributes"]
            if said["store_version"] != STORE_VERSION:
                message = f"its layout is of version {said['store_version']}, not {STORE_VERSION}"
                raise ValueError(message)
            plan = StorePlan.from_dict(said["plan"])
            settings = {key: said[key] for key in ("settings", "prediction")}
            settings |= {key: str(said[key]) for key in ("version", "constants")}
            if not all(isinstance(settings[key], dict) for key in ("settings", "prediction")):
                message = "its settings are no table"
                raise TypeError(message)
            documents = content["consolidated_metadata"]["metadata"]
            made = {*plan.text_arrays(), *plan.row_arrays()}
            constants = {
                name: _constant_layout(name, document)
                for name, document in documents.items()
                if name not in made
            }
            store = cls(place, plan, settings, constants, stimuli=str(said["stimuli"]))
            for name, layout in store._layouts().items():
                if documents[name] != layout.document():
                    message = f"{name} does not lie as its plan says"
                    raise ValueError(message)
        except FileNotFoundError as error:
            message = (
                f"{place}: expected a store that imgtofmri wrote; there is no {DOCUMENT} in it. "
                "Name the store's folder, such as out/predictions.zarr, or resume its run."
            )
            raise DataError(message) from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            message = (
                f"{place}: expected a store that imgtofmri wrote; its {DOCUMENT} is damaged or of "
                f"another kind ({type(error).__name__}: {error}). Remove that file and resume the "
                "run that made it, or get the store again."
            )
            raise DataError(message) from error
        return store

    def with_rows(self, n_rows: int) -> Store:
        """Return the store as it was when it had fewer rows."""
        plan = replace(self.plan, n_rows=n_rows)
        there = Store(self.path, plan, self.settings, self._constants, stimuli=self._stimuli)
        if "names" in self.__dict__:
            there.names = self.names[:n_rows]
        return there

    @cached_property
    def names(self) -> Sequence[str]:
        """The name of each row's stimulus.

        Raises
        ------
        DataError
            If they cannot be read.
        """
        return self.texts(STIMULUS)

    def row_names(self, rows: range) -> Sequence[str]:
        """Return the names of some rows' stimuli, of which as few files are read as can be.

        Raises
        ------
        DataError
            If they cannot be read.
        """
        if "names" in self.__dict__:
            return self.names[rows.start : rows.stop]
        first = rows.start // TEXT_ROWS
        found: list[str] = []
        for number in range(first, -(-rows.stop // TEXT_ROWS)):
            found += self._names_file(number)
        return found[rows.start - first * TEXT_ROWS : rows.stop - first * TEXT_ROWS]

    def _names_file(self, number: int) -> list[str]:
        """Return what a file of names holds; the last one stays, as several shards share it."""
        file = file_key(STIMULUS, number)
        try:
            found = (self.path / file).stat()
        except OSError as error:
            raise self._missing(file) from error
        asked = number, found.st_ino, found.st_mtime_ns, found.st_size
        last = self._last_names
        if last is None or last[0] != asked:
            last = self._last_names = asked, self._text_file(file, TEXT_ROWS)
        return last[1]

    def texts(self, array: str) -> list[str]:
        """Return the texts of ``stimulus``, ``path`` or ``movie``, one for each row.

        Raises
        ------
        DataError
            If they cannot be read.
        """
        n = self.plan.n_rows
        found: list[str] = []
        for number in range(-(-n // TEXT_ROWS)):
            found += self._text_file(file_key(array, number), TEXT_ROWS)
        return found[:n]

    def _text_file(self, file: str, n: int) -> list[str]:
        with self._reading(file) as path:
            check_limit("text_mb", path.stat().st_size / 1e6, str(path), "MB of text")
            texts = read_text_chunk(path.read_bytes())
            if len(texts) != n:
                message = f"it holds {len(texts)} texts, not {n}"
                raise ValueError(message)
        return texts

    def constant(self, name: str) -> npt.NDArray[Any] | tuple[str, ...] | None:
        """Return an array that the store holds once, None if it has none of that name.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        layout = self._constants.get(name)
        if layout is None:
            return None
        file = file_key(name, *(0,) * len(layout.shape))
        if layout.is_text:
            return tuple(self._text_file(file, layout.shape[0]))
        size = np.dtype(layout.dtype).itemsize * math.prod(layout.shape)
        return self.values(file, layout.dtype, size, size, 0).reshape(layout.shape)

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Return the attributes of an array that the store holds once."""
        layout = self._constants.get(name)
        return {} if layout is None else layout.attributes

    def values(
        self, file: str, dtype: str, file_bytes: int, n_bytes: int, offset: int
    ) -> npt.NDArray[Any]:
        """Return a part of a file of numbers, which must have the size that it should have.

        Raises
        ------
        DataError
            If the file is missing or cut short, or cannot be read.
        """
        with self._reading(file) as path:
            size = path.stat().st_size
            if size != file_bytes:
                message = f"it has {size} bytes, not {file_bytes}"
                raise ValueError(message)
            check_limit("array_gb", n_bytes / 1e9, str(path), "GB")
            little = np.dtype(dtype).newbyteorder("<")
            found = np.fromfile(path, little, n_bytes // little.itemsize, offset=offset)
        return found.astype(dtype, copy=False)

    @contextmanager
    def _reading(self, file: str) -> Iterator[Path]:
        """Give a file's path, and say of one that is missing or damaged what to do."""
        try:
            yield self.path / file
        except FileNotFoundError as error:
            raise self._missing(file) from error
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            message = f"{self.path}: expected {file} to be whole; {error}. {_REMEDY}"
            raise DataError(message) from error

    def _missing(self, file: str) -> DataError:
        return DataError(f"{self.path}: expected {file}; it is not there. {_REMEDY}")

    def key(self, shard: int) -> str:
        """Return what tells a shard of these settings and stimuli from every other."""
        rows = self.plan.shard(shard)
        names = names_digest(self.row_names(rows))
        return _digest(f"{self._settings_key} {names}".encode())

    def mark(self, shard: int) -> Mark | None:
        """Return a shard's mark, None if there is none or it is another's, or damaged."""
        try:
            found = self.path / file_key(DONE, shard)
            check_limit("text_mb", found.stat().st_size / 1e6, str(found), "MB of text")
            [text] = read_text_chunk(found.read_bytes())
            mark = Mark.of(text)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        files = {stream.file(shard) for stream in self.plan.streams()}
        return mark if mark.key == self.key(shard) and set(mark.files) == files else None

    def is_done(self, shard: int) -> bool:
        """Return whether a shard has its mark, and its files the sizes that they should have."""
        return self.mark(shard) is not None and not self._misfits(shard)

    def verify(self, shard: int) -> str:
        """Return what is wrong with a shard, read to its last byte; nothing if it is whole.

        Returns
        -------
        str
            Such as "group/c.3.0 is missing"; empty if it is done and nothing is wrong.
        """
        mark = self.mark(shard)
        if mark is None:
            return f"{file_key(DONE, shard)} is missing, or is of other settings or stimuli"
        misfit = self._misfits(shard)
        if misfit:
            return misfit
        for file, digest in mark.files.items():
            try:
                if sha256_of(self.path / file) != digest:
                    return f"{file} is not what was written"
            except OSError as error:
                return f"{file} cannot be read ({error.strerror})"
        return ""

    def _misfits(self, shard: int) -> str:
        """Return which file of a shard is missing or of another size."""
        n = len(self.plan.shard(shard))
        for stream in self.plan.streams():
            file = stream.file(shard)
            try:
                if (self.path / file).stat().st_size != stream.n_bytes(n):
                    return f"{file} is of another size than it should be"
            except OSError:
                return f"{file} is missing"
        return ""

    def unfinished(self) -> Iterator[int]:
        """Yield the shards that are not done."""
        return (shard for shard in range(self.plan.n_shards) if not self.is_done(shard))

    def rounding(self) -> dict[str, tuple[float, float]]:
        """Return the greatest absolute and relative errors of arrays kept in fewer digits."""
        found: dict[str, tuple[float, float]] = {}
        for mark in map(self.mark, range(self.plan.n_shards)):
            for name, (error, relative) in ((mark and mark.rounding) or {}).items():
                before = found.get(name, (0.0, 0.0))
                found[name] = (max(before[0], error), max(before[1], relative))
        return found

    def read(self, stream: Stream, rows: Sequence[int] | range) -> npt.NDArray[Any]:
        """Return some rows of an array.

        Parameters
        ----------
        stream : Stream
            Of the plan.
        rows : sequence of int
            In any order.

        Returns
        -------
        array of shape (n_rows, ...)

        Raises
        ------
        DataError
            If a file that holds one is missing or cut short.
        """
        parts = [self._run(stream, run) for run in _runs(rows, self.plan.shard_rows)]
        dtype = stream.layout.dtype
        return np.concatenate(parts) if parts else np.empty((0, *stream.row_shape), dtype)

    def _run(self, stream: Stream, rows: range) -> npt.NDArray[Any]:
        """Return consecutive rows of one shard."""
        shard = rows.start // self.plan.shard_rows
        own = self.plan.shard(shard)
        size, n = stream.row_bytes, len(rows)
        offset = (rows.start - own.start) * size
        whole = stream.n_bytes(len(own))
        values = self.values(stream.file(shard), stream.layout.dtype, whole, n * size, offset)
        return values.reshape(n, *stream.row_shape)

    def sweep(self) -> None:
        """Remove what dead processes left unfinished in the store."""
        sweep(self.path, below=True)

    def lost(self, shards: Iterable[int]) -> dict[str, Lost]:
        """Return the stimuli that could not be used, as the marks of some shards say."""
        marks = (self.mark(shard) for shard in shards)
        return {lost.name: lost for mark in marks if mark is not None for lost in mark.lost}

    def frame_files(self, *, marks: bool = True) -> list[Path]:
        """Return the files that `create` wrote, and the marks: not those of shards."""
        layouts = self._layouts()
        files = [DOCUMENT, *(f"{name}/{DOCUMENT}" for name in layouts)]
        files += [file_key(n, *(0,) * len(layout.shape)) for n, layout in self._constants.items()]
        n_texts = -(-self.plan.n_rows // TEXT_ROWS)
        arrays = [name for name in self.plan.text_arrays() if name != DONE]
        files += [file_key(array, k) for array in arrays for k in range(n_texts)]
        if marks:
            files += [file_key(DONE, shard) for shard in range(self.plan.n_shards)]
        return [self.path / file for file in sorted(files)]

    def files(self) -> list[Path]:
        """Return all files of the store."""
        shards = [
            self.path / stream.file(shard)
            for stream in self.plan.streams()
            for shard in range(self.plan.n_shards)
        ]
        return [*self.frame_files(), *shards]


def _check_own(path: Path) -> None:
    """Refuse a folder that holds anything but what stores do."""
    own = {DOCUMENT, *ARRAYS}
    entries = sorted(path.iterdir())
    others = [e.name for e in entries if e.name not in own and not e.name.startswith(".imgtofmri-")]
    if others or path.is_symlink():
        what = f"it holds {others[0]}" if others else "it is a link"
        message = (
            f"{path}: expected a store, or no folder of that name; {what}. Use another folder."
        )
        raise OptionError(message)


def _constant_layout(name: str, document: Mapping[str, Any]) -> ArrayLayout:
    """Return the layout that an array's metadata say, if it is a constant's."""
    shape = tuple(map(count, document["shape"]))
    dims = tuple(map(str, document["dimension_names"]))
    dtype = str(document["data_type"])
    if dtype not in (TEXT, "bool", "float32", "float64") or name not in ARRAYS:
        message = f"it has an array {name!r} of data type {dtype}"
        raise ValueError(message)
    return ArrayLayout(shape, dtype, dims, shape, 0, dict(document["attributes"]))


def _runs(rows: Iterable[int], shard_rows: int) -> Iterator[range]:
    """Cut rows into runs of consecutive ones of one shard."""
    start = end = -1
    for row in rows:
        if row != end or row % shard_rows == 0:
            if end > start:
                yield range(start, end)
            start = end = row
        end += 1
    if end > start:
        yield range(start, end)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values as they are read again."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(value)))
    return plain


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_same(path: Path, data: bytes) -> bool:
    """Return whether a file holds these bytes."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False

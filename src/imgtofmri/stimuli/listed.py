"""Files that a list names, one a line: a million of them as sources, none opened or looked up.

A list is taken at its word. Which source is which then depends on the list alone, and not on what a
file system shows to one machine at one moment; whatever cannot be read is told when it is its turn.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, overload

from imgtofmri.exceptions import OptionError
from imgtofmri.limits import check_limit
from imgtofmri.stimuli.discovery import no_stimulus, suffix_kind, unique_names
from imgtofmri.stimuli.items import Failure, Kind, Source, StimulusWarning, one_line

STANDARD_INPUT = "-"

_CHUNK_BYTES = 1 << 20


class SourceList(Sequence[Source]):
    """Sources that are made when they are asked for, as a million of them would fill the memory.

    Parameters
    ----------
    paths : list of str
        Of files whose suffixes count, none twice.
    names : dict of int to str
        What sources are called whose names are not their files'.
    failures : tuple of Failure
        Lines that name no stimulus.
    """

    def __init__(
        self,
        paths: list[str],
        names: dict[int, str],
        failures: tuple[Failure, ...] = (),
    ) -> None:
        self._paths, self._names, self.failures = paths, names, failures

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Source: ...

    @overload
    def __getitem__(self, index: slice) -> list[Source]: ...

    def __getitem__(self, index: int | slice) -> Source | list[Source]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        path = self._paths[position]
        name = self._names.get(position)
        return Source(Path(path), os.path.basename(path) if name is None else name, _kind(path))  # noqa: PTH119

    def __iter__(self) -> Iterator[Source]:
        return (self[i] for i in range(len(self)))

    @property
    def names(self) -> list[str]:
        """The name of each."""
        names = list(map(os.path.basename, self._paths))
        for position, name in self._names.items():
            names[position] = name
        return names

    @property
    def paths(self) -> list[str]:
        """The path of each, as the list has it."""
        return self._paths

    def of_kind(self, kind: Kind) -> SourceList:
        """Return those of one kind."""
        chosen = [i for i, path in enumerate(self._paths) if _kind(path) == kind]
        if len(chosen) == len(self):
            return self
        names = {n: self._names[i] for n, i in enumerate(chosen) if i in self._names}
        return SourceList([self._paths[i] for i in chosen], names)


def names_of(sources: Sequence[Source]) -> list[str]:
    """Return the name of each source."""
    if isinstance(sources, SourceList):
        return sources.names
    return [source.name for source in sources]


def paths_of(sources: Sequence[Source]) -> list[str]:
    """Return the path of each source."""
    if isinstance(sources, SourceList):
        return sources.paths
    return [str(source.path) for source in sources]


def of_kind(sources: Sequence[Source], kind: Kind) -> Sequence[Source]:
    """Return the sources of one kind, in order."""
    if isinstance(sources, SourceList):
        return sources.of_kind(kind)
    return [source for source in sources if source.kind == kind]


def read_list(file: str | Path, *, null: bool = False) -> SourceList:
    """Read a list of image and movie files.

    Paths stand as they are, one a line: nothing in them is a pattern, a comment or a quotation.
    Relative ones start at the current folder, as those that `find`, `ls` and `git ls-files` print
    and that `tar -T` and `xargs` take. Empty lines are passed over.

    Parameters
    ----------
    file : str or Path
        The list, in UTF-8 or whatever bytes the file system's names have; ``"-"`` is standard
        input.
    null : bool
        Paths end with a NUL byte, as ``find -print0`` writes them, because some hold newlines.

    Returns
    -------
    SourceList
        In the list's order, with names as `find_sources` gives them.

    Raises
    ------
    OptionError
        If the list names nothing, cannot be read, or is one of the other kind.
    DataError
        If it is beyond the limit of texts.

    Warns
    -----
    StimulusWarning
        If a file is named more than once.
    """
    shown = "standard input" if str(file) == STANDARD_INPUT else str(file)
    paths: list[str] = []
    failures: list[Failure] = []
    seen: set[str] = set()
    here = os.getcwd()  # noqa: PTH109
    n_repeated = 0
    try:
        with _opened(file) as stream:
            for path in _lines(stream, b"\0" if null else b"\n", shown):
                place = os.path.normpath(os.path.join(here, path))  # noqa: PTH118
                if place in seen:
                    n_repeated += 1
                    continue
                seen.add(place)
                if suffix_kind(path) is None:
                    failures.append(Failure(one_line(path), no_stimulus(path)))
                else:
                    paths.append(path)
    except OSError as error:
        message = (
            f"{shown}: expected a list of files, one a line; it cannot be read "
            f"({error.strerror or error}). Check its name and permissions."
        )
        raise OptionError(message) from error
    if not paths and not failures:
        message = f"{shown}: expected a list of files, one a line; it names none. Name some."
        raise OptionError(message)
    names = unique_names(paths)
    special = {
        i: name
        for i, (path, name) in enumerate(zip(paths, names, strict=True))
        if name != os.path.basename(path)  # noqa: PTH119
    }
    if n_repeated:
        message = (
            f"{shown}: {n_repeated} lines name a file again; each file counts once, where it comes "
            "first."
        )
        warnings.warn(message, StimulusWarning, stacklevel=2)
    return SourceList(paths, special, tuple(failures))


def _opened(file: str | Path) -> BinaryIO | nullcontext[BinaryIO]:
    if str(file) == STANDARD_INPUT:
        return nullcontext(sys.stdin.buffer)
    return Path(file).open("rb")


def _lines(stream: BinaryIO, end: bytes, shown: str) -> Iterator[str]:
    """Yield the paths of a list, which need not end its last one."""
    rest, n_bytes, first = b"", 0, True
    while chunk := stream.read(_CHUNK_BYTES):
        n_bytes += len(chunk)
        check_limit("text_mb", n_bytes / 1e6, shown, "MB of names")
        if first:
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            first = False
        if end != b"\0" and b"\0" in chunk:
            message = (
                f"{shown}: expected a path a line; got NUL bytes. Use `null` if they end the "
                "paths, or save the list in UTF-8 (older PowerShells write UTF-16)."
            )
            raise OptionError(message)
        *whole, rest = (rest + chunk).split(end)
        yield from _paths(whole, end)
    yield from _paths([rest], end)


def _paths(lines: list[bytes], end: bytes) -> Iterator[str]:
    for line in lines:
        path = os.fsdecode(line if end == b"\0" else line.removesuffix(b"\r"))
        if path:
            yield path.rstrip(os.sep) or path


def _kind(path: str) -> Kind:
    kind = suffix_kind(path)
    assert kind is not None, path
    return kind

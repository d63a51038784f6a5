"""A TOML file as values that know the line they came from."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from imgtofmri.assets import cache_dir
from imgtofmri.documents import read_text
from imgtofmri.exceptions import OptionError, choice_message
from imgtofmri.files import is_there
from imgtofmri.limits import check_limit

Key = tuple[str | int, ...]

CACHE_PREFIX = "cache:"
"""What a study's paths begin with that are downloads."""

_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_KEY_PART}(?:\s*\.\s*{_KEY_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
# Strings and comments, whole, in which brackets and line ends do not count; and those.
_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?"""|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|[][{}\n]''',
    re.DOTALL,
)
_BAD_IN_LABELS = re.compile(r"[/\\\x00-\x1f\x7f]|^\.+$")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a study file, read key by key; what is wrong is reported with its line.

    Attributes
    ----------
    path : Path
        The file.
    values : mapping
        The table's content.
    key : tuple
        Where in the file the table stands, e.g. ``("subjects", 0, "rois")``.
    lines : mapping of key to int
        The line of every key, counted from 1.
    """

    path: Path
    values: Mapping[str, Any]
    key: Key
    lines: Mapping[Key, int]

    def error(self, name: str | int | None, problem: str) -> OptionError:
        """Return an error that names file, line and key; ``problem`` says the rest."""
        key = self.key if name is None else (*self.key, name)
        line = next(
            (self.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.lines), 1
        )
        where = f"{self.path}, line {line}: "
        return OptionError(where + f"{dotted(key)} {problem}".strip())

    def fail(self, name: str | None, problem: str) -> NoReturn:
        """Raise the error."""
        raise self.error(name, problem)

    def only(self, names: Iterable[str]) -> None:
        """Refuse keys that mean nothing, which are mostly misspelt ones."""
        known = list(names)
        for name in self.values:
            if name not in known:
                message = choice_message("", "a key", name, known)
                self.fail(name, f"means nothing here: {message}")

    def get(self, name: str, kind: type | tuple[type, ...], what: str, default: Any = ...) -> Any:
        """Return a value of a kind, or the default; without a default it must be there."""
        value = self.values.get(name, default)
        if value is ...:
            self.fail(None, f"lacks {name}: expected {what}. Add it.".strip())
        if name in self.values and (not isinstance(value, kind) or _is_misplaced_bool(value, kind)):
            self.fail(name, f"must be {what}; got {value!r}. Correct it.")
        return value

    def text(self, name: str, default: Any = ...) -> Any:
        """Return a string."""
        value = self.get(name, str, "a text in quotes", default)
        if name in self.values and not value.strip():
            self.fail(name, "must not be empty. Fill it in, or leave the key out.")
        return value

    def label(self, name: str, default: Any = ...) -> Any:
        """Return a string that may become part of a file's name."""
        value = self.text(name, default)
        if name in self.values and _BAD_IN_LABELS.search(value):
            self.fail(name, f"must not contain a slash or be dots alone; got {value!r}. Rename it.")
        return value

    def choice(self, name: str, default: Any = ..., *, valid: Iterable[str]) -> str:
        """Return one of several words."""
        options = list(valid)
        value = self.get(name, str, f"one of {', '.join(options)}", default)
        if value not in options:
            self.fail(name, choice_message("", "it", value, options).removeprefix("it "))
        return str(value)

    def number(self, name: str, default: Any = ..., *, above: float | None = None) -> Any:
        """Return a number, above a limit if one is given."""
        what = "a number" if above is None else f"a number above {above:g}"
        value = self.get(name, (int, float), what, default)
        fits = value is None or (abs(value) < math.inf and (above is None or value > above))
        if name in self.values and not fits:
            self.fail(name, f"must be {what}; got {value!r}. Correct it.")
        return value if value is None else float(value)

    def whole(self, name: str, default: Any = ..., *, least: int = 0) -> Any:
        """Return a whole number, at least ``least``."""
        what = f"a whole number, at least {least}"
        value = self.get(name, int, what, default)
        if name in self.values and value < least:
            self.fail(name, f"must be {what}; got {value!r}. Correct it.")
        return value

    def flag(self, name: str, default: Any = ...) -> Any:
        """Return true or false."""
        return self.get(name, bool, "true or false", default)

    def items(
        self, name: str, default: Any = ..., *, kind: type | tuple[type, ...], what: str
    ) -> Any:
        """Return a list whose items are of a kind, as a tuple."""
        values = self.get(name, list, f"a list of {what}", default)
        if values is None or name not in self.values:
            return values
        if not values or not all(
            isinstance(item, kind) and not _is_misplaced_bool(item, kind) for item in values
        ):
            self.fail(name, f"must be a list of {what}; got {values!r}. Correct it.")
        return tuple(values)

    def file(self, name: str, default: Any = ..., *, folder: bool = False) -> Any:
        """Return an existing file (or folder), relative to the study file's own folder.

        ``cache:NAME`` is a download of the study, which may be still to come.
        """
        self.get(name, str, "the path of a folder" if folder else "the path of a file", default)
        value = self.text(name, default)
        if name not in self.values:
            return value
        if "\0" in value:
            self.fail(name, f"must be a path; got {value!r}. Correct it.")
        if value.startswith(CACHE_PREFIX):
            found = cached_file(value.removeprefix(CACHE_PREFIX))
            if found is None:
                self.fail(name, f"must stay inside the cache; got {value!r}. Drop the '..'.")
            return found
        try:
            found = self.path.parent / Path(value).expanduser()
        except RuntimeError:  # ~ of a user who is not known here
            self.fail(name, f"must be a path; there is no home folder for {value!r}. Write it out.")
        kind = "a folder" if folder else "a file"
        if not (is_there(found) and (found.is_dir() or not folder)):
            self.fail(name, f"must be {kind} that exists; there is none at {found}. Correct it.")
        return found

    def table(self, name: str) -> Table | None:
        """Return a table inside this one."""
        values = self.get(name, dict, f"a table ([{dotted((*self.key, name))}])", None)
        if values is None:
            return None
        return Table(self.path, values, (*self.key, name), self.lines)

    def section(self, name: str) -> Table:
        """Return a table inside this one, empty where there is none."""
        return self.table(name) or Table(self.path, {}, (*self.key, name), self.lines)

    def tables(self, name: str) -> list[Table]:
        """Return the tables of a list of tables."""
        what = f"a list of tables ([[{dotted((*self.key, name))}]])"
        values = self.get(name, list, what)
        if not values or not all(isinstance(item, dict) for item in values):
            self.fail(name, f"must be {what}; got {values!r}. Correct it.")
        return [
            Table(self.path, item, (*self.key, name, number), self.lines)
            for number, item in enumerate(values)
        ]


def read_document(path: Path) -> Table:
    """Read a study file's values and lines.

    Parameters
    ----------
    path : Path
        A ``.toml`` file.

    Returns
    -------
    Table
        The whole file.

    Raises
    ------
    OptionError
        If the file cannot be read, is of another kind, or breaks the rules of its language.
    """
    if path.suffix.lower() != ".toml":
        message = f"{path}: a study is a .toml file; got {path.suffix!r}. Rename or convert it."
        raise OptionError(message)
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        message = (
            f"{path}: the study file cannot be read ({error}). Check the path and its encoding."
        )
        raise OptionError(message) from error
    try:
        values = tomllib.loads(text)
    # Numbers of too many digits and dates that are none raise other errors than TOML's own.
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        message = (
            f"{path}: not valid TOML: {reason}. Texts need quotes; a key stands once in a table."
        )
        raise OptionError(message) from error
    check_limit("nesting", _depth(values), str(path), "tables in one another", OptionError)
    lines = dict(_toml_lines(text))
    for (*within, name), number in _whole_numbers(values):
        # As TOML says; what is beyond cannot become any other number, either.
        if not -(2**63) <= number < 2**63:
            problem = f"must be of 64 bits; got a number of {len(str(abs(number)))} digits."
            raise Table(path, values, tuple(within), lines).error(name, f"{problem} Correct it.")
    return Table(path, values, (), lines)


def cached_file(name: str) -> Path | None:
    """Return where a study's download lies in the cache; None if the name leads out of it."""
    if "\0" in name:
        return None
    folder = (cache_dir() / "studies").resolve()
    found = (folder / name).resolve()
    return found if found.is_relative_to(folder) and found != folder else None


def is_awaited(path: Path) -> bool:
    """Tell whether a path is that of a download that is not in the cache yet."""
    return path.is_relative_to((cache_dir() / "studies").resolve()) and not is_there(path)


def dotted(key: Key) -> str:
    """Write a key as TOML does, items of a list counted from 1.

    Examples
    --------
    >>> dotted(("subjects", 0, "name"))
    'subjects[1].name'
    """
    text = ""
    for part in key:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _toml_lines(text: str) -> Iterator[tuple[Key, int]]:
    """Yield the line of each table and key of a valid TOML text.

    The standard library's parser keeps no lines. Values that span several lines are skipped by
    counting brackets outside strings; keys inside an inline table count as that table's line.
    """
    table: Key = ()
    counts: dict[Key, int] = {}
    at, number = 0, 1
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end]
        if header := _HEADER.match(line):
            table = ()
            parts = _key_parts(header[2])
            for depth, part in enumerate(parts, start=1):
                table = (*table, part)
                if depth == len(parts) and header[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    yield table, number
                if table in counts:
                    table = (*table, counts[table])
            yield table, number
        elif assignment := _ASSIGNMENT.match(line):
            yield (*table, *_key_parts(assignment[1])), number
            end = _value_end(text, at + assignment.end())
        number += text.count("\n", at, end) + 1
        at = end + 1


def _key_parts(text: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY_PART, text)]


def _value_end(text: str, at: int) -> int:
    """Return where the line ends on which a TOML value ends that begins here."""
    depth = 0
    for token in _TOKEN.finditer(text, at):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if token[0] == "\n" and depth <= 0:
            return token.start()
    return len(text)


def _depth(value: object) -> int:
    """Return how many lists and tables lie in one another."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        parts = (item.values() if isinstance(item, dict) else item for item in level)
        level = [part for part_of in parts for part in part_of]
    return depth


def _whole_numbers(value: object, key: Key = ()) -> Iterator[tuple[Key, int]]:
    """Yield each whole number, with its key, in lists and tables within one another."""
    if isinstance(value, dict | list):
        for part, held in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _whole_numbers(held, (*key, part))
    elif isinstance(value, int):
        yield key, value


def _is_misplaced_bool(value: object, kind: type | tuple[type, ...]) -> bool:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return isinstance(value, bool) and bool not in kinds

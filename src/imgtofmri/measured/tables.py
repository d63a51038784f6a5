"""Which stimulus a row of responses, a file of a pattern or a category belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgtofmri.exceptions import DataError, check_choice
from imgtofmri.files import is_file, natural_key
from imgtofmri.stimuli import IMAGE_SUFFIXES
from imgtofmri.stimuli.discovery import tell_of_others
from imgtofmri.tables import TextTable, read_table

ORDERS = ("natural", "text")
"""How pictures of a folder may be ordered; see `list_images`."""

_NAME_COLUMNS = ("name", "stim_file", "stimulus")
_FILE_COLUMNS = ("file", "path")


@dataclass(frozen=True, slots=True)
class StimulusRows:
    """The stimulus of each row of responses.

    Attributes
    ----------
    names : tuple of str
        Names or paths, one for each row; repeats have the same.
    folds : tuple of str or None
        The fold of each row, where the table says it.
    """

    names: tuple[str, ...]
    folds: tuple[str, ...] | None = None


def read_stimulus_rows(
    path: Path, column: str = "stimulus", fold_column: str | None = None
) -> StimulusRows:
    """Read the stimulus of each row of responses from a table.

    Parameters
    ----------
    path : Path
        TSV or CSV with a header.
    column : str
        The column of names or paths.
    fold_column : str, optional
        The column of folds.

    Returns
    -------
    StimulusRows
        In the table's order.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, or has an empty cell.
    """
    table = read_table(path)
    names = _whole_column(table, column)
    return StimulusRows(names, None if fold_column is None else _whole_column(table, fold_column))


def _whole_column(table: TextTable, name: str) -> tuple[str, ...]:
    """Return a column whose every cell says something."""
    cells = table.names(name)
    if None in cells:
        place = table.place(cells.index(None))
        message = f"{place}: {name} is empty. Fill it in, or drop the row."
        raise DataError(message)
    return tuple(cell for cell in cells if cell is not None)


def list_images(folder: Path, order: str = "natural") -> StimulusRows:
    """Return every image below a folder, in sorted order of folders, then of files.

    Parameters
    ----------
    folder : Path
        Searched with the folders in it. Hidden files and folders are passed over.
    order : {"natural", "text"}
        "natural": numbers in names by their value, 2.jpg before 10.jpg, as everywhere else in this
        package. "text": character by character, 10.jpg before 2.jpg, as Python sorts.

    Returns
    -------
    StimulusRows
        Paths relative to ``folder``, with forward slashes.

    Raises
    ------
    DataError
        If there is none.
    OptionError
        If there is no such order.

    Warns
    -----
    StimulusWarning
        If movies, or pictures of formats that are not read, were passed over: how many.
    """
    check_choice("order", order, ORDERS)
    there = [path.relative_to(folder) for path in folder.rglob("*")]
    there = [path for path in there if not any(part.startswith(".") for part in path.parts)]
    found = [path for path in there if path.suffix.lower() in IMAGE_SUFFIXES]
    # Rows of responses are counted by pictures: what is passed over may have been shown.
    tell_of_others(sorted({*there} - {*found}), movies=True)
    if not found:
        message = f"{folder}: expected image files here or in folders below; there is none."
        raise DataError(message)
    key: Callable[[str], Any] = natural_key if order == "natural" else str
    ordered = sorted(found, key=lambda path: ([*map(key, path.parent.parts)], key(path.name)))
    return StimulusRows(tuple(path.as_posix() for path in ordered))


@dataclass(frozen=True)
class PatternFile:
    """A file that holds the response to an image.

    Attributes
    ----------
    name : str
        The image's name.
    file : Path
        The pattern's NIfTI file.
    participant : str
        Whose response it is; "" if the table does not say.
    category : str
        The image's category; "" if the table does not say.
    """

    name: str
    file: Path
    participant: str = ""
    category: str = ""


def read_pattern_files(path: str | Path) -> list[PatternFile]:
    """Read a table of patterns: a header, then a row for each image (and participant).

    Columns: ``name`` (or ``stim_file``), ``file`` (relative to the table), and if wanted
    ``participant`` and ``category``, where n/a is none. Others are ignored.

    Raises
    ------
    DataError
        If a column, a cell or a file is missing, or a cell may say so (NA); the message names the
        line.
    """
    table = read_table(path)
    names, files = table.names(*_NAME_COLUMNS), table.column(*_FILE_COLUMNS)
    people, categories = (
        [cell or "" for cell in table.names(name)] if table.has(name) else [""] * len(table)
        for name in ("participant", "category")
    )
    found = []
    for row, (name, file, *more) in enumerate(zip(names, files, people, categories, strict=True)):
        one = PatternFile(name or "", table.path.parent / file, *more)
        if not name or not file or not is_file(one.file):
            what = f"no file {one.file}" if name and file else "an empty cell"
            message = (
                f"{table.place(row)}: expected an image's name and an existing file; got {what}. "
                "Correct the line; paths count from the table's folder."
            )
            raise DataError(message)
        found.append(one)
    return found


def read_categories(path: str | Path) -> dict[str, str]:
    """Read a table with columns ``name`` (or ``stim_file``) and ``category``.

    Raises
    ------
    DataError
        If a column or a cell is missing, or an image comes twice with different categories.
    """
    table = read_table(path)
    pairs = zip(table.names(*_NAME_COLUMNS), table.names("category"), strict=True)
    categories: dict[str, str] = {}
    for row, (name, category) in enumerate(pairs):
        if not name or not category or categories.get(name, category) != category:
            message = (
                f"{table.place(row)}: expected a name and its one category; got {name!r} and "
                f"{category!r}. Correct the line."
            )
            raise DataError(message)
        categories[name] = category
    return categories

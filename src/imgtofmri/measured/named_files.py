"""Read tables that say which file is the response to which image, and which category it has."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imgtofmri.exceptions import DataError

_NAME_COLUMNS = ("name", "stim_file", "stimulus")
_FILE_COLUMNS = ("file", "path")


@dataclass(frozen=True)
class TableRow:
    """One row of a table of patterns.

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


def read_table(path: str | Path) -> list[TableRow]:
    """Read a table of patterns: a header, then a row for each image (and participant).

    Columns: ``name`` (or ``stim_file``), ``file`` (relative to the table), and if wanted
    ``participant`` and ``category``. Others are ignored.

    Raises
    ------
    DataError
        If a column, a cell or a file is missing; the message names the line.
    """
    path = Path(path)
    header, lines = read_cells(path)
    name_column = _column(path, header, _NAME_COLUMNS)
    file_column = _column(path, header, _FILE_COLUMNS)
    rows = []
    for number, cells in lines:
        row = TableRow(
            name=cells[name_column],
            file=path.parent / cells[file_column],
            participant=cells.get("participant", ""),
            category=cells.get("category", ""),
        )
        if not row.name or not cells[file_column] or not row.file.is_file():
            what = f"no file {row.file}" if row.name and cells[file_column] else "an empty cell"
            message = (
                f"read_table: {path}, line {number}: expected an image's name and an existing "
                f"file; got {what}. Correct the line; paths count from the table's folder."
            )
            raise DataError(message)
        rows.append(row)
    return rows


def read_categories(path: str | Path) -> dict[str, str]:
    """Read a table with columns ``name`` (or ``stim_file``) and ``category``.

    Raises
    ------
    DataError
        If a column or a cell is missing, or an image comes twice with different categories.
    """
    path = Path(path)
    header, lines = read_cells(path)
    name_column = _column(path, header, _NAME_COLUMNS)
    _column(path, header, ("category",))
    categories: dict[str, str] = {}
    for number, cells in lines:
        name, category = cells[name_column], cells["category"]
        if not name or not category or categories.get(name, category) != category:
            message = (
                f"read_categories: {path}, line {number}: expected a name and its one category; "
                f"got {name!r} and {category!r}. Correct the line."
            )
            raise DataError(message)
        categories[name] = category
    return categories


def read_cells(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a .tsv or .csv file: its header, and each line's number and cells by column."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"read_table: expected a table in UTF-8 at {path}; got {error}. Check the path."
        raise DataError(message) from error
    delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, restval="", restkey="")
    lines = [
        (reader.line_num, {key: (value or "").strip() for key, value in row.items() if key})
        for row in reader
    ]
    if not lines:
        message = (
            f"read_table: {path} must hold a header and one line or more; got none. "
            "Look whether it is the right file."
        )
        raise DataError(message)
    return list(reader.fieldnames or ()), lines


def _column(path: Path, header: list[str], choices: Sequence[str]) -> str:
    for name in choices:
        if name in header:
            return name
    message = (
        f"read_table: {path} must have a column {' or '.join(choices)}; it has "
        f"{', '.join(header)}. Add it; columns are separated by "
        f"{'commas' if path.suffix.lower() == '.csv' else 'tabs'}."
    )
    raise DataError(message)

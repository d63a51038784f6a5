"""Tables of text, TSV or CSV: read by their columns, knowing each cell's line; written whole."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.documents import read_text
from imgtofmri.exceptions import DataError, meant
from imgtofmri.files import atomic_path, write_whole
from imgtofmri.limits import check_limit

if TYPE_CHECKING:
    import pandas as pd

MISSING = "n/a"
"""What a cell without a value says, as BIDS has it."""

# What other programs write for it; as a name it may be one.
_MAYBE_MISSING = frozenset({"na", "nan", "null", "none"})
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(e[-+]?\d+)?", re.IGNORECASE)
_ALSO_MISSING = _MAYBE_MISSING | {"", MISSING}


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text out of a file.

    Attributes
    ----------
    path : Path
        The file.
    columns : tuple of str
        The columns' names, as the first line has them.
    rows : tuple of tuple of str
        A cell for each column, without blanks around it.
    lines : tuple of int
        The line of the file on which each row begins, counted from 1.
    where : str
        What messages begin with.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    where: str

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, row: int) -> str:
        """Say where a row stands, for messages."""
        return f"{self.where}, line {self.lines[row]}"

    def has(self, name: str) -> bool:
        """Tell whether there is a column."""
        return name in self.columns

    def column(self, *names: str) -> list[str]:
        """Return the cells of the first of some columns that is there.

        Parameters
        ----------
        *names : str
            The names that the column may have.

        Raises
        ------
        DataError
            If there is none, or two of one name.
        """
        name = next((name for name in names if name in self.columns), names[0])
        n_found = self.columns.count(name)
        if n_found != 1:
            separators = "commas or semicolons" if _is_csv(self.path) else "tabs"
            message = (
                f"{self.where}, line 1: must have a column {' or '.join(names)}, once; got "
                f"{n_found or 'none'} among {', '.join(self.columns)}."
                f"{'' if n_found else meant(name, self.columns)} Name one column so; columns are "
                f"separated by {separators}."
            )
            raise DataError(message)
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def names(self, *columns: str) -> list[str | None]:
        """Return the names in the first of some columns that is there.

        Parameters
        ----------
        *columns : str
            The names that the column may have.

        Returns
        -------
        list of str or None
            None where a cell says n/a or nothing.

        Raises
        ------
        DataError
            If a cell says what other programs write for a missing value, and what may as well be a
            name, such as NA or None.
        """
        found: list[str | None] = []
        called = next((name for name in columns if self.has(name)), columns[0])
        for row, cell in enumerate(self.column(*columns)):
            if cell.lower() in _MAYBE_MISSING:
                message = (
                    f"{self.place(row)}: {called} must be a name or {MISSING}; got {cell!r}, "
                    f"which may be either. Write {MISSING} for none, or rename what it names."
                )
                raise DataError(message)
            found.append(None if cell.lower() in ("", MISSING) else cell)
        return found

    def numbers(
        self,
        name: str,
        rows: Iterable[int] | None = None,
        *,
        least: float = -math.inf,
        most: float = math.inf,
        missing: bool = False,
        remedy: str = "Correct it.",
    ) -> NDArray[np.float64]:
        """Return the numbers in a column.

        Parameters
        ----------
        name : str
            The column.
        rows : iterable of int, optional
            The rows to read. Default: all.
        least, most : float
            What the numbers may be.
        missing : bool
            Whether a cell may be without a value.
        remedy : str
            What a message tells to do.

        Returns
        -------
        array of shape (n_rows,), float64
            NaN where a value is missing.

        Raises
        ------
        DataError
            If a cell is no such number; the message names its line.
        """
        cells = self.column(name)
        chosen = range(len(cells)) if rows is None else list(rows)
        found = np.empty(len(chosen))
        for place, row in enumerate(chosen):
            value = found[place] = _number(cells[row])
            if missing and is_missing(cells[row]):
                continue
            if not (math.isfinite(value) and least <= value <= most):
                bound = f", {least:,g} or more" if value < least else ""
                bound = f", at most {most:,.0f}" if most < value else bound
                bound = " with a decimal point" if _DECIMAL_COMMA.fullmatch(cells[row]) else bound
                message = (
                    f"{self.place(row)}: {name} must be a number{bound}; got {cells[row]!r}. "
                    f"{remedy}"
                )
                raise DataError(message)
        return found


def is_missing(cell: str) -> bool:
    """Tell whether a cell says that its value is missing.

    Examples
    --------
    >>> [is_missing(cell) for cell in ("n/a", "", "NaN", "0")]
    [True, True, True, False]
    """
    return cell.lower() in _ALSO_MISSING


def _number(cell: str) -> float:
    """Return the number in a cell, NaN if there is none."""
    try:
        # Python would read 1_0 as 10.
        return math.nan if "_" in cell else float(cell)
    except ValueError:
        return math.nan


def read_table(
    path: str | Path,
    where: str = "",
    *,
    quotes: bool = True,
    full: bool = False,
    may_be_empty: bool = False,
) -> TextTable:
    """Read a table of text.

    Parameters
    ----------
    path : str or Path
        UTF-8, with or without a byte order mark; a line of column names, then rows. Cells are
        separated by tabs; in a ``.csv`` file by what its first line has, tabs, commas, or
        semicolons where it has none of them (spreadsheets, where numbers have decimal commas), and
        by what it says if it is ``sep=;`` or the like. Lines without any text are passed over.
    where : str, optional
        What messages begin with. Default: the path.
    quotes : bool
        Whether a cell in double quotes is what they hold. Otherwise cells are as they stand.
    full : bool
        Whether a row must have a cell for each column; otherwise those at its end may lack.
    may_be_empty : bool
        Whether there may be no row.

    Returns
    -------
    TextTable

    Raises
    ------
    DataError
        If the file cannot be read, holds no row, or a row has more cells than there are columns.
    """
    path = Path(path)
    where = where or str(path)
    try:
        # A spreadsheet's byte order mark is no part of the first column's name.
        text = read_text(path)
        check_limit("line", max(map(len, text.split("\n"))), where, "letters in one line")
        numbered = _split(path, text, quotes, where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason
        message = (
            f"{where}: expected a table of text in UTF-8; it cannot be read: {reason}. Check the "
            "path, or save it as TSV or CSV."
        )
        raise DataError(message) from error
    if len(numbered) < 2 - may_be_empty:
        message = (
            f"{where}: a line of column names and a line for each row are needed; got "
            f"{len(numbered)} lines. Look whether it is the right file, or fill it in."
        )
        raise DataError(message)
    columns = numbered[0][1]
    check_limit("columns", len(columns), where, "columns")
    check_limit("rows", len(numbered) - 1, where, "rows")
    rows = []
    for line, cells in numbered[1:]:
        if len(cells) > len(columns) and not full:
            cells = cells[: max(len(columns), *(at for at, cell in enumerate(cells, 1) if cell))]
        if len(cells) > len(columns) or (full and len(cells) < len(columns)):
            remedy = "Write n/a where a value is missing."
            if len(cells) > len(columns):
                remedy = (
                    "Name each column in line 1, also that of the rows' names (R writes it without "
                    "one), put a cell that holds a separator in quotes, and write decimals with a "
                    "point."
                )
            message = (
                f"{where}, line {line}: {len(columns)} cells are needed; got {len(cells)}. {remedy}"
            )
            raise DataError(message)
        rows.append(cells + ("",) * (len(columns) - len(cells)))
    return TextTable(path, columns, tuple(rows), tuple(line for line, _ in numbered[1:]), where)


def _split(path: Path, text: str, quotes: bool, where: str) -> list[tuple[int, tuple[str, ...]]]:
    """Return the number and the cells of each line with text; a quoted cell may span lines."""
    header = next(io.StringIO(text, newline=""), "")
    delimiter, first = "\t", 1
    if _is_csv(path):
        delimiter = next((sign for sign in "\t,;" if sign in header), ",")
        if told := re.fullmatch(r'"?sep=(.)"?\s*', header):  # Only for the spreadsheet.
            delimiter, first, text = told[1], 2, text[len(header) :]
    # Line ends alone part lines: splitlines() would take rarer signs within a cell for them.
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
    )
    found, line = [], first
    for row in reader:
        cells = tuple(cell.strip() for cell in row)
        if reader.line_num + first > line + 1:
            _check_closed(row, delimiter, text, f"{where}, line {line}")
        if any(cells):
            found.append((line, cells))
        line = reader.line_num + first
    return found


def _check_closed(row: Sequence[str], delimiter: str, text: str, place: str) -> None:
    """Refuse a quotation mark without its second, which takes the lines below into its cell."""
    taken = next((cell for cell in row if "\n" in cell or "\r" in cell), "")
    # The reader ends an open cell with the text; within one, tabs are those between cells.
    is_open = bool(taken) and row[-1] is taken and text.endswith(taken)
    if is_open or (delimiter == "\t" and "\t" in taken):
        message = (
            f"{place}: a quotation mark that begins a cell must have its second where the cell "
            f"ends; got one that takes the lines below into its cell, {taken[:40]!r}. Remove the "
            "mark, or put the whole cell in marks and each mark in it twice."
        )
        raise DataError(message)


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as tab-separated values, missing ones as n/a, whole or not at all.

    Parameters
    ----------
    table : pandas.DataFrame
        Numbers are written with six digits; what is no text in names, as escapes.
    path : Path
        Where to.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    with atomic_path(path) as temporary:
        table.to_csv(
            temporary,
            sep="\t",
            index=False,
            na_rep=MISSING,
            float_format="%.6g",
            lineterminator="\n",
            errors="backslashreplace",
        )
    return path


def write_described(
    table: pd.DataFrame, path: Path, meanings: Mapping[str, str]
) -> tuple[Path, Path]:
    """Write a table, and beside it a JSON file that says what its columns mean, as BIDS has it.

    Parameters
    ----------
    table : pandas.DataFrame
        As for `write_table`.
    path : Path
        Where to; the other file has the suffix ``.json``.
    meanings : mapping of str to str
        What each column means.

    Returns
    -------
    table, sidecar : Path

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    said = {column: {"Description": meanings[column]} for column in table.columns}
    sidecar = path.with_suffix(".json")
    text = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
    write_whole(sidecar, text.encode("utf-8"))
    return write_table(table, path), sidecar


def tsv(columns: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> str:
    r"""Return cells of text as tab-separated lines, the columns' names first.

    Examples
    --------
    >>> tsv(("onset", "duration"), [("0.5", "n/a")])
    'onset\tduration\n0.5\tn/a\n'
    """
    return "".join("\t".join(row) + "\n" for row in (columns, *rows))

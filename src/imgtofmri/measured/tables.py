"""Which stimulus each row of the responses belongs to."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from imgtofmri.exceptions import DataError, choice_message
from imgtofmri.stimuli import IMAGE_SUFFIXES


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


def read_table(
    path: Path, column: str = "stimulus", fold_column: str | None = None
) -> StimulusRows:
    """Read a table of stimuli.

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
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "," if path.suffix.lower() == ".csv" else "\t"
            reader = csv.DictReader(file, delimiter=delimiter)
            header, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path}: the stimuli table cannot be read ({error}). Give a TSV or CSV file."
        raise DataError(message) from error
    for name in (column, fold_column):
        if name is not None and name not in header:
            raise DataError(choice_message(f"{path}, line 1", "the column", name, header))
    if not rows:
        message = f"{path}: expected a row for each response; the table has none. Fill it in."
        raise DataError(message)
    for line, row in enumerate(rows, start=2):
        for name in (column, fold_column):
            if name is not None and not (row[name] or "").strip():
                message = f"{path}, line {line}: {name} is empty. Fill it in, or drop the row."
                raise DataError(message)
    folds = None if fold_column is None else tuple(row[fold_column] for row in rows)
    return StimulusRows(tuple(row[column] for row in rows), folds)


def list_images(folder: Path) -> StimulusRows:
    """Return every image below a folder, in sorted order of folders, then of files.

    Parameters
    ----------
    folder : Path
        Searched with the folders in it. Hidden files are passed over.

    Returns
    -------
    StimulusRows
        Paths relative to ``folder``, with forward slashes.

    Raises
    ------
    DataError
        If there is none.
    """
    found = [
        path.relative_to(folder)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if not found:
        message = f"{folder}: expected image files here or in folders below; there is none."
        raise DataError(message)
    ordered = sorted(found, key=lambda path: (path.parent.parts, path.name))
    return StimulusRows(tuple(path.as_posix() for path in ordered))

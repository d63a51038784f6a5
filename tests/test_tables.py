"""Tables of text against Python's csv module and pandas, and what their errors name."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imgtofmri.exceptions import DataError
from imgtofmri.tables import is_missing, read_table, tsv, write_table


def write(path: Path, *lines: str) -> Path:
    """Write a table; cells are separated by | here."""
    comma = path.suffix == ".csv"
    text = "\n".join(lines).replace("|", "," if comma else "\t")
    path.write_text(f"{text}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_read_table_equals_the_csv_module(tmp_path: Path, name: str) -> None:
    """Cells, quoted ones too, are those that csv.DictReader finds; empty lines count and go."""
    path = write(tmp_path / name, "\ufeffa|b|c", '"x|y"|2|3', "", '4|"say ""so"""|', "||", "é|6|7")
    with path.open(encoding="utf-8-sig", newline="") as file:
        expected = list(csv.DictReader(file, delimiter="," if name == "t.csv" else "\t"))
    table = read_table(path)
    for column in "abc":
        assert table.column(column) == [row[column] for row in expected if any(row.values())]
    assert table.lines == (2, 4, 6)
    assert table.place(1) == f"{path}, line 4"


def test_read_table_quoted_cells_may_span_lines(tmp_path: Path) -> None:
    """A row's line is the one on which it begins; without quotes, cells are as they stand."""
    path = write(tmp_path / "t.tsv", "a|b", '"two', 'lines"|1', "x|2")
    table = read_table(path)
    assert (table.column("a"), table.lines) == (["two\nlines", "x"], (2, 4))
    path = write(tmp_path / "t.tsv", "a|b", '"x"|5" disk')
    assert read_table(path, quotes=False).rows == (('"x"', '5" disk'),)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("t.tsv", ['a|"odd', "b|n/a", "c|n/a"]),
        ("t.tsv", ['a|"odd', "b|n/a", 'c|"again', "d|n/a"]),
        ("t.csv", ['a|"odd', "b|n/a", "c|n/a"]),
    ],
)
def test_read_table_a_lone_quotation_mark_takes_no_lines(
    tmp_path: Path, name: str, lines: list[str]
) -> None:
    """A mark without its second is refused on its line, where the csv module swallows rows."""
    path = write(tmp_path / name, "stim_file|comment", "z|1", *lines)
    with path.open(newline="") as file:
        assert len(list(csv.reader(file, delimiter="," if name == "t.csv" else "\t"))) < 5
    with pytest.raises(DataError, match=r"line 3: a quotation mark .* its cell, 'odd\\n"):
        read_table(path)
    assert len(read_table(path, quotes=False)) == 1 + len(lines)


def test_read_table_csv_with_tabs_in_its_header_has_tabs(tmp_path: Path) -> None:
    """A table that is named .csv and separated by tabs is read so."""
    (tmp_path / "t.csv").write_text("a\tb\n1,5\t2\n")
    assert read_table(tmp_path / "t.csv").rows == (("1,5", "2"),)


@pytest.mark.parametrize(
    "text",
    [
        "a;b\n1;x,y\n",
        "sep=;\r\na;b\r\n1;x,y\r\n",
        '\ufeff"sep=;"\na;b\n1;"x,y"\n',
        'sep=,\na,b\n1,"x,y"\n',
    ],
)
def test_read_table_of_a_spreadsheet_with_semicolons(tmp_path: Path, text: str) -> None:
    """Where numbers have decimal commas, spreadsheets part cells by semicolons, and may say so."""
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    table = read_table(tmp_path / "t.csv")
    assert (table.columns, table.rows) == (("a", "b"), (("1", "x,y"),))
    assert table.lines == (3 if "sep" in text else 2,)


def test_numbers_equal_those_of_pandas(tmp_path: Path, rng: np.random.Generator) -> None:
    """Numbers of any size come out with the bits that pandas wrote, missing ones as NaN."""
    values = rng.standard_normal((300, 2)) * 10.0 ** rng.integers(-9, 9, (300, 2))
    values[[0, 7], [1, 1]] = np.nan
    frame = pd.DataFrame(values, columns=["a", "b"])
    path = tmp_path / "t.tsv"
    frame.to_csv(path, sep="\t", index=False, na_rep="n/a")
    table = read_table(path)
    for name in "ab":
        np.testing.assert_array_equal(table.numbers(name, missing=True), frame[name].to_numpy())
    np.testing.assert_array_equal(table.numbers("b", [5, 3]), values[[5, 3], 1])
    with pytest.raises(DataError, match=r"t.tsv, line 2: b must be a number; got 'n/a'. Mend it."):
        table.numbers("b", remedy="Mend it.")


@pytest.mark.parametrize(
    ("cell", "bounds", "words"),
    [
        ("x", {}, "a must be a number; got 'x'"),
        ("inf", {"missing": True}, "a must be a number; got 'inf'"),
        ("1_0", {}, "a must be a number; got '1_0'"),
        ("-1", {"least": 0.0}, "a must be a number, 0 or more; got '-1'"),
        ("2e6", {"most": 1e6}, "a must be a number, at most 1,000,000; got '2e6'"),
    ],
)
def test_numbers_out_of_bounds_are_named(
    tmp_path: Path, cell: str, bounds: dict[str, float], words: str
) -> None:
    """What is no number, infinite or out of bounds is refused with its line."""
    table = read_table(write(tmp_path / "t.tsv", "a|b", "0|z", f"{cell}|z"))
    with pytest.raises(DataError, match=f"t.tsv, line 3: {words}"):
        table.numbers("a", **bounds)  # type: ignore[arg-type]


def test_column_that_is_not_there_once_is_named(tmp_path: Path) -> None:
    """A column that lacks or comes twice is named, with what there is and what was meant."""
    table = read_table(write(tmp_path / "t.tsv", "image|set|set", "a|b|c"))
    with pytest.raises(DataError, match=r"column imge, once; got none .* Did you mean image\?"):
        table.column("imge")
    with pytest.raises(DataError, match=r"column name or stim_file, once; got none among image"):
        table.column("name", "stim_file")
    with pytest.raises(DataError, match="column set, once; got 2 among image, set, set"):
        table.column("set")
    assert table.column("name", "image") == ["a"]


def test_rows_of_another_length(tmp_path: Path) -> None:
    """Cells may lack at a row's end unless all are asked for; cells beyond the last may not be."""
    path = write(tmp_path / "t.csv", "a|b|c", "1|2", "3|4|5||")
    assert read_table(path).rows == (("1", "2", ""), ("3", "4", "5"))
    with pytest.raises(DataError, match="t.csv, line 2: 3 cells are needed; got 2"):
        read_table(path, full=True)
    with pytest.raises(DataError, match=r"t.csv, line 3: 2 cells are needed; got 3"):
        read_table(write(path, "a|b", "x|y", "an | unquoted | comma"))


def test_read_table_unreadable_files_are_refused(tmp_path: Path) -> None:
    """A file that is missing, empty or not UTF-8 is named with the reason."""
    with pytest.raises(DataError, match=r"gone.tsv: .* cannot be read: No such file"):
        read_table(tmp_path / "gone.tsv")
    (tmp_path / "t.tsv").write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match="^events: .* cannot be read: it is not UTF-8 text"):
        read_table(tmp_path / "t.tsv", "events")
    path = write(tmp_path / "t.tsv", "a|b")
    with pytest.raises(DataError, match="a line for each row are needed; got 1 lines"):
        read_table(path)
    assert len(read_table(path, may_be_empty=True)) == 0
    (tmp_path / "t.tsv").write_text("")
    with pytest.raises(DataError, match="a line for each row are needed; got 0 lines"):
        read_table(path, may_be_empty=True)


def test_write_table_is_read_back(tmp_path: Path) -> None:
    """Numbers have six digits, missing ones are n/a, and text is text."""
    frame = pd.DataFrame({"name": ["a", "b"], "r": [1 / 3, np.nan], "n": [1, 2]})
    path = write_table(frame, tmp_path / "new" / "t.tsv")
    assert path.read_bytes() == b"name\tr\tn\na\t0.333333\t1\nb\tn/a\t2\n"
    table = read_table(path)
    assert table.column("name") == ["a", "b"]
    assert is_missing(table.column("r")[1])
    assert tsv(table.columns, table.rows).encode() == path.read_bytes()

"""Lists of files: each line a path as it stands, none opened."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.stimuli import Source, StimulusWarning, read_list, unique_names


def listed(folder: Path, content: bytes) -> Path:
    """Write a list."""
    path = folder / "list.txt"
    path.write_bytes(content)
    return path


def test_read_list_is_in_order_and_opens_nothing(tmp_path: Path) -> None:
    """Files that are not there are sources: which row each has depends on the list alone."""
    found = read_list(listed(tmp_path, b"b/10.jpg\na/2.png\nfilm.mp4\n"))
    assert list(found) == [
        Source(Path("b/10.jpg"), "10.jpg", "image"),
        Source(Path("a/2.png"), "2.png", "image"),
        Source(Path("film.mp4"), "film.mp4", "movie"),
    ]
    assert found[-1].name == "film.mp4"
    assert [source.name for source in found[:2]] == ["10.jpg", "2.png"]
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.skipif(os.name != "posix", reason="needs find and a shell")
@pytest.mark.parametrize("null", [False, True])
def test_read_list_takes_what_find_prints(tmp_path: Path, null: bool) -> None:
    """Spaces, brackets, quotes, bytes that are no text, and after -print0 newlines, stay."""
    names = [b"a b.jpg", b"[1].png", b'"q".jpg', b"#1.jpg", b" lead.jpg", b"\xff.jpg"]
    names += [b"two\nlines.jpg"] if null else []
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()  # noqa: PTH118
    printing = ["find", ".", "-name", "*.[jp][pn]g", "-print0" if null else "-print"]
    printed = subprocess.run(printing, cwd=tmp_path, capture_output=True, check=True)
    found = read_list(listed(tmp_path, printed.stdout), null=null)
    assert {os.fsencode(source.path) for source in found} == set(names)


def test_read_list_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash is standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.jpg\nb.jpg")))
    assert [source.name for source in read_list("-")] == ["a.jpg", "b.jpg"]


def test_read_list_windows_ends_marks_and_empty_lines_are_no_names(tmp_path: Path) -> None:
    """A byte order mark, carriage returns and empty lines are passed over."""
    found = read_list(listed(tmp_path, b"\xef\xbb\xbfa.jpg\r\n\r\n\nb.jpg\r\n"))
    assert [str(source.path) for source in found] == ["a.jpg", "b.jpg"]


def test_read_list_counts_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is written, it counts where it came first, and is told of."""
    monkeypatch.chdir(tmp_path)
    again = os.fsencode(tmp_path / "x" / "a.jpg")
    names = listed(tmp_path, b"x/a.jpg\n./x//a.jpg\nb.jpg\nx/../x/a.jpg\n" + again)
    with pytest.warns(StimulusWarning, match=r"list\.txt: 3 lines name a file again"):
        found = read_list(names)
    assert [str(source.path) for source in found] == ["x/a.jpg", "b.jpg"]


def test_read_list_what_is_no_stimulus_is_a_failure(tmp_path: Path) -> None:
    """Its line is named, and the others keep their order."""
    found = read_list(listed(tmp_path, b"a.jpg\nnotes.txt\nfolder\nb.jpg\n"))
    assert [source.name for source in found] == ["a.jpg", "b.jpg"]
    assert [failure.name for failure in found.failures] == ["notes.txt", "folder"]
    assert "whose suffix is not one that counts" in str(found.failures[0].error)


def test_read_list_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing named, no list, NUL bytes unasked, and too much of it."""
    with pytest.raises(OptionError, match=r"list\.txt: expected a list of files.*names none"):
        read_list(listed(tmp_path, b"\n\n"))
    with pytest.raises(OptionError, match="cannot be read.*Check its name"):
        read_list(tmp_path / "none.txt")
    with pytest.raises(OptionError, match="got NUL bytes. Use `null`"):
        read_list(listed(tmp_path, b"a.jpg\0b.jpg\0"))
    monkeypatch.setenv("IMGTOFMRI_MAX_TEXT_MB", "0.00001")
    with pytest.raises(DataError, match="IMGTOFMRI_MAX_TEXT_MB"):
        read_list(listed(tmp_path, b"a.jpg\n" * 10))


@given(
    st.lists(
        st.from_regex(r"[ab]{1,2}/[AaBbßẞ]{1,2}\.(jpg|png)", fullmatch=True),
        unique=True,
        min_size=1,
    )
)
def test_read_list_names_are_those_of_unique_names(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str]
) -> None:
    """Names that are shared, also but for case, are told apart as everywhere."""
    file = listed(tmp_path_factory.mktemp("list"), "\n".join(paths).encode())
    found = [source.name for source in read_list(file)]
    assert found == unique_names([Path(path) for path in paths])
    assert len({name.casefold() for name in found}) == len(paths)

"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgtofmri.exceptions import OutputError
from imgtofmri.files import atomic_path, claim_file, write_whole

CONTENT = bytes(range(256)) * 40


def test_atomic_path_keeps_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    """A failure half way leaves what was there, and no temporary file."""
    target = tmp_path / "result.txt"
    target.write_text("old")
    error = RuntimeError("half way")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as temporary:
        temporary.write_text("ne")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_gives_ordinary_permissions(tmp_path: Path) -> None:
    """The file can be read by whom an ordinary new file could be read."""
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "atomic").stat().st_mode == ordinary.stat().st_mode


def test_atomic_path_in_a_file_says_what_to_choose(tmp_path: Path) -> None:
    """A folder that cannot be made is one clear error."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot write .* Choose a folder"),
        atomic_path(tmp_path / "file" / "x"),
    ):
        pass


def test_write_whole_makes_folders_and_replaces(tmp_path: Path) -> None:
    """The content is there, whole, with ordinary permissions, and nothing else."""
    target = tmp_path / "new" / "folder" / "x.bin"
    for data in (CONTENT, CONTENT[:7]):
        write_whole(target, data)
        assert target.read_bytes() == data
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert target.stat().st_mode == ordinary.stat().st_mode
    assert list(target.parent.iterdir()) == [target]


def test_write_whole_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A name that cannot be is one error, and the temporary file is gone."""
    with pytest.raises(OutputError, match="cannot write .*name too long"):
        write_whole(tmp_path / ("x" * 300), CONTENT)
    assert list(tmp_path.iterdir()) == []


def test_atomic_path_on_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    """The disk's refusal is one error that says what to do; other errors of the block stay."""
    target = tmp_path / "x"
    target.write_text("before")
    with (
        pytest.raises(OutputError, match=r"cannot write .*No space left .* Make room"),
        atomic_path(target),
        Path("/dev/full").open("w", encoding="utf-8") as full,
    ):
        full.write("x")
    with pytest.raises(FileNotFoundError, match="nothere"), atomic_path(target):
        (tmp_path / "nothere").read_text()
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_onto_a_folder_says_what_is_in_the_way(tmp_path: Path) -> None:
    """A folder of the file's name is one error, and nothing is left behind."""
    (tmp_path / "x").mkdir()
    with (
        pytest.raises(OutputError, match="a folder of that name is there. Move it away"),
        atomic_path(tmp_path / "x") as temporary,
    ):
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_interruptions_while_a_file_is_made_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that comes when the temporary file is there, and nobody holds it yet."""
    made: list[Path] = []
    open_file = os.open

    def interrupted(path: Path, *arguments: int) -> int:
        os.close(open_file(path, *arguments))
        made.extend(tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", interrupted)
    target = tmp_path / "x"
    with pytest.raises(KeyboardInterrupt):
        write_whole(target, CONTENT)
    with pytest.raises(KeyboardInterrupt), atomic_path(target):
        pass
    with pytest.raises(KeyboardInterrupt):
        claim_file(target)
    assert len(made) == 3
    assert not list(tmp_path.iterdir())

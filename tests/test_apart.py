"""Readers that crash, hang or need too much memory end in one clear error, and nothing else."""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from imgtofmri.apart import limits_for, read_apart
from imgtofmri.exceptions import DataError, OptionError, ShapeError

READERS = r"""
import os, signal, time
import numpy as np
from imgtofmri.exceptions import ShapeError

def good(path, key, number):
    text = path.read_text()
    return {key: np.arange(number), "text": np.array([text, "\u00fc"]), "empty": np.empty((0, 3))}

def crashes(path):
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs(path):
    time.sleep(60)

def eats(path):
    return {"all": np.ones((4 << 30) // 8)}

def refuses(path):
    raise ShapeError(f"{path}: expected two axes")

def fails(path):
    raise KeyError("\x1b[31m line\nline")

def objects(path):
    return {"evil": np.array([{}], dtype=object)}
"""


@pytest.fixture
def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module of readers that another process can import."""
    (tmp_path / "some_readers.py").write_text(READERS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_readers", raising=False)
    return import_module("some_readers")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a small file."""
    file = tmp_path / "a file.mat"
    file.write_text("content", encoding="utf-8")
    return file


def test_read_apart_hands_back_what_the_reader_returns(readers: ModuleType, path: Path) -> None:
    """Numbers and text, by name, from a process that is not this one."""
    got = read_apart(readers.good, path, "numbers", 5, kind="a file")
    assert list(got) == ["numbers", "text", "empty"]
    np.testing.assert_array_equal(got["numbers"], np.arange(5))
    assert got["text"].tolist() == ["content", "\u00fc"]
    assert got["empty"].shape == (0, 3)


def test_read_apart_does_not_import_from_the_current_folder(
    readers: ModuleType, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A numpy.py that lies where the user works is not run."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "numpy.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.chdir(folder)
    assert "numbers" in read_apart(readers.good, path, "numbers", 5, kind="a file")


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        ("crashes", r"expected a file; the library that reads it crashed \(SIGSEGV\)"),
        ("fails", r"expected a file; it cannot be read \(KeyError: '\\x1b\[31m line\\nline'\)"),
        ("objects", r"expected a file; it cannot be read \(ValueError: Object arrays"),
    ],
)
def test_read_apart_turns_what_goes_wrong_into_one_error(
    readers: ModuleType, path: Path, reader: str, said: str
) -> None:
    """The caller goes on, and the message names the file."""
    with pytest.raises(DataError, match=said) as caught:
        read_apart(getattr(readers, reader), path, kind="a file")
    assert str(caught.value).startswith(f"{path}: ")


def test_read_apart_raises_the_errors_of_the_reader(readers: ModuleType, path: Path) -> None:
    """An error of the package keeps its class and text."""
    with pytest.raises(ShapeError, match=r"a file\.mat: expected two axes"):
        read_apart(readers.refuses, path, kind="a file")


def test_read_apart_stops_a_reader_that_does_not_end(
    readers: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time that was given, not after a minute."""
    monkeypatch.setenv("IMGTOFMRI_MAX_READ_S", "0.5")
    began = time.monotonic()
    with pytest.raises(DataError, match=r"that can be read in 0\.5 s; .* set IMGTOFMRI_MAX_READ_S"):
        read_apart(readers.hangs, path, kind="a file")
    assert time.monotonic() - began < 30


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound memory so")
def test_read_apart_stops_a_reader_that_wants_too_much(
    readers: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit there is no memory for it, whatever the machine has."""
    with pytest.raises(DataError, match=r"in 2\.0 GB of memory; .* set IMGTOFMRI_MAX_READ_GB"):
        read_apart(readers.eats, path, kind="a file")


def test_limits_grow_with_the_file_and_follow_the_environment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two gigabytes and a minute, and more for large files."""
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 30)
    memory, seconds = limits_for(path)
    assert (memory, round(seconds)) == (10 << 30, 60 + 205)
    monkeypatch.setenv("IMGTOFMRI_MAX_READ_GB", "0.5")
    assert limits_for(path)[0] == (8 << 30) + (1 << 29)
    for wrong in ("0", "-1", "much", "inf", "nan"):
        monkeypatch.setenv("IMGTOFMRI_MAX_READ_GB", wrong)
        with pytest.raises(
            OptionError, match="IMGTOFMRI_MAX_READ_GB must be a number above 0; got"
        ):
            limits_for(path)

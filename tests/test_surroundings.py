"""What surrounds a command, and may be missing, closed, full or odd, is at most one clear error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgtofmri import assets
from imgtofmri.bundle import Bundle, read_bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.exceptions import OutputError
from imgtofmri.files import check_room, write_all, write_or_keep

LargestFile = Callable[[int], AbstractContextManager[None]]

pytestmark = [
    pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning"),
    pytest.mark.skipif(os.name != "posix", reason="signals and closed streams are those of POSIX"),
]


@pytest.fixture
def desk(
    tmp_path: Path,
    small_encoder: Path,
    dark_and_bright: Callable[[int], tuple[Path, Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Lay out pictures; return the options that name an encoder."""
    dark_and_bright(3)
    monkeypatch.chdir(tmp_path)
    return ["--encoder", small_encoder.name, "--weights", "untrained", "--quiet"]


COMMANDS = ["predict dark -o", "contrast dark bright -o", "select dark bright -g high_PPA -n 1 -o"]


@pytest.mark.parametrize("command", [*COMMANDS, "demo -o", "fit study.toml -o"])
def test_output_of_300_letters_is_one_error(
    command: str, desk: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No file system has such names; it is said before anything is done."""
    Path("study.toml").write_text("", "utf-8")
    words = [word.replace("_", " ") for word in command.split()]
    options = desk if command in COMMANDS else []
    before = sorted(Path().iterdir())
    assert main([*words, "x" * 300, *options]) in (1, 2)
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "File name too long" in said or "study.toml" in said
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("variable", ["", "~nobody-of-that-name/cache"])
def test_no_home_is_one_error_where_one_is_needed(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user without a home can name a cache; nothing goes to a folder called ~."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, variable)
    monkeypatch.setattr(os.path, "expanduser", str)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert main(["fetch", "resnet18"]) == 1
    said = capsys.readouterr().err
    assert "expected a home folder" in said.splitlines()[-1]
    assert "Set HOME, or set IMGTOFMRI_CACHE" in said
    monkeypatch.setenv(assets.CACHE_VARIABLE, "/somewhere")
    assert assets.cache_dir() == Path("/somewhere")


CLOSED = """
import os, sys
for number in {numbers}:
    os.close(number)
{gone}
from imgtofmri.cli import main
code = main(sys.argv[1:])
first = os.open(os.devnull, os.O_RDONLY)
os._exit(code if first > 2 else 99)
"""


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(2,), (1,), (0, 1, 2)])
def test_closed_standard_streams_change_nothing(numbers: tuple[int, ...], desk: list[str]) -> None:
    """The files are those of an ordinary run, and none of them has a stream's number."""
    names = {0: "stdin", 1: "stdout", 2: "stderr"}
    gone = "\n".join(f"sys.{names[number]} = None" for number in numbers)
    code = CLOSED.format(numbers=numbers, gone=gone)
    options = [option for option in desk if option != "--quiet"]
    command = [sys.executable, "-c", code, "predict", "dark", "nothing.png", "-o", "closed"]
    assert subprocess.run([*command, *options]).returncode == 3
    assert main(["predict", "dark", "-o", "open", *desk]) == 0
    for path in Path("open").glob("*.gz"):
        assert path.read_bytes() == Path("closed", path.name).read_bytes()


@pytest.mark.slow
def test_names_that_are_no_text_reach_tables_and_figures_as_escapes(desk: list[str]) -> None:
    """Folders and files may be called by any bytes."""
    folder = Path(os.fsdecode(b"odd\xff"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system knows text only")
    for number in range(6):
        name = os.fsdecode(b"p\xfe%d.png" % number)
        Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(folder / name)
    assert main(["contrast", "dark", str(folder), "-o", "c", "--permutations", "5", *desk]) == 0
    assert main(["select", "dark", str(folder), "-g", "high PPA", "-n", "2", "-o", "s", *desk]) == 0
    assert main(["predict", str(folder), "-o", "p", *desk]) == 0
    tables = "".join(path.read_text("utf-8") for path in [*Path().glob("*/*.tsv")])
    assert r"\udcfe" in tables


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGTERM"])
def test_signals_that_end_a_job_leave_nothing_half_done(name: str, desk: list[str]) -> None:
    """As Ctrl-C: 130, the record says interrupted, and no file is hidden."""
    code = (
        "import itertools, os, signal, sys\n"
        # Shells start what is in the background with some signals ignored.
        f"signal.signal({int(getattr(signal, name))}, signal.SIG_DFL)\n"
        "from imgtofmri import files\n"
        # Several threads write: each call has a number of its own.
        "replace, numbers = os.replace, itertools.count(1)\n"
        "def stop(*paths):\n"
        f"    next(numbers) == 3 and os.kill(os.getpid(), {int(getattr(signal, name))})\n"
        "    return replace(*paths)\n"
        "os.replace = stop\n"
        "from imgtofmri.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "predict", "dark", "bright", "-o", "out", *desk]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip().splitlines()[-1].endswith("interrupted; what was written is whole")
    assert '"state": "interrupted"' in Path("out", "predictions.json").read_text("utf-8")
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_signal_that_the_caller_ignores_stays_ignored(desk: list[str]) -> None:
    """Nohup means it."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from imgtofmri.analyses import predict\n"
        "into = predict.predict_into\n"
        "def hung(*words, **options):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return into(*words, **options)\n"
        "predict.predict_into = hung\n"
        "from imgtofmri.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "predict", "dark", "-o", "out", *desk]
    assert subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_full_disk_is_one_error_and_leaves_nothing_half_done(
    command: str,
    desk: list[str],
    capsys: pytest.CaptureFixture[str],
    largest_file: LargestFile,
) -> None:
    """No file is there that is not whole, hidden ones neither; with room it goes on."""
    words = [word.replace("_", " ") for word in command.split()]
    desk = [*desk, "--no-report"]
    # Records hold the folder's name: both have five letters, so that sizes are equal.
    assert main([*words, "whole", *desk]) == 0
    capsys.readouterr()
    sizes = sorted(path.stat().st_size for path in Path("whole").rglob("*") if path.is_file())
    with largest_file(sizes[-1] - 1):
        assert main([*words, "other", *desk]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "cannot write" in said
    assert "File too large. Make room" in said
    assert not [path for path in Path("other").rglob(".*")]
    for path in Path("other").rglob("*.gz"):
        assert path.read_bytes() == Path("whole", path.relative_to("other")).read_bytes()
    assert main([*words, "other", "--overwrite", *desk]) == 0


def test_bundle_that_its_place_does_not_take_is_kept_aside(
    tmp_path: Path, small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fit is not lost: the message names a file, which is the whole bundle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "mine.safetensors"
    with pytest.raises(OutputError, match=r"cannot write .* Nothing is lost: it is kept as .*;"):
        write_or_keep(lambda path: write_bundle(small_bundle, path), target)
    (kept,) = tmp_path.glob("mine-*.safetensors")
    assert read_bundle(kept).subjects[0].name == small_bundle.subjects[0].name


def test_a_full_disk_keeps_no_half_of_what_python_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest_file: LargestFile
) -> None:
    """Half of a module would end whatever imports it after these tests."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "half_compiled.py").write_text(f"NAMES = {[*map(str, range(500))]}\n")
    with largest_file(1000):
        import_module("half_compiled")
    assert not (tmp_path / "__pycache__").exists()
    del sys.modules["half_compiled"]


def test_bundle_without_room_anywhere_is_one_error(
    tmp_path: Path, small_bundle: Bundle, largest_file: LargestFile
) -> None:
    """What the writer of the format says of the disk is said as of any file."""
    before = sorted(tmp_path.iterdir())
    with largest_file(100), pytest.raises(OutputError, match=r"cannot write .*Make room"):
        write_or_keep(lambda path: write_bundle(small_bundle, path), tmp_path / "x.safetensors")
    assert sorted(tmp_path.iterdir()) == before


def test_room_is_checked_before(tmp_path: Path) -> None:
    """More than the disk holds is refused, in a folder that is still to be made, too."""
    check_room(tmp_path / "new" / "x", 1000)
    with pytest.raises(OutputError, match=r"it takes 1\d{18} bytes, and there is room for \d+"):
        check_room(tmp_path / "new" / "x", 10**18)
    assert not list(tmp_path.iterdir())


def test_content_and_names_are_on_the_disk_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut finds the old file or the new one: content, then the name, then the folder."""
    done: list[tuple[str, object]] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append(("sync", os.fstat(handle).st_ino))
        fsync(handle)

    def named(old: Path, new: Path) -> None:
        done.append(("name", Path(old).stat().st_ino))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    targets = [tmp_path / "a", tmp_path / "below" / "b"]
    write_all({target: b"content" for target in targets})
    for target in targets:
        inode, folder = target.stat().st_ino, target.parent.stat().st_ino
        order = [done.index(step) for step in (("sync", inode), ("name", inode), ("sync", folder))]
        assert order == sorted(order)
    last_name = max(index for index, (what, _) in enumerate(done) if what == "name")
    assert {what for what, _ in done[last_name + 1 :]} == {"sync"}


@pytest.mark.slow
def test_progress_that_nobody_can_read_does_not_stop_the_work(desk: list[str]) -> None:
    """Standard error is a pipe whose reader has left."""
    options = [option for option in desk if option != "--quiet"]
    command = [sys.executable, "-m", "imgtofmri", "predict", "dark", "-o", "out", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.close()
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len([*Path("out").glob("*.gz")]) == 3


@pytest.mark.slow
def test_a_picture_has_the_same_bytes_alone_in_a_folder_and_after_a_resumption(
    desk: list[str],
) -> None:
    """Files are equal to the byte, however many others there were."""
    assert main(["predict", "dark", "bright", "-o", "all", *desk]) == 0
    files = sorted(path.name for path in Path("all").glob("*.gz"))
    assert main(["predict", "bright/bright1.png", "-o", "alone", *desk]) == 0
    assert main(["predict", "dark/dark2.png", "-o", "resumed", *desk]) == 0
    assert main(["predict", "dark", "bright", "-o", "resumed", "--resume", *desk]) == 0
    for folder, names in (("alone", ["bright1.png.nii.gz"]), ("resumed", files)):
        for name in names:
            assert Path(folder, name).read_bytes() == Path("all", name).read_bytes()

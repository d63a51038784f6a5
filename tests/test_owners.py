"""Hidden files tell whose they are; what dead processes left is swept; two runs stay apart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtofmri.exceptions import OptionError, OutputError
from imgtofmri.files import atomic_path, claim_file, sweep, write_whole
from imgtofmri.outputs import OutputFolder
from imgtofmri.owners import FOREIGN_DAYS, Lock, is_abandoned, new_part

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are told apart on POSIX")

HOLD = """
import sys
from pathlib import Path
from imgtofmri.files import atomic_path
from imgtofmri.outputs import OutputFolder
folder = OutputFolder.of(Path(sys.argv[1]), "predict", "predictions.json")
with folder.begin({}), atomic_path(folder.path / "x") as part:
    part.write_text("half")
    folder.add("a.jpg", "digest", {"a.nii.gz": "digest"})
    print(part, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a process that writes into a folder; return it with the file that it has half done."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_second_run_in_a_folder_is_refused_and_names_the_first(
    holder: tuple[subprocess.Popen[str], Path],
) -> None:
    """Whether it resumes or overwrites: the first run's record and its unfinished file stay."""
    process, part = holder
    record = part.parent / "predictions.json"
    before = record.read_bytes()
    for options in ({"resume": True}, {"overwrite": True}):
        second = OutputFolder(part.parent, "predict", "predictions.json")
        second.claim(**options)
        with pytest.raises(OutputError, match=rf"no other run .* process {process.pid} on .* Wait"):
            second.begin({})
    assert part.read_text() == "half"
    assert record.read_bytes() == before
    assert (part.parent / "predictions.jsonl").exists()
    # Another command's record is another file: both are kept.
    with OutputFolder.of(part.parent, "contrast").begin({}):
        pass
    assert part.read_text() == "half"


def test_run_after_a_killed_one_takes_the_folder_and_sweeps_it(
    holder: tuple[subprocess.Popen[str], Path],
) -> None:
    """The lock goes with its process; what was unfinished is removed, what was done is kept."""
    process, part = holder
    process.kill()
    process.wait()
    assert part.exists()
    again = OutputFolder(part.parent, "predict", "predictions.json")
    again.claim(resume=True)
    with again.begin({}):
        assert again.names == ["a.jpg"]
    assert [path.name for path in part.parent.iterdir()] == ["predictions.json"]


def test_run_that_began_between_claim_and_begin_is_not_written_over(tmp_path: Path) -> None:
    """A record that was not there when the folder was claimed is another run's."""
    late, early = (OutputFolder.of(tmp_path, "contrast") for _ in range(2))
    with early.begin({"a": 1}):
        pass
    with pytest.raises(OptionError, match=r"it holds contrast\.json"):
        late.begin({"a": 2})
    assert json.loads((tmp_path / "contrast.json").read_text())["settings"] == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["contrast.json"]


def test_datasets_written_whole_by_two_runs_at_once(tmp_path: Path) -> None:
    """The second is refused at once, and can write when the first has ended."""
    first, second = (OutputFolder.of(tmp_path / "sim", "simulate", whole=True) for _ in range(2))
    with first.begin({}):
        with pytest.raises(OutputError, match="no other run"):
            second.begin({})
        (first.path / "x").write_text("x")
    with pytest.raises(OptionError, match="it holds simulate.json"):
        second.begin({})
    assert [path.name for path in tmp_path.iterdir()] == ["sim"]


def test_lock_where_there_are_no_locks_goes_by_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may know none: then the file's owner decides, a dead one not counting."""
    import errno
    import fcntl

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    path = tmp_path / ".x.lock"
    first = Lock(path, "x")
    first.take()
    with pytest.raises(OutputError, match=f"process {os.getpid()} on"):
        Lock(path, "x").take()
    said = path.read_text()
    first.release()
    assert not path.exists()
    path.write_text(re.sub(r"-\d+-", "-999999999-", said, count=1))
    Lock(path, "x").take()


def _renamed(part: Path, host: str = "", number: str = "", beginning: str = "") -> Path:
    """Give a hidden file another owner."""
    words = part.name.split("-")
    for place, word in ((1, host), (2, number), (3, beginning)):
        words[place] = word or words[place]
    return part.rename(part.with_name("-".join(words)))


def test_leftovers_of_dead_processes_are_told_from_those_at_work(tmp_path: Path) -> None:
    """That of this process stays, that of one that is gone, or had its number before, does not."""

    def part() -> Path:
        made = new_part(tmp_path)
        made.touch()
        return made

    mine, foreign = part(), _renamed(part(), host="01234567")
    old = _renamed(part(), host="01234567")
    long_ago = time.time() - (FOREIGN_DAYS + 1) * 86400
    os.utime(old, (long_ago, long_ago))
    dead = [_renamed(part(), number="999999999"), old]
    if Path("/proc/self/stat").exists():
        dead.append(_renamed(part(), beginning="0badf00d"))
    strangers = [tmp_path / name for name in (".x.part", ".imgtofmri-part", "x.part")]
    # No process of any system has such a number.
    strangers.append(_renamed(part(), number="9" * 20))
    for path in strangers:
        path.touch()
    assert {path for path in tmp_path.iterdir() if is_abandoned(path)} == {*dead}
    sweep(tmp_path)
    assert {*tmp_path.iterdir()} == {mine, foreign, *strangers}


@pytest.mark.parametrize("way", ["atomic_path", "claim_file", "begin"])
def test_every_way_of_writing_sweeps_before_it(tmp_path: Path, way: str) -> None:
    """The next run that writes there leaves no hidden file, below its folder neither."""
    (tmp_path / "figures").mkdir()
    dead = new_part(tmp_path / ("figures" if way == "begin" else ""))
    dead.touch()
    dead = _renamed(dead, number="999999999")
    if way == "atomic_path":
        with atomic_path(tmp_path / "x"):
            pass
    elif way == "claim_file":
        claim_file(tmp_path / "x")
    else:
        with OutputFolder.of(tmp_path, "contrast").begin({}):
            pass
    assert not dead.exists()


def test_links_are_not_followed_when_sweeping(tmp_path: Path) -> None:
    """What lies below a link is another folder's, and stays."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    part = new_part(elsewhere)
    part.touch()
    dead = _renamed(part, number="999999999")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(elsewhere)
    sweep(tmp_path / "out", below=True)
    assert dead.exists()


def test_names_of_two_writers_never_collide(tmp_path: Path) -> None:
    """A name holds host, process and beginning, and a number of its own."""
    names = {new_part(tmp_path).name for _ in range(1000)}
    assert len(names) == 1000
    assert all(f"-{os.getpid()}-" in name for name in names)
    child = os.fork()
    if not child:
        os._exit(0 if f"-{os.getpid()}-" in new_part(tmp_path).name else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    write_whole(tmp_path / "x", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]

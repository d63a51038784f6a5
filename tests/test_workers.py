"""Work in several processes, some of which are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imgtofmri.exceptions import OptionError, OutputError
from imgtofmri.processors import THREADS, n_processors
from imgtofmri.workers import MOST_LOSSES, connected, do_here, do_on_cluster

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")


@dataclass(frozen=True)
class Squares:
    """Squares numbers, and notes each; some numbers end the process, as often as they are told."""

    notes: Path
    deadly: tuple[int, ...] = ()
    times: int = 1
    bad: int = -1
    slow_s: float = 0.0

    def open(self) -> Callable[[int], int]:
        """Be loaded, and print."""
        os.write(1, b"libraries print, too\n")
        (self.notes / f"open-{os.getpid()}").touch()
        return self.square

    def square(self, number: int) -> int:
        """Do one."""
        time.sleep(self.slow_s)
        deaths = len(list(self.notes.glob(f"dead-{number}-*")))
        if number in self.deadly and deaths < self.times:
            (self.notes / f"dead-{number}-{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.bad:
            message = f"dtype cannot be {number}"
            raise OptionError(message, "dtype")
        if number == 3:
            warnings.warn("three is odd", UserWarning, stacklevel=1)
        (self.notes / f"done-{number}").touch()
        return number * number


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes import this module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(Squares, "__module__", Path(__file__).stem)
    monkeypatch.setitem(sys.modules, Path(__file__).stem, sys.modules[__name__])


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("deadly", [(), (0, 4, 7)])
def test_all_units_are_done_once_whoever_dies(tmp_path: Path, deadly: tuple[int, ...]) -> None:
    """Each result comes once; a process that was killed is replaced, and loads once more."""
    found: dict[int, int] = {}
    work = Squares(tmp_path, deadly)
    with pytest.warns(UserWarning, match="three is odd"):
        do_here(work, range(12), 2, lambda unit, result: found.__setitem__(unit, result))
    assert found == {number: number**2 for number in range(12)}
    assert len(list(tmp_path.glob("open-*"))) == 2 + len(deadly)


@pytest.mark.usefixtures("importable")
def test_a_unit_that_ends_every_process_is_named(tmp_path: Path) -> None:
    """After some it is given up, with what may be the reason."""
    work = Squares(tmp_path, (5,), times=99)
    with pytest.raises(
        OutputError, match="3 ended at part 5, the last by SIGKILL.*fewer `workers`"
    ):
        do_here(work, [5, 6], 2, lambda *_: None)
    assert len(list(tmp_path.glob("dead-5-*"))) == MOST_LOSSES


@pytest.mark.usefixtures("importable")
def test_an_error_comes_out_as_it_was_raised(tmp_path: Path) -> None:
    """With its kind and its option, as if it had been raised here."""
    with pytest.raises(OptionError, match="dtype cannot be 2") as caught:
        do_here(Squares(tmp_path, bad=2), range(3), 2, lambda *_: None)
    assert caught.value.option == "dtype"


def test_processes_end_with_the_one_that_started_them(
    tmp_path: Path, until: Callable[..., None]
) -> None:
    """Killed outright, it leaves nobody behind who works on."""
    script = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        "from pathlib import Path; from test_workers import Squares\n"
        "from imgtofmri.workers import do_here\n"
        f"do_here(Squares(Path({str(tmp_path)!r}), slow_s=0.3), range(1000), 2, print)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    until(lambda: len(list(tmp_path.glob("done-*"))) >= 2)
    process.kill()
    process.wait()
    workers = [int(path.name.partition("-")[2]) for path in tmp_path.glob("open-*")]
    assert len(workers) == 2
    until(lambda: not any(Path(f"/proc/{number}").exists() for number in workers))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::imgtofmri.workers.cluster.WaitingWarning")
@pytest.mark.usefixtures("importable")
def test_a_cluster_does_all_units_whoever_dies(tmp_path: Path, cluster: Any) -> None:
    """A worker that is killed in the middle costs nothing but time; each worker loads once."""
    found: dict[int, int] = {}
    cluster.start()

    def done(unit: int, answer: int) -> None:
        found[unit] = answer
        if len(found) == 3:
            cluster.kill(0)

    with connected(cluster.address) as client:
        with pytest.warns(UserWarning, match="three is odd"):
            do_on_cluster(Squares(tmp_path, slow_s=0.2), range(12), client, done)
        assert found == {number: number**2 for number in range(12)}
        assert len(list(tmp_path.glob("open-*"))) == 2
        with pytest.raises(OptionError, match="dtype cannot be 2") as caught:
            do_on_cluster(Squares(tmp_path, bad=2), [2], client, lambda *_: None)
        assert caught.value.option == "dtype"
        with pytest.raises(OutputError, match="expected the scheduler at .* to stay; it is gone"):
            work = Squares(tmp_path, slow_s=0.2)
            do_on_cluster(work, [4] * 12, client, lambda *_: cluster.stop())


@pytest.mark.parametrize("address", ["nowhere://x", pytest.param("tcp://127.0.0.1:9")])
def test_a_scheduler_that_is_not_there_is_named(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says how an address looks."""
    monkeypatch.setattr("imgtofmri.workers.cluster.CONNECT_S", 1)
    expected = f"scheduler must be .* got '{address}'.*tcp://10"
    with pytest.raises(OptionError, match=expected), connected(address):
        pass


def test_processors_are_no_more_than_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is no number is refused; one that is more than there are changes nothing."""
    monkeypatch.delenv(THREADS, raising=False)
    there = n_processors()
    for said, expected in (("1", 1), ("100000", there), ("", there)):
        monkeypatch.setenv(THREADS, said)
        assert n_processors() == expected
    for said in ("0", "two", "-1", "9" * 5000):
        monkeypatch.setenv(THREADS, said)
        with pytest.raises(OptionError, match="IMGTOFMRI_THREADS must be a whole number above 0"):
            n_processors()

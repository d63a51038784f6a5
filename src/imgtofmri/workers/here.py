"""Units of work in several processes of this machine; a process that ends early is replaced."""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from imgtofmri.exceptions import ImgToFmriError, OutputError
from imgtofmri.processors import THREADS, n_processors
from imgtofmri.workers.work import MOST_LOSSES, Warned, Work, noting, warn_again

Unit = TypeVar("Unit")
Answer = TypeVar("Answer")

_RUN = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from imgtofmri.workers.here import serve; serve()"
)
_WATCH_S, _END_S = 1.0, 10.0


def do_here(
    work: Work[Unit, Answer],
    units: Iterable[Unit],
    n_workers: int,
    done: Callable[[Unit, Answer], object],
) -> None:
    """Do all units, in any order.

    Parameters
    ----------
    work : Work
        It is pickled, as are units and answers. Each process opens it once.
    units : iterable
    n_workers : int
        Processes, which share the processors of this one.
    done : callable
        Told each unit that is done, with its answer, in this thread.

    Raises
    ------
    OutputError
        If a unit, or loading, ended `MOST_LOSSES` processes.
    Exception
        What the work raises; the other processes then end, too.

    Warns
    -----
    Warning
        What the work warns of.
    """
    left = deque(units)
    if not left:
        return
    crew = _Crew(work, min(n_workers, len(left)), max(1, n_processors() // n_workers))
    n_losses: Counter[Any] = Counter()
    n_done, n_units = 0, len(left)
    try:
        crew.hire()
        while n_done < n_units:
            worker, said = crew.said.get()
            if said is None:
                worker.close()
                lost = worker.unit
                n_losses[lost] += 1
                if n_losses[lost] >= MOST_LOSSES:
                    raise _too_many(lost, worker.process.returncode)
                if lost is not None:
                    left.appendleft(lost)
                crew.replace(worker)
                continue
            kind, answer, warned = said
            warn_again(warned)
            if kind == "error":
                raise answer
            if kind == "done":
                n_done += 1
                unit, worker.unit = worker.unit, None
                done(unit, answer)
            if left:
                worker.do(left.popleft())
            else:
                crew.idle.append(worker)
            # A unit that came back when others were idle.
            while left and crew.idle:
                crew.idle.pop().do(left.popleft())
    finally:
        crew.end()


def _too_many(unit: Any, code: int) -> OutputError:
    how = f"exit code {code}"
    if code < 0:
        with suppress(ValueError):
            how = signal.Signals(-code).name
    doing = "while they loaded" if unit is None else f"at part {unit}"
    return OutputError(
        f"expected processes that do their parts; {MOST_LOSSES} ended {doing}, the last by {how}. "
        "Memory may be too little: use fewer `workers`."
    )


class _Worker:
    """One process, and a thread that hears what it says."""

    def __init__(self, number: int, process: subprocess.Popen[bytes], crew: _Crew) -> None:
        self.number, self.process = number, process
        self.unit: Any = None
        self._crew = crew
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    def do(self, unit: Any) -> None:
        self.unit = unit
        self.tell(unit)

    def tell(self, what: Any) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # That it is gone will be heard.
            self.process.stdin.write(pickle.dumps(what))
            self.process.stdin.flush()

    def close(self) -> None:
        """Wait for its end, and close what led to it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._hearing.join()
        self.process.stdout.close()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        said: Any = ()
        while said is not None:
            try:
                said = pickle.load(self.process.stdout)
            # It ended, in the middle of a word perhaps.
            except Exception:
                said = None
            self._crew.said.put((self, said))


class _Crew:
    """The processes that are at work."""

    def __init__(self, work: Any, n_workers: int, n_threads: int) -> None:
        self._work, self._n, self._n_threads = work, n_workers, n_threads
        self.said: queue.SimpleQueue[tuple[_Worker, Any]] = queue.SimpleQueue()
        self.idle: list[_Worker] = []
        self._workers: list[_Worker] = []

    def hire(self) -> None:
        for number in range(self._n):
            self._workers.append(self._start(number))

    def replace(self, lost: _Worker) -> None:
        self._workers.remove(lost)
        if lost in self.idle:
            self.idle.remove(lost)
        self._workers.append(self._start(lost.number))

    def _start(self, number: int) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _RUN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {THREADS: str(self._n_threads)},
        )
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(json.dumps(sys.path).encode() + b"\n")
        worker = _Worker(number, process, self)
        worker.tell(self._work)
        return worker

    def end(self) -> None:
        """End all processes: those that are idle by themselves, the others as a signal does."""
        for worker in self._workers:
            if worker.unit is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.close()


def serve() -> None:
    """Do the units that another process asks for, in this one."""
    # What libraries print must not come between what is said.
    told, saying = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # Ctrl-C reaches all processes of a terminal: the other one says what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def say(kind: str, answer: object = None, warned: Warned = ()) -> None:
        saying.write(pickle.dumps((kind, answer, warned)))
        saying.flush()

    try:
        do, warned = noting(lambda: pickle.load(told).open())
        say("ready", None, warned)
        while True:
            try:
                unit = pickle.load(told)
            except EOFError:
                return
            say("done", *noting(partial(do, unit)))
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException as error:
        with suppress(OSError):
            say("error", _sendable(error))


def _sendable(error: BaseException) -> BaseException:
    """Return an error that can be sent: itself, or what it says."""
    try:
        pickle.loads(pickle.dumps(error))
    # Whatever its own way of being sent does.
    except Exception:
        return ImgToFmriError(f"{type(error).__name__}: {error}")
    return error


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone."""
    while os.name == "posix":
        time.sleep(_WATCH_S)
        if os.getppid() != parent:
            os._exit(1)

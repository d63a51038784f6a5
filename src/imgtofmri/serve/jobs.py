"""`Jobs`: a bounded queue, one thread that works it off, and results that expire."""

from __future__ import annotations

import logging
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgtofmri.exceptions import ImgToFmriError
from imgtofmri.progress import Step, heard_by
from imgtofmri.serve.limits import Limits
from imgtofmri.serve.refusal import Refusal
from imgtofmri.text import visible

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
STATES = (QUEUED, RUNNING, DONE, FAILED)

_WAITING = Step("Waiting", 0.0, None, "")
_STARTING = Step("Starting", 0.0, None, "")
_RETRY_S = 5
_LOG = logging.getLogger(__name__)


class CancelledError(Exception):
    """Nobody waits for a job any more."""


@dataclass(slots=True)
class Job:
    """What was asked for, how far it has come, and what came of it.

    Attributes
    ----------
    id : str
        That cannot be guessed: whoever knows it may see the results.
    folder : Path
        Of its own: what was sent in ``sent``, what is made in ``made``.
    files : list of Path
        The stimuli.
    asked : dict
        Settings of the job.
    failures : list of (name, reason)
        Stimuli that cannot be used.
    notes : list of str
        What of stimuli that are used is left out.
    results : dict of str to int
        Files in ``made`` that may be had, and their sizes in bytes.
    """

    id: str
    folder: Path
    files: list[Path] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    state: str = QUEUED
    step: Step = _WAITING
    error: str = ""
    results: dict[str, int] = field(default_factory=dict)
    version: int = 0
    touched: float = field(default_factory=time.monotonic)
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def sent(self) -> Path:
        """The folder of what was sent."""
        return self.folder / "sent"

    @property
    def made(self) -> Path:
        """The folder of results."""
        return self.folder / "made"

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in (DONE, FAILED)

    def without_paths(self, text: str) -> str:
        """Return a text in which files of the job are called by their names alone."""
        for folder in (self.sent, self.made, self.folder, self.folder.parent):
            text = text.replace(f"{folder}/", "").replace(str(folder), "")
        return text

    def change(self, **values: Any) -> None:
        """Change what is known of it, for whoever watches."""
        for name, value in values.items():
            setattr(self, name, value)
        self.version += 1


Work = Callable[[Job], None]


class Jobs:
    """The jobs of a server, worked off by one thread, in order.

    Parameters
    ----------
    root : Path
        A private folder; each job gets one in it.
    work : callable
        Called in the thread with each job. It fills ``results``, or raises an `ImgToFmriError`.
    limits : Limits
    clock : callable
        Seconds, for tests of what expires.
    """

    def __init__(
        self, root: Path, work: Work, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root, self._work, self._limits, self._clock = root, work, limits, clock
        self._jobs: dict[str, Job] = {}
        self._busy: set[str] = set()
        self._lock = threading.RLock()
        self._waiting: queue.Queue[Job | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="imgtofmri-serve", daemon=True)
        self._thread.start()

    @contextmanager
    def receiving(self) -> Iterator[Job]:
        """Keep a place in the queue and a folder for a job that arrives in the block.

        If the block does not `submit` the job, both are given up.

        Raises
        ------
        Refusal
            429 if all places are taken.
        """
        name = secrets.token_urlsafe(16)
        with self._lock:
            self.sweep()
            if len(self._busy) >= self._limits.queue:
                message = (
                    f"expected a free place in the queue of {self._limits.queue}; all are taken. "
                    f"Try again in {_RETRY_S} seconds."
                )
                raise Refusal(429, message, {"Retry-After": str(_RETRY_S)})
            self._busy.add(name)
        job = Job(name, self._root / name)
        try:
            job.folder.mkdir(mode=0o700)
            job.sent.mkdir(mode=0o700)
            yield job
        finally:
            with self._lock:
                if name not in self._jobs:
                    self._remove(job)

    def submit(self, job: Job) -> None:
        """Have a job done when its turn comes."""
        with self._lock:
            job.touched = self._clock()
            self._jobs[job.id] = job
        self._waiting.put(job)

    def get(self, name: str) -> Job:
        """Return a job, which is then kept for longer.

        Raises
        ------
        Refusal
            404 if there is none, or no longer.
        """
        with self._lock:
            self.sweep()
            job = self._jobs.get(name)
            if job is None:
                message = (
                    "expected the id of a job; there is none of this id. It may have expired: send "
                    "the files again."
                )
                raise Refusal(404, message)
            job.touched = self._clock()
            return job

    def position(self, job: Job) -> int:
        """Return how many jobs come before this one; 0 where it runs or is over."""
        with self._lock:
            if job.state != QUEUED:
                return 0
            names = list(self._jobs)
            before = names[: names.index(job.id)] if job.id in names else []
            return sum(not self._jobs[name].is_over for name in before)

    def drop(self, job: Job) -> None:
        """Forget a job, its files and its results; one that runs ends at its next step."""
        with self._lock:
            job.cancelled.set()
            if self._jobs.pop(job.id, None) is None:
                return
            if job.state != RUNNING:
                self._remove(job)

    def sweep(self) -> None:
        """Drop what nobody asked for in a long time, and results beyond those that are kept."""
        with self._lock:
            oldest = self._clock() - self._limits.keep_minutes * 60
            for job in [job for job in self._jobs.values() if job.touched < oldest]:
                if job.state != RUNNING:
                    self.drop(job)
            over = sorted((j for j in self._jobs.values() if j.is_over), key=lambda j: j.touched)
            for job in over[: max(0, len(over) - self._limits.kept)]:
                self.drop(job)

    def close(self, wait_s: float = 30.0) -> None:
        """End the thread: the job that runs ends at its next step, others are dropped."""
        with self._lock:
            for job in list(self._jobs.values()):
                self.drop(job)
        self._waiting.put(None)
        self._thread.join(wait_s)

    def _run(self) -> None:
        while True:
            try:
                job = self._waiting.get(timeout=5.0)
            except queue.Empty:
                self.sweep()
                continue
            if job is None:
                return
            with self._lock:
                if job.cancelled.is_set():
                    continue
                job.change(state=RUNNING, step=_STARTING)
            end = self._end_of(job)
            with self._lock:
                job.touched = self._clock()
                job.change(**end)
                if job.cancelled.is_set():
                    self._remove(job)
                else:
                    self._busy.discard(job.id)
                    shutil.rmtree(job.sent, ignore_errors=True)

    def _end_of(self, job: Job) -> Mapping[str, Any]:
        """Do a job and return how it ended."""

        def hear(step: Step) -> None:
            if job.cancelled.is_set():
                raise CancelledError
            job.change(step=step)

        try:
            with heard_by(hear):
                self._work(job)
        except CancelledError:
            return {"state": FAILED, "error": "It was dropped."}
        except ImgToFmriError as error:
            return {"state": FAILED, "error": visible(job.without_paths(str(error)))}
        except Exception:
            # A fault of ours: it is for the log, and whoever asked gets no inside of this computer.
            _LOG.exception("a job failed")
            return {"state": FAILED, "error": "Predicting failed; the server's log says why."}
        return {"state": DONE}

    def _remove(self, job: Job) -> None:
        """Remove the files of a job that is forgotten, and give up its place."""
        self._busy.discard(job.id)
        shutil.rmtree(job.folder, ignore_errors=True)

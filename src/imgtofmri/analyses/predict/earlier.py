"""`Earlier`: what an earlier run made, verified by its digests while other work goes on."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from queue import SimpleQueue

from imgtofmri.files import sha256_of
from imgtofmri.outputs import OutputFolder
from imgtofmri.progress import track
from imgtofmri.stimuli import Source

_THREADS = 4
_TOGETHER = 64


class Checks:
    """What is found of inputs that are being verified: each with whether its results are kept."""

    def __init__(self) -> None:
        self.found: SimpleQueue[tuple[Source, bool] | BaseException | None] = SimpleQueue()
        self.stop = threading.Event()
        self._ended = False

    def ready(self) -> Iterator[tuple[Source, bool]]:
        """Yield what is found by now."""
        while not self._ended and not self.found.empty():
            yield from self._next()

    def rest(self) -> Iterator[tuple[Source, bool]]:
        """Yield all that is still to be found."""
        while not self._ended:
            yield from self._next()

    def _next(self) -> Iterator[tuple[Source, bool]]:
        got = self.found.get()
        if isinstance(got, BaseException):
            raise got
        if got is None:
            self._ended = True
        else:
            yield got


class Earlier:
    """Inputs that a folder's record knows, of which some are verified at first and some later.

    Parameters
    ----------
    folder : OutputFolder
        Begun.
    sources : sequence of Source
        The inputs that it knows.

    Attributes
    ----------
    names : set of str
        Of these inputs.
    kept, refuted : set of str
        Those whose results are what was recorded, and those whose are not, as far as is known.
    """

    def __init__(self, folder: OutputFolder, sources: Sequence[Source]) -> None:
        self._folder, self._sources = folder, sources
        self.names = {source.name for source in sources}
        self.kept: set[str] = set()
        self.refuted: set[str] = set()

    def verify(self, names: Collection[str] | None = None, progress: bool = True) -> None:
        """Verify some of them now, by default all."""
        chosen = [s for s in self._sources if names is None or s.name in names]
        if not chosen:
            return
        with track("Verifying", len(chosen), "images", enabled=progress) as advance:
            for source, is_kept in self._checked(chosen):
                (self.kept if is_kept else self.refuted).add(source.name)
                advance(1)

    @contextmanager
    def checking(self) -> Iterator[Checks]:
        """Verify the others in threads of their own while the block runs.

        Yields
        ------
        Checks
            What is found, as it is found.
        """
        known = self.kept | self.refuted
        others = [s for s in self._sources if s.name not in known]
        checks = Checks()
        worker = threading.Thread(target=self._check, args=(others, checks), daemon=True)
        worker.start()
        try:
            yield checks
        finally:
            checks.stop.set()
            worker.join()

    def _check(self, sources: Sequence[Source], checks: Checks) -> None:
        try:
            for source, is_kept in self._checked(sources):
                if checks.stop.is_set():
                    break
                if is_kept:
                    self.kept.add(source.name)
                checks.found.put((source, is_kept))
        except BaseException as error:  # Whatever it is belongs to who asks.
            checks.found.put(error)
        else:
            checks.found.put(None)

    def _checked(self, sources: Sequence[Source]) -> Iterator[tuple[Source, bool]]:
        left = iter(sources)
        with ThreadPoolExecutor(_THREADS, "imgtofmri-verify") as threads:
            while some := list(islice(left, _TOGETHER)):
                yield from zip(some, threads.map(self._is_done, some), strict=True)

    def _is_done(self, source: Source) -> bool:
        return self._folder.is_done(source.name, source_digest(source))


def source_digest(source: Source) -> str | None:
    """Return the SHA-256 of an input file, or None if it cannot be read."""
    try:
        return sha256_of(source.path)
    except OSError:
        return None

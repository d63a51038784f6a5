"""Feed damaged files to every reader: each must read them, or say in one clear error why not.

::

    python tools/fuzz.py --inputs 2000000 --seconds 36000
    python tools/fuzz.py --target array --inputs 5000
    python tools/fuzz.py --target array --replay 4711    # one input again, with its traceback

Inputs depend on the seed, the target and their number alone. They are read in a process that is
watched: an exception that is not the package's own, a death, a read of over 10 s of a processor or
of a minute, or with over 2 GB, a socket, and a file written outside a scratch folder are findings.
One example of each kind is kept, with its input. The exit status is 1 if there was any.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing.mutations import change

HANG_S, WAIT_S = 10.0, 60.0
"""How long a processor may take over an input, and how long it may take at all, on a busy one."""
MOST_BYTES = 2 << 30
# How many inputs a process reads before another goes on: what leaks, leaks little.
_AT_ONCE = 20_000
_ROUNDS = 5
_FOUND = 9
"""The exit status of a worker that cannot go on, with what it found written down."""


@dataclass
class Tally:
    """What came of a target's inputs."""

    tried: int = 0
    read: int = 0
    refused: int = 0
    deaths: int = 0
    hangs: int = 0
    findings: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    slowest_s: float = 0.0

    @property
    def n_found(self) -> int:
        """How many inputs ended otherwise than they may."""
        return self.deaths + self.hangs + sum(self.findings.values())


def make_input(
    seed: int, name: str, number: int, good: list[tuple[str, bytes]]
) -> tuple[str, bytes]:
    """Return an input's suffix and content."""
    from fuzzing.targets import TARGETS

    rng = Random(f"{seed}/{name}/{number}")
    suffix, content = good[number % len(good)]
    if number < len(good):  # The good ones themselves come first.
        return suffix, content
    others = [other for _, other in good]
    return suffix, change(content, rng.choice(TARGETS[name].kinds), rng, others)


class Watch:
    """An audit hook: what is opened for writing outside a folder, and what sockets are used."""

    WRITES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"})
    SOCKETS = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"})

    def __init__(self, home: Path) -> None:
        self.home = str(home.resolve())
        self.on = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what is forbidden."""
        if not self.on:
            return
        if event in self.SOCKETS:
            self.seen.append(event)
        elif event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            if writes and not isinstance(path, int):
                self._check("open", path)
        elif event in self.WRITES:
            for path in arguments[:2]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._check(event, path)
        elif event in ("os.system", "os.exec", "os.posix_spawn"):
            self.seen.append(event)
        elif event == "subprocess.Popen" and list(arguments[1][1:3]) != ["-P", "-c"]:
            self.seen.append(f"{event} {arguments[1]}")

    def _check(self, event: str, path: Any) -> None:
        # Not resolved: the hook would call itself. What is relative is in the scratch folder.
        full = os.path.normpath(os.path.join(os.getcwd(), os.fsdecode(path)))  # noqa: PTH109, PTH118
        if not full.startswith(self.home) and full != os.devnull:
            self.seen.append(f"{event} {full}")


def work(
    seed: int,
    name: str,
    numbers: range,
    good: list[tuple[str, bytes]],
    home: Path,
    kept: Path,
    state: Any,
) -> None:
    """Read some inputs, in a process of its own."""
    from fuzzing.targets import TARGETS, furnish

    os.environ["TMPDIR"] = str(home)
    tempfile.tempdir = str(home)
    os.environ["IMGTOFMRI_CACHE"] = str(home / "cache")
    os.chdir(home)
    sys.stdout.flush()
    sys.stderr.flush()
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # Decoders complain of each damaged file.
        os.dup2(quiet, stream)
    warnings.simplefilter("ignore")
    from imgtofmri.exceptions import ImgToFmriError

    target = TARGETS[name]
    furnish(home)
    watch = Watch(home)
    sys.addaudithook(watch)
    for number in numbers:
        suffix, content = make_input(seed, name, number, good)
        path = home / f"input{suffix}"
        path.write_bytes(content)
        began = time.monotonic()
        state[0], state[6], state[1] = number, time.process_time(), began
        finding = ""
        watch.on = True
        try:
            target.read(path)
            state[3] += 1
        except ImgToFmriError as error:
            state[4] += 1
            watch.on = False
            if fault := _fault_of(str(error)):
                finding = fault
        except BaseException as error:
            watch.on = False
            finding = _keep(kept, name, number, suffix, content, error)
        watch.on = False
        state[2] += 1
        state[5] = max(state[5], time.process_time() - state[6])
        if watch.seen:
            finding = watch.seen[0].replace(str(home), "")
            watch.seen.clear()
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MOST_BYTES:
            _note(kept, name, number, suffix, content, "over 2 GB")
            os._exit(_FOUND)
        if finding:
            _note(kept, name, number, suffix, content, finding)
    state[1] = 0.0


def _fault_of(message: str) -> str:
    """Return what is wrong with the text of an error, if anything."""
    if len(message) > 20_000:
        return "a message of over 20,000 letters"
    return ""


def _where(error: BaseException) -> str:
    """Name the last line of the package that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/imgtofmri/" in frame.filename]
    frame = (ours or frames)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def _keep(
    kept: Path, name: str, number: int, suffix: str, content: bytes, error: BaseException
) -> str:
    finding = _where(error)
    text = "".join(traceback.format_exception(error))
    _note(kept, name, number, suffix, content, finding, text, count=False)
    return finding


def _note(
    kept: Path,
    name: str,
    number: int,
    suffix: str,
    content: bytes,
    finding: str,
    text: str = "",
    *,
    count: bool = True,
) -> None:
    """Keep the first input of each kind of finding, and count them all."""
    place = kept / f"{name}-{hashlib.sha256(finding.encode()).hexdigest()[:8]}".replace(" ", "_")
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "what.txt").exists():
        (place / f"input{suffix}").write_bytes(content)
        (place / "what.txt").write_text(
            f"{name} {number}: {finding}\n{text}", encoding="utf-8", errors="backslashreplace"
        )
    if count:
        with (kept / f"{name}.found".replace(" ", "_")).open("a", encoding="utf-8") as file:
            file.write(json.dumps([number, finding]) + "\n")


def run_target(
    seed: int, name: str, numbers: range, good: list[tuple[str, bytes]], kept: Path, until: float
) -> Tally:
    """Read a range of inputs, watching the process that does."""
    tally = Tally()
    first = numbers.start
    began = time.monotonic()
    context = multiprocessing.get_context("fork")
    while first < numbers.stop and time.monotonic() < until:
        state: Any = context.Array("d", 7, lock=False)
        home = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_fast_folder()))
        worker = context.Process(
            target=work, args=(seed, name, range(first, numbers.stop), good, home, kept, state)
        )
        state[0] = first - 1
        worker.start()
        ended = _watch(worker, state, until)
        number = int(state[0])
        tally.tried += int(state[2])
        tally.read += int(state[3])
        tally.refused += int(state[4])
        tally.slowest_s = max(tally.slowest_s, state[5])
        shutil.rmtree(home, ignore_errors=True)
        first = number + 1
        if ended in ("", "stopped"):
            continue
        if number < numbers.start:
            message = f"the worker of {name} does not start: {ended}"
            raise SystemExit(message)
        tally.tried += ended != "found"
        if ended == "hang":
            tally.hangs += 1
        elif ended == "death":
            tally.deaths += 1
        if ended != "found":
            suffix, content = make_input(seed, name, number, good)
            _note(kept, name, number, suffix, content, ended)
    tally.seconds = time.monotonic() - began
    return tally


def _watch(worker: Any, state: Any, until: float) -> str:
    """Wait for a worker; return how it ended, if not by itself and at the end of its work."""
    while True:
        worker.join(0.2)
        if not worker.is_alive():
            if worker.exitcode == 0:
                return ""
            return "found" if worker.exitcode == _FOUND else "death"
        now = time.monotonic()
        waited, worked = now - state[1], _processor_s(worker.pid) - state[6]
        if state[1] and (worked > HANG_S or waited > WAIT_S):
            ended = "hang"
        elif _memory_of(worker.pid) > MOST_BYTES:
            ended = "over 2 GB"
        elif now > until and state[1]:
            ended = "stopped"
        else:
            continue
        worker.kill()
        worker.join()
        return ended


def _processor_s(process: int | None) -> float:
    try:
        # The name in brackets may hold blanks.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _memory_of(process: int | None) -> int:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def prepare(names: list[str]) -> dict[str, list[tuple[str, bytes]]]:
    """Return each target's good files, once read: what is imported then, workers inherit."""
    from fuzzing.targets import TARGETS, furnish

    from imgtofmri.exceptions import ImgToFmriError

    warnings.simplefilter("ignore")
    good = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        furnish(home)
        for name in names:
            good[name] = list(TARGETS[name].seeds(home))
            for suffix, content in good[name]:
                path = home / f"input{suffix}"
                path.write_bytes(content)
                with suppress(ImgToFmriError):
                    TARGETS[name].read(path)
    return good


def fuzz(
    names: list[str], n_inputs: int, seconds: float, seed: int, kept: Path, start: int = 0
) -> dict[str, Tally]:
    """Feed inputs to targets, round by round, until all are through or time is over."""
    from fuzzing.targets import TARGETS

    good = prepare(names)
    total = sum(TARGETS[name].share for name in names)
    quotas = {name: max(1, round(n_inputs * TARGETS[name].share / total)) for name in names}
    tallies = {name: Tally() for name in names}
    until = time.monotonic() + seconds
    rounds = max(min(_ROUNDS, 1 + n_inputs // 50_000), n_inputs // (_AT_ONCE * len(names)))
    for turn in range(rounds):
        for name in names:
            first, last = (quotas[name] * at // rounds for at in (turn, turn + 1))
            if first == last or time.monotonic() > until:
                continue
            numbers = range(start + first, start + last)
            one, all_ = run_target(seed, name, numbers, good[name], kept, until), tallies[name]
            for what in ("tried", "read", "refused", "deaths", "hangs", "seconds"):
                setattr(all_, what, getattr(all_, what) + getattr(one, what))
            all_.slowest_s = max(all_.slowest_s, one.slowest_s)
        _count_findings(tallies, kept)
        # A run of hours that is ended leaves what it has come to.
        said = json.dumps({name: vars(tally) for name, tally in tallies.items()}, indent=1)
        (kept / "report.json").write_text(said, encoding="utf-8")
        tried, found = (
            sum(getattr(tally, what) for tally in tallies.values()) for what in ("tried", "n_found")
        )
        print(f"round {turn + 1} of {rounds}: {tried:,} inputs, {found} finds", file=sys.stderr)
    return tallies


def _count_findings(tallies: dict[str, Tally], kept: Path) -> None:
    """Count what the workers wrote down."""
    for name, tally in tallies.items():
        tally.findings.clear()
        found = kept / f"{name}.found".replace(" ", "_")
        lines = found.read_text(encoding="utf-8").splitlines() if found.exists() else []
        for line in lines:
            what = json.loads(line)[1]
            if what not in ("death", "hang"):
                tally.findings[what] = tally.findings.get(what, 0) + 1


def report(tallies: dict[str, Tally]) -> str:
    """Return a table of what came of it."""
    counted = f"{'tried':>11}{'read':>11}{'refused':>11}{'other':>7}{'deaths':>7}{'hangs':>6}"
    lines = [f"{'target':22}{counted}{'a second':>10}{'slowest':>9}"]
    whole = Tally()
    for name, tally in [*tallies.items(), ("all", whole)]:
        rate = tally.tried / tally.seconds if tally.seconds else 0
        lines.append(
            f"{name:22}{tally.tried:11,}{tally.read:11,}{tally.refused:11,}"
            f"{sum(tally.findings.values()):7}{tally.deaths:7}{tally.hangs:6}{rate:10,.0f}"
            f"{tally.slowest_s:8.2f}s"
        )
        lines += [f"    {count:6} {what}" for what, count in sorted(tally.findings.items())]
        if tally is not whole:
            for what in ("tried", "read", "refused", "deaths", "hangs", "seconds"):
                setattr(whole, what, getattr(whole, what) + getattr(tally, what))
            whole.slowest_s = max(whole.slowest_s, tally.slowest_s)
            whole.findings["other"] = whole.findings.get("other", 0) + sum(tally.findings.values())
    return "\n".join(lines[:-1] if not whole.findings.get("other") else lines)


def replay(name: str, number: int, seed: int) -> None:
    """Read one input again, here."""
    from fuzzing.targets import TARGETS, furnish

    good = prepare([name])[name]
    suffix, content = make_input(seed, name, number, good)
    home = Path(tempfile.mkdtemp(prefix="fuzz-"))
    furnish(home)
    path = home / f"input{suffix}"
    path.write_bytes(content)
    print(f"{path}: {len(content)} bytes: {content[:2000]!r}")
    TARGETS[name].read(path)


def main() -> int:
    """Run from the command line."""
    from fuzzing.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--inputs", type=int, default=20_000, help="how many, of all targets together"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="each target's first number")
    parser.add_argument("--replay", type=int, help="read the input of this number again")
    parser.add_argument("--kept", type=Path, default=Path("fuzz-findings"))
    given = parser.parse_args()
    os.environ |= {"IMGTOFMRI_OFFLINE": "1", "IMGTOFMRI_MAX_READ_S": "5"}
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # None at a fork.
    names = given.target or list(TARGETS)
    if given.replay is not None:
        replay(names[0], given.replay, given.seed)
        return 0
    if given.kept.exists():
        shutil.rmtree(given.kept)
    given.kept.mkdir(parents=True)
    tallies = fuzz(
        names, given.inputs, given.seconds, given.seed, given.kept.resolve(), given.start
    )
    print(report(tallies))
    return int(any(tally.n_found for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())

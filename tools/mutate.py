"""Change one thing of the code at a time, and count the changes that no test notices.

::

    python tools/mutate.py --sample 60                       # of each wing, seeded
    python tools/mutate.py stats/intervals.py --sample 0     # every mutant of a module
    python tools/mutate.py --only stats/intervals.py:40:compare:0

First the tests are run once with coverage, which says what tests execute each line. A mutant is one
changed operator, comparison, number, key, keyword, condition or statement; what says something to
people (docstrings, messages, annotations) is left as it is. Each is tried in a process of its own,
by the tests that execute its line and little else, with ``--thorough`` by all, until one fails.
Tests that fail on the code as it is do not count. Programs that tests start see no mutant. What
survives is printed with its line; the exit status is 1 if a tenth or more of the tried ones do.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.machinery
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "imgtofmri"
WINGS = ("spaces", "stats", "regression", "timeseries", "encoder", "bundle", "measured")
MOST_SURVIVE = 0.10
# A line that hundreds of tests execute is tried by those that execute the fewest others.
MOST_TEST_S, MOST_TESTS = 60.0, 400
FEW_TEST_S, FEW_TESTS = 8.0, 30
"""What is tried first, and alone without ``--thorough``."""
_LEAST_TEST_S = 0.05

Edit = Callable[[Any], Any]
_SWAPPED: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}
# Keywords whose value changes no result where all is right.
_GUARDS = ("copy", "dtype", "encoding", "stacklevel", "strict")
# What only people read, or only a type checker.
_SAID = ("message", "hint", "note", "advice", "what", "expected", "remedy", "__all__")


@dataclass(frozen=True)
class Mutant:
    """A change of a module: its place and kind, and which node it is of."""

    path: Path
    line: int
    statement: int
    """The line on which the statement begins that the node is of."""
    kind: str
    number: int
    at: tuple[int, int]
    """The node's number in a walk through the module, and the change's of those of the node."""

    @property
    def name(self) -> str:
        """What finds it again, as long as the code is the same."""
        return f"{self.path.relative_to(SOURCE)}:{self.line}:{self.kind}:{self.number}"

    def tree(self) -> ast.Module:
        """Return the module with the change."""
        tree = _parsed(self.path)
        node = list(ast.walk(tree))[self.at[0]]
        _, edit = list(_edits(node))[self.at[1]]
        edit(node)
        return ast.fix_missing_locations(_Drop().visit(tree))

    def difference(self) -> str:
        """Return what changed, without a context."""
        before, after = ast.unparse(_parsed(self.path)), ast.unparse(self.tree())
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
        return "\n".join(f"        {line.strip()}" for line in list(lines)[3:])


def mutants_of(path: Path) -> list[Mutant]:
    """Return every mutant of a module."""
    tree = _parsed(path)
    found = []
    numbers: Counter[tuple[int, str]] = Counter()
    spoken = _spoken(tree)
    begins = _statements(tree)
    for at, node in enumerate(ast.walk(tree)):
        if node in spoken or not hasattr(node, "lineno"):
            continue
        for which, (kind, _) in enumerate(_edits(node)):
            place = (node.lineno, kind)
            found.append(Mutant(path, node.lineno, begins[node], kind, numbers[place], (at, which)))
            numbers[place] += 1
    return found


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _statements(tree: ast.Module) -> dict[ast.AST, int]:
    """Return the line on which the innermost statement around each node begins."""
    begins: dict[ast.AST, int] = {}
    for node in ast.walk(tree):  # The outer ones come first.
        if isinstance(node, ast.stmt):
            begins |= dict.fromkeys(ast.walk(node), node.lineno)
    return begins


def _spoken(tree: ast.Module) -> set[ast.AST]:
    """Return the nodes that are no part of what is computed."""
    left: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
            left.append(node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            left += node.decorator_list
            if isinstance(node, ast.FunctionDef):
                left += [node.returns] if node.returns else []
                if node.name == "__repr__":
                    left.append(node)
        elif isinstance(node, ast.keyword) and node.arg in _GUARDS:
            left.append(node.value)
        elif isinstance(node, ast.arg) and node.annotation:
            left.append(node.annotation)
        elif isinstance(node, ast.AnnAssign):
            left.append(node.annotation)
            if isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias":
                left.append(node)
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if any(name in _SAID for name in names):
                left.append(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            left.append(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("cast", "TypeVar")):
            left.append(node)
    return {inner for node in left for inner in ast.walk(node)}


def _edits(node: Any) -> Iterator[tuple[str, Edit]]:
    """Yield the kinds of changes of a node, and what makes them."""

    def replace(name: str, value: Any) -> Edit:
        return lambda copied: setattr(copied, name, value)

    if isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            if type(op) in _SWAPPED:
                ops = [*node.ops[:at], _SWAPPED[type(op)](), *node.ops[at + 1 :]]
                yield "compare", replace("ops", ops)
    elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in _SWAPPED:
        kind = "bool" if isinstance(node, ast.BoolOp) else "operator"
        yield kind, replace("op", _SWAPPED[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "unary", replace("op", ast.UAdd() if isinstance(node.op, ast.USub) else _Plain())
    elif isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield "constant", replace("value", not value)
        elif isinstance(value, int | float):
            yield "constant", replace("value", value + 1)
    elif isinstance(node, ast.Subscript) and _is_text(node.slice):
        yield "key", replace("slice", ast.Constant(node.slice.value + "X"))
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition", replace("test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "statement", replace("value", ast.Constant(None))
    elif isinstance(node, ast.Name) and node.id in _NAMES and isinstance(node.ctx, ast.Load):
        yield "name", replace("id", _NAMES[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in _NAMES:
        yield "name", replace("attr", _NAMES[node.attr])
    if isinstance(node, ast.Call):
        for at, keyword in enumerate(node.keywords):
            if keyword.arg and keyword.arg not in _GUARDS:
                rest = [*node.keywords[:at], *node.keywords[at + 1 :]]
                yield "keyword", replace("keywords", rest)


class _Plain(ast.Not):
    """Stands where a negation is taken away; see `_without_plain`."""


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


class _Drop(ast.NodeTransformer):
    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """Put the operand in place of a negation that was taken away."""
        self.generic_visit(node)
        if not isinstance(node.op, _Plain):
            return node
        return ast.copy_location(ast.Call(ast.Name("bool", ast.Load()), [node.operand], []), node)


def who_executes(
    folder: Path, jobs: int
) -> tuple[dict[Path, dict[int, set[str]]], dict[str, float]]:
    """Run the tests with coverage; return each line's tests, and how long each takes."""
    data, log = folder / "coverage", folder / "log"
    if not log.exists():
        settings = folder / "rc"
        # Of all modules, as what is kept may serve for others another time.
        of = "*/imgtofmri/*"
        settings.write_text(f"[run]\nparallel = true\ndata_file = {data}\ninclude = {of}\n")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-n", str(jobs)]
        command += ["--durations=0", "--durations-min=0.02", "--cov", "--cov-report="]
        command += [f"--cov-config={settings}", "--cov-context=test"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            message = f"{done.stdout[-5000:]}\nThe tests must pass before any is changed."
            raise SystemExit(message)
        log.write_text(done.stdout)
    return read_coverage(data), read_durations(log.read_text())


def read_coverage(data: Path) -> dict[Path, dict[int, set[str]]]:
    """Return the tests that execute each line of each module."""
    import coverage

    measured = coverage.CoverageData(str(data))
    measured.read()
    tests: dict[Path, dict[int, set[str]]] = {}
    for file in measured.measured_files():
        lines = measured.contexts_by_lineno(file)
        path = SOURCE / Path(file).as_posix().rpartition("/imgtofmri/")[2]
        tests[path] = {
            line: {context.partition("|")[0] for context in contexts if context}
            for line, contexts in lines.items()
        }
    return tests


def read_durations(log: str) -> dict[str, float]:
    """Return how long tests took, of what pytest printed."""
    seconds: dict[str, float] = defaultdict(float)
    for took, test in re.findall(r"^([\d.]+)s (?:call|setup|teardown) +(.+)$", log, re.MULTILINE):
        seconds[test] += float(took)
    return seconds


def tests_for(
    mutant: Mutant,
    lines: dict[int, set[str]],
    sizes: Mapping[str, int],
    seconds: Mapping[str, float],
    left_out: set[str],
) -> list[list[str]]:
    """Return the tests that may notice a mutant in two parts, the most specific ones first."""
    line = mutant.line if mutant.line in lines else mutant.statement
    tests = lines.get(line, set())
    if not tests and line in lines:  # It is executed when the module is imported.
        tests = set().union(*lines.values())
    few: list[str] = []
    more: list[str] = []
    total = 0.0
    for test in sorted(tests - left_out, key=lambda test: (sizes.get(test, 0), test)):
        took = max(seconds.get(test, 0.0), _LEAST_TEST_S)
        if total + took > MOST_TEST_S or len(few) + len(more) == MOST_TESTS:
            continue
        total += took
        is_few = not few or (total <= FEW_TEST_S and len(few) < FEW_TESTS)
        (few if is_few else more).append(test)
    return [part for part in (few, more) if part]


def try_tests(tests: list[str], mutant: Mutant | None, limit_s: float) -> tuple[str, str]:
    """Run tests on a changed module; return how it ended, and the test that failed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            _in_child(tests, mutant, writer)
        finally:
            os._exit(1)
    os.close(writer)
    until = time.monotonic() + limit_s
    ended = "timeout"
    while time.monotonic() < until:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            ended = {0: "survived", 1: "killed"}.get(os.waitstatus_to_exitcode(status), "crashed")
            break
        time.sleep(0.02)
    else:
        os.killpg(child, 9)
        os.waitpid(child, 0)
    with os.fdopen(reader, encoding="utf-8") as file:
        failed = file.read()
    return ended, failed


def _in_child(tests: list[str], mutant: Mutant | None, writer: int) -> None:
    os.setpgid(0, 0)
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    if mutant is not None:
        _take_place(mutant)
    import pytest

    class Note:
        def pytest_runtest_logreport(self, report: Any) -> None:
            """Write down what failed."""
            if report.failed:
                os.write(writer, report.nodeid.encode())

    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # Which take longer than most tests.
        options = ["-q", "-x", "-p", "pytest_timeout", "-p", "no:cacheprovider", "--no-header"]
        # A module whose doctests are among them would be imported by pytest's own loader.
        options += [f"--basetemp={folder}/t", "--assert=plain"]
        status = int(pytest.main([*options, *tests], plugins=[Note()]))
    # What is left over of threads and libraries need not end in order.
    os._exit(status if status in (0, 1) else 1)


def _take_place(mutant: Mutant) -> None:
    """Have the module imported as the mutant has it."""
    code = compile(mutant.tree(), str(mutant.path), "exec")
    loader = importlib.machinery.SourceFileLoader
    plain = loader.get_code

    def get_code(self: Any, name: str) -> Any:
        return code if Path(self.path) == mutant.path else plain(self, name)

    loader.get_code = get_code  # type: ignore[method-assign]


def choose(paths: list[Path], sample: int, seed: int) -> list[Mutant]:
    """Return a sample of each wing's mutants, or with 0 all of them."""
    wings: dict[str, list[Mutant]] = defaultdict(list)
    for path in paths:
        wings[path.relative_to(SOURCE).parts[0]] += mutants_of(path)
    chosen = []
    for wing, mutants in sorted(wings.items()):
        print(f"{wing}: {len(mutants):,} mutants", flush=True)
        if sample and sample < len(mutants):
            mutants = sorted(Random(f"{seed}/{wing}").sample(mutants, sample), key=lambda m: m.name)
        chosen += mutants
    return chosen


def main() -> int:
    """Try mutants and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="of src/imgtofmri; default: the seven wings")
    parser.add_argument("--sample", type=int, default=60, help="of each wing (0: all; default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="a mutant by its name, as printed")
    parser.add_argument("--thorough", action="store_true", help="try all tests that may notice")
    parser.add_argument("--tests", action="append", help="a file of tests, in place of coverage's")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kept", type=Path, help="where coverage is kept, to be used again")
    arguments = parser.parse_args()
    folder = arguments.kept or Path(tempfile.mkdtemp(prefix="mutate-"))
    folder.mkdir(parents=True, exist_ok=True)
    modules = arguments.modules or WINGS
    if arguments.only:
        modules, arguments.sample = sorted({name.partition(":")[0] for name in arguments.only}), 0
    paths = []
    for module in modules:
        place = SOURCE / module
        paths += sorted(place.rglob("*.py")) if place.is_dir() else [place]
    executed, seconds = ({}, {}) if arguments.tests else who_executes(folder, arguments.jobs)
    chosen = choose(paths, arguments.sample, arguments.seed)
    if arguments.only:
        chosen = [mutant for mutant in chosen if mutant.name in arguments.only]
    _preload()
    _WORK["tests"] = arguments.tests
    share = run(chosen, executed, seconds, arguments.jobs, arguments.thorough)
    return int(share >= MOST_SURVIVE)


def _preload() -> None:
    """Import what every test imports, and what is never changed: processes inherit it."""
    import nibabel  # noqa: F401
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import scipy.ndimage
    import scipy.optimize
    import scipy.signal
    import scipy.stats  # noqa: F401


# What the processes that try mutants inherit, and find out.
_WORK: dict[str, Any] = {}


def attempt(number: int) -> tuple[int, str, str, set[str]]:
    """Try a mutant; return its number, how it ended, by which test, and tests that say nothing."""
    mutant = _WORK["chosen"][number]
    lines, seconds = _WORK["executed"].get(mutant.path, {}), _WORK["seconds"]
    left_out, good = _WORK["left_out"], _WORK["good"]
    while True:
        parts = (
            [_WORK["tests"]]
            if _WORK["tests"]
            else tests_for(mutant, lines, _WORK["sizes"], seconds, left_out)
        )
        if not parts:
            return number, "survived", "no test executes it", left_out
        tried = 0
        for some in parts if _WORK["thorough"] else parts[:1]:
            tried += len(some)
            known = (max(seconds.get(test, 0.0), _LEAST_TEST_S) for test in some)
            expected = MOST_TEST_S if _WORK["tests"] else sum(known)
            ended, failed = try_tests(some, mutant, 60 + 6 * expected)
            if ended != "survived":
                break
        if ended != "killed":
            return number, ended, f"{tried} tests", left_out
        # Without one that failed, none could be collected.
        by = failed or some[0]
        if by in good or try_tests([by], None, 120)[0] == "survived":
            good.add(by)
            return number, ended, by, left_out
        if _WORK["tests"]:
            message = f"{by} fails on the code as it is."
            raise SystemExit(message)
        left_out.add(by)  # It fails on the code as it is: it says nothing.


def run(
    chosen: list[Mutant],
    executed: dict[Path, dict[int, set[str]]],
    seconds: dict[str, float],
    jobs: int,
    thorough: bool,
) -> float:
    """Try mutants; return the share that survived."""
    context = multiprocessing.get_context("fork")
    tests = (test for lines in executed.values() for each in lines.values() for test in each)
    _WORK.update(chosen=chosen, executed=executed, sizes=Counter(tests), seconds=seconds)
    _WORK.update(good=set(), left_out=set(), thorough=thorough)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    left_out: set[str] = set()
    with context.Pool(jobs) as pool:
        for number, ended, by, bad in pool.imap_unordered(attempt, range(len(chosen))):
            mutant = chosen[number]
            left_out |= bad
            wing = mutant.path.relative_to(SOURCE).parts[0]
            counts[wing][ended] += 1
            print(json.dumps([ended, mutant.name, by]), flush=True)
            if ended == "survived":
                print(mutant.difference(), flush=True)
    whole: Counter[str] = sum(counts.values(), Counter())
    print(f"{'wing':14}{'tried':>7}{'survived':>10}{'share':>8}")
    for wing, count in [*counts.items(), ("all", whole)]:
        share = count["survived"] / count.total()
        print(f"{wing:14}{count.total():7}{count['survived']:10}{share:8.1%}")
    if left_out:
        print(f"left out, as they fail on the code as it is: {sorted(left_out)}")
    return whole["survived"] / max(whole.total(), 1)


if __name__ == "__main__":
    sys.exit(main())

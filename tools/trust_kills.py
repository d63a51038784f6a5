"""Kill every command, at random moments and at every step of its writing, and see what is left.

    python tools/trust_kills.py --kills 200 --seed 0

Each try runs a command in a process that is killed (SIGKILL), looks at what lies there, runs the
command again to its end, and compares all files byte by byte with those of a run that nobody
disturbed. Half of the kills come at random moments, half at the n-th call that renames, removes or
brings a file to the disk, for every n in turn. It prints a line for each command, and ends with 1
if a visible file was wrong, a run differed or a hidden file stayed.

``fetch`` and ``demo`` are tried where ``IMGTOFMRI_CACHE``, or the user's cache, holds the wheels of
the published encoder and of EfficientNet-Lite0.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

STEPS = ("replace", "rename", "unlink", "remove", "rmdir", "fsync")
"""Functions of `os` at whose calls a process is killed."""

Files = dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A command that is killed.

    Attributes
    ----------
    name : str
    first : sequence of str
        The command that is killed; ``OUT`` stands for its folder.
    again : sequence of str
        What finishes the work.
    before : sequence of str
        What ran there before, if anything did.
    cache : bool
        Whether the folder is the package's cache.
    """

    name: str
    first: Sequence[str]
    again: Sequence[str]
    before: Sequence[str] = ()
    cache: bool = False


def trials(cache: Path | None) -> list[Trial]:
    """Return the commands that are tried."""
    network = ["--encoder", "small.safetensors", "--weights", "untrained", "--quiet"]
    found = []

    def add(name: str, words: str, *more: str, before: str = "", resumes: bool = False) -> None:
        line = [name.split()[0], *words.split(), "-o", "OUT", *network]
        end = "--resume" if resumes else "--overwrite"
        earlier = [*line, *before.split()] if before else []
        first = [*line, "--overwrite"] if before else line
        found.append(Trial(" ".join((name, *more)), first, [*line, end], earlier))

    add("predict nifti", "dark bright --subjects", resumes=True)
    add("predict bids", "dark bright --format bids", resumes=True)
    add("predict zarr", "dark bright film.mp4 --format zarr --subjects", resumes=True)
    add("predict film", "film.mp4 other.mp4 --subjects", resumes=True)
    add(
        "simulate",
        "run.tsv --stimuli dark --tr-s 2 --voxels predicted --tsnr 50 --drift-share 0 --seed 1",
    )
    add(
        "simulate again",
        "run.tsv --stimuli dark --tr-s 2 --voxels predicted --tsnr 50 --drift-share 0 --task other",
        before="--task first --seed 5 --runs 2",
    )
    add("contrast", "dark bright --permutations 5")
    add("select", "dark bright -g high_PPA -n 2 --no-reference".replace("high_PPA", "high:PPA"))
    add("rsa", "dark bright -m subjects.npz --permutations 5 --bootstraps 5")
    add("validate", "--stimuli dark --stimuli bright -m betas --permutations 5")
    add("dynamics", "film.mp4 --measured measured.npz --n-brains 4 --n-resamples 2 --rate-hz 4")
    study = ["fit", "study.toml", "-o", "OUT/mine.safetensors", "--quiet", "--no-cache"]
    found.append(Trial("fit", study, [*study, "--overwrite"]))
    if cache is not None:
        fetch = ["fetch", "encoder", "efficientnet-lite0", "--quiet"]
        found.append(Trial("fetch", fetch, fetch, cache=True))
        demo = ["demo", "-o", "OUT", "--backbone", "efficientnet-lite0", "--quiet"]
        found.append(Trial("demo", demo, demo))
    return [
        dataclasses.replace(
            trial,
            **{
                part: [word.replace("high:PPA", "high PPA") for word in getattr(trial, part)]
                for part in ("first", "again", "before")
            },
        )
        for trial in found
    ]


class Child:
    """A process that runs one command in a folder, forked from this one, which has all loaded.

    Parameters
    ----------
    folder : Path
        The current folder of the process.
    words : sequence of str
    out : Path
        What ``OUT`` stands for.
    kill_at : int
        The step before which it kills itself; 0 for none.
    cache : Path, optional
        Its cache.
    """

    def __init__(
        self,
        folder: Path,
        words: Sequence[str],
        out: Path,
        kill_at: int = 0,
        cache: Path | None = None,
    ) -> None:
        self._steps, end = os.pipe()
        self._began = time.monotonic()
        self.number = os.fork()
        if not self.number:
            code = 99
            try:
                os.close(self._steps)
                code = _run(
                    folder, [word.replace("OUT", str(out)) for word in words], kill_at, end, cache
                )
            finally:
                os._exit(code)
        os.close(end)

    def kill(self) -> None:
        """Kill it."""
        os.kill(self.number, signal.SIGKILL)

    def wait(self) -> tuple[int, int, float]:
        """Return its exit code (negative for a signal), the steps it took, and seconds."""
        n_steps = 0
        while chunk := os.read(self._steps, 65536):
            n_steps += len(chunk)
        os.close(self._steps)
        _, status = os.waitpid(self.number, 0)
        code = os.waitstatus_to_exitcode(status)
        return code, n_steps, time.monotonic() - self._began


def _run(folder: Path, words: list[str], kill_at: int, steps: int, cache: Path | None) -> int:
    """Run a command in this process, which counts its steps and kills itself at one."""
    os.chdir(folder)
    os.environ["IMGTOFMRI_OFFLINE"] = "1"
    if cache is not None:
        os.environ["IMGTOFMRI_CACHE"] = str(cache)
    log = os.open(folder / "log.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), write_through=True)
    n_steps = 0

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal n_steps
            n_steps += 1
            if n_steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(steps, b".")
            return function(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    from imgtofmri.cli import main

    return main(words)


def content(folder: Path) -> Files:
    """Return all files below a folder; of records and pages, what does not depend on the time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found[name] = _timeless(data, folder) if name.endswith(".json") else data
            if name.endswith(".html"):
                found[name] = _undated(data)
        elif path.name.startswith("."):
            found[f"{name}/"] = b""
    return found


def _timeless(data: bytes, folder: Path) -> bytes:
    """Return a record without its times, and without the name of the folder that it lies in."""
    said = json.loads(data)
    if "RecordVersion" not in said:
        return data
    kept = {key: said[key] for key in said if key not in ("started", "written", "command_line")}
    return json.dumps(kept).replace(json.dumps(str(folder))[1:-1], "OUT").encode()


def _undated(data: bytes) -> bytes:
    """Return a page without its time, and without the command line, which may say to resume."""
    data = re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", b"", data)
    return re.sub(rb'<pre id="command".*?</pre>', b"", data, flags=re.DOTALL)


def is_hidden(name: str) -> bool:
    """Return whether a name of `content` is a leftover."""
    parts = name.rstrip("/").split("/")
    return any(part.startswith(".") and part != ".bidsignore" for part in parts)


def wrong(left: Files, good: Sequence[Files]) -> list[str]:
    """Return the visible files that are none that a whole run, or an earlier one, made."""
    return [
        name
        for name, data in left.items()
        if not is_hidden(name)
        and not name.endswith((".jsonl", ".part.tsv"))
        and b'"RecordVersion"' not in data
        and data not in [files.get(name) for files in good]
    ]


@dataclasses.dataclass
class Tally:
    """What came of the tries of one command."""

    n_kills: int = 0
    n_finished: int = 0
    n_visible: int = 0
    n_hidden_then: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)


class Harness:
    """Tries commands in a folder of inputs.

    Parameters
    ----------
    desk : Path
        As `lay_out` makes it.
    wheels : Path, optional
        The folder of wheels that caches begin with.
    """

    def __init__(self, desk: Path, wheels: Path | None) -> None:
        self.desk, self.wheels = desk, wheels
        self._number = 0

    def folders(self, trial: Trial) -> tuple[Path, Path]:
        """Return a new output folder and a cache."""
        self._number += 1
        out, cache = self.desk / f"out{self._number}", self.desk / f"cache{self._number}"
        if trial.cache and self.wheels is not None:
            shutil.copytree(self.wheels, cache / "wheels")
            out = cache
        else:
            # Its bundles and weights are made once.
            cache = self.desk / "cache"
        return out, cache

    def run(self, words: Sequence[str], out: Path, cache: Path) -> tuple[int, float]:
        """Run a command to its end; return how many steps it took, and seconds."""
        code, n_steps, seconds = Child(self.desk, words, out, 0, cache).wait()
        if code:
            said = (self.desk / "log.txt").read_text(errors="replace")[-2000:]
            message = f"{' '.join(words)} ended with {code}: {said}"
            raise RuntimeError(message)
        return n_steps, seconds

    def undisturbed(self, trial: Trial) -> tuple[list[Files], int, float]:
        """Return what a whole run leaves, and what was there before; its steps and seconds."""
        out, cache = self.folders(trial)
        good = []
        if trial.before:
            self.run(trial.before, out, cache)
            good.append(content(out))
        n_steps, seconds = self.run(trial.first, out, cache)
        good.insert(0, content(out))
        shutil.rmtree(out)
        return good, n_steps, seconds

    def attempt(
        self, trial: Trial, good: list[Files], tally: Tally, kill_at: int = 0, after_s: float = 0.0
    ) -> None:
        """Kill a command once, finish it, and note what is wrong."""
        out, cache = self.folders(trial)
        if trial.before:
            self.run(trial.before, out, cache)
        child = Child(self.desk, trial.first, out, kill_at, cache)
        if not kill_at:
            time.sleep(after_s)
            child.kill()
        code, _, _ = child.wait()
        if code == 0:
            tally.n_finished += 1
        elif code == -signal.SIGKILL:
            tally.n_kills += 1
        else:
            tally.problems.append(f"step {kill_at}: the command ended with {code}")
        left = content(out) if out.exists() else {}
        tally.n_visible += sum(not is_hidden(name) for name in left)
        tally.n_hidden_then += sum(is_hidden(name) for name in left)
        where = (
            f"{trial.name}, killed at step {kill_at}"
            if kill_at
            else f"{trial.name}, {after_s:.3f} s"
        )
        tally.problems += [f"{where}: wrong {name}" for name in wrong(left, good)]
        try:
            self.run(trial.again, out, cache)
        except RuntimeError as error:
            tally.problems.append(f"{where}: cannot be finished: {error}")
            return
        end = content(out)
        beside = [path.name for path in self.desk.iterdir() if path.name.startswith(".")]
        tally.problems += [f"{where}: hidden {name}" for name in [*filter(is_hidden, end), *beside]]
        seen = {name: data for name, data in end.items() if not is_hidden(name)}
        differ = sorted(name for name in {*seen, *good[0]} if seen.get(name) != good[0].get(name))
        tally.problems += [f"{where}: differs {name}" for name in differ]
        shutil.rmtree(out)


def lay_out(desk: Path) -> None:
    """Make inputs for all commands: an encoder, pictures, films, measurements, a study."""
    import av
    import nibabel as nib
    from PIL import Image

    from imgtofmri import spaces
    from imgtofmri.bundle import Bundle, RoiModel, SubjectModel, write_bundle
    from imgtofmri.measured.movie import MeasuredMovie, save_measured

    rng = np.random.default_rng(1)
    template = spaces.Grid((14, 12, 10), np.diag([2.0, 2, 2, 1]))
    own = spaces.Grid((9, 9, 9), np.diag([2.5, 2.5, 2.5, 1]))
    moved = spaces.affine_map(own, template, np.eye(4))
    subjects = []
    for name in ("S1", "S2"):
        rois = {
            roi: RoiModel(
                np.arange(first, first + 30).astype(np.int32),
                np.repeat(np.array([0, 1], np.uint8), 15),
                rng.normal(size=(512, 30)).astype(np.float32),
                rng.normal(size=30).astype(np.float32),
            )
            for roi, first in (("LOC", 200), ("PPA", 300))
        }
        subjects.append(SubjectModel(name, own, moved.restrict(np.r_[200:230, 300:330]), rois))
    features = {"id": "resnet18/avgpool", "backbone": "resnet18", "layers": ["avgpool"]}
    card = {
        "id": "small",
        "title": "Two small ROIs",
        "licence": "CC0",
        "citation": ["none"],
        "features": {**features, "n_features": 512},
        "template": {"space": "MNI152NLin6Asym"},
    }
    write_bundle(Bundle(card, template, tuple(subjects)), desk / "small.safetensors")
    names = []
    for kind, offset in (("dark", 0), ("bright", 128)):
        (desk / kind).mkdir()
        for number in range(6):
            names.append(f"{kind}{number}.png")
            pixels = rng.integers(offset, offset + 100, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(desk / kind / names[-1])
    lines = ["onset\tduration\tstim_file", *(f"{2 + 4 * i}\t2\tdark{i}.png" for i in range(4))]
    (desk / "run.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    n_pairs = len(names) * (len(names) - 1) // 2
    np.savez(desk / "subjects.npz", rdms=rng.random((3, n_pairs)), conditions=names)
    for film in ("film.mp4", "other.mp4"):
        with av.open(str(desk / film), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for _ in range(120):
                noise = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
            container.mux(stream.encode(None))
    mask = np.zeros((12, 13, 11), np.uint8)
    mask.flat[600:630] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([2.0, 2, 2, 1])), desk / "V1.nii.gz")
    np.save(desk / "V1.npy", rng.standard_normal((12, 30)))
    (desk / "stimuli.tsv").write_text("\n".join(["stimulus", *names]) + "\n", encoding="utf-8")
    (desk / "pictures").mkdir()
    for name in names:
        shutil.copyfile(desk / name[:-5] / name, desk / "pictures" / name)
    (desk / "study.toml").write_text(_STUDY, encoding="utf-8")
    voxels = spaces.Grid((14, 12, 10), np.diag([2.0, 2, 2, 1]))
    inside = np.zeros(voxels.shape, bool)
    inside[3:8, 3:8, 3:8] = True
    n_inside = int(inside.sum())
    half = np.arange(n_inside) < n_inside // 2
    save_measured(
        MeasuredMovie(
            data=rng.normal(size=(3, 6, n_inside)).astype(np.float32),
            subject_names=("a", "b", "c"),
            tr_s=2.0,
            mask=inside,
            affine=voxels.affine,
            rois={"LOC": half, "PPA": ~half},
            slice_time_ref=0.0,
        ),
        desk / "measured.npz",
    )


_STUDY = """
id = "mine"
title = "One person's responses to 12 pictures"
licence = "CC0"
citation = ["Nobody (2026)"]
[template]
grid = "V1.nii.gz"
space = "MNI152NLin2009cAsym"
[stimuli]
table = "stimuli.tsv"
folder = "pictures"
[backbone]
name = "resnet18"
layers = ["avgpool"]
weights = "untrained"
center_crop = true
[fit]
alphas = [1.0, 10.0, 100.0]
folds = 3
[[subjects]]
name = "S1"
transform = { kind = "same" }
[subjects.rois.V1]
mask = "V1.nii.gz"
responses = "V1.npy"
"""


def load_all() -> None:
    """Import what commands use, so that forked processes have it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import av  # noqa: F401
    import nibabel  # noqa: F401
    import nilearn.plotting  # noqa: F401
    import onnxruntime  # noqa: F401
    import pandas  # noqa: F401
    import safetensors.numpy  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.manifold  # noqa: F401

    import imgtofmri.cli  # noqa: F401


def try_all(
    desk: Path,
    chosen: Sequence[Trial],
    kills: int,
    seed: int,
    wheels: Path | None = None,
    say: Callable[[str], object] = print,
) -> dict[str, Tally]:
    """Kill each command as often as the next, half at random and half at steps.

    Parameters
    ----------
    desk : Path
        An empty folder.
    chosen : sequence of Trial
    kills : int
        Kills in all, at least; each command is killed at each of its steps in turn, beginning
        anywhere.
    seed : int
    wheels : Path, optional
        The folder of wheels for a cache.
    say : callable
        Called with a line for each command.

    Returns
    -------
    dict of str to Tally
    """
    load_all()
    lay_out(desk)
    harness, rng, tallies = Harness(desk, wheels), random.Random(seed), {}
    network = ["--encoder", "small.safetensors", "--weights", "untrained", "--quiet"]
    harness.run(["predict", "dark", "bright", "-o", "betas", *network], desk, desk / "cache")
    (desk / "betas" / "predictions.json").unlink()
    each = -(-kills // len(chosen))
    for trial in chosen:
        good, n_steps, seconds = harness.undisturbed(trial)
        tally = tallies[trial.name] = Tally()
        n_tries = at_steps = 0
        first = rng.randrange(n_steps)
        while tally.n_kills < each and n_tries < 4 * each:
            n_tries += 1
            if n_tries % 2:
                # As far apart as the kills allow, beginning anywhere.
                step = (first + at_steps * max(1, 2 * n_steps // each)) % n_steps
                at_steps += 1
                harness.attempt(trial, good, tally, kill_at=1 + step)
            else:
                harness.attempt(trial, good, tally, after_s=rng.uniform(0.0, seconds))
        say(
            f"{trial.name:15} {n_steps:4d} steps, {seconds:5.1f} s: killed {tally.n_kills}, "
            f"visible files then {tally.n_visible}, hidden then {tally.n_hidden_then}, "
            f"problems {len(tally.problems)}"
        )
        for problem in tally.problems:
            say(f"    {problem}")
    return tallies


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="commands to try, by their names")
    options = parser.parse_args()
    from imgtofmri.assets import cache_dir

    wheels: Path | None = cache_dir() / "wheels"
    if wheels is None or len(list(wheels.glob("*.whl"))) < 2:
        wheels = None
    chosen = [trial for trial in trials(wheels) if not options.only or trial.name in options.only]
    with tempfile.TemporaryDirectory() as scratch:
        desk = Path(scratch)
        if wheels is not None:
            shutil.copytree(
                wheels.parent, desk / "cache", ignore=shutil.ignore_patterns("features")
            )
        tallies = try_all(desk, chosen, options.kills, options.seed, wheels)
    n_kills = sum(tally.n_kills for tally in tallies.values())
    problems = [problem for tally in tallies.values() for problem in tally.problems]
    print(f"{n_kills} kills, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

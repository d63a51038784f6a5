"""Fixtures that every test may use."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import zscore

from imgtofmri import Prediction, assets
from imgtofmri.backbones import load
from imgtofmri.backbones.architectures import Architecture
from imgtofmri.backbones.names import WEIGHTS_VARIABLE, Untrained
from imgtofmri.backbones.untrained import untrained_weights
from imgtofmri.backbones.weights import LoadedWeights
from imgtofmri.bundle import Bundle, RoiModel, SubjectModel, write_bundle
from imgtofmri.encoder import Provenance, Settings, reference
from imgtofmri.files import sha256_of
from imgtofmri.spaces import Grid, affine_map

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WITH_GL = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)
WITHOUT_GL = ("--disable-gpu", "--disable-3d-apis")


def pytest_sessionstart() -> None:
    """Take what the surroundings would change of commands that tests start.

    A shell script's background commands ignore Ctrl-C, and whatever they start does, too. Weights
    that the environment names would be used where a test asks for the published ones.
    """
    os.environ.pop(WEIGHTS_VARIABLE, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skipped test as a failure where ``IMGTOFMRI_NO_SKIPS`` is set."""
    report = yield
    if report.skipped and os.environ.get("IMGTOFMRI_NO_SKIPS"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> Iterator[None]:
    """Draw random weights once in a process, not for each test that takes whichever there are."""
    drawn: dict[tuple[str, Untrained], LoadedWeights] = {}

    def draw(architecture: Architecture, untrained: Untrained) -> LoadedWeights:
        key = architecture.id, untrained
        if key not in drawn:
            drawn[key] = untrained_weights(architecture, untrained)
            for tensor in drawn[key].tensors.values():
                tensor.flags.writeable = False
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "untrained_weights", draw)
        yield


@pytest.fixture
def torch() -> Any:
    """Return PyTorch, or skip with the reason."""
    return pytest.importorskip("torch", reason="needs the extra [torch]: PyTorch is not installed")


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(20231)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of shared test data, or skip with the reason."""
    folder = os.environ.get("IMGTOFMRI_TEST_DATA")
    if not folder:
        pytest.skip("IMGTOFMRI_TEST_DATA is not set: it names the folder of shared test data")
    return Path(folder)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of movie files that are opened from now on, in order, each as often."""
    import av

    files: list[str] = []
    open_file = av.open

    def noted(file: str, *args: Any, **kwargs: Any) -> Any:
        files.append(file)
        return open_file(file, *args, **kwargs)

    monkeypatch.setattr(av, "open", noted)
    return files


@pytest.fixture(scope="module")
def launched() -> Iterator[Callable[..., Any]]:
    """Return what starts a browser; skip without one, or without Playwright."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs the extra [browser]: Playwright is not installed"
    )
    named = os.environ.get("IMGTOFMRI_BROWSER") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    if named is None:
        pytest.skip("needs Chromium: none is on the PATH, and IMGTOFMRI_BROWSER names none")
    with api.sync_playwright() as playwright:
        started: dict[bool, Any] = {}

        def launch(gl: bool = True) -> Any:
            if gl not in started:
                flags = ["--no-sandbox", *(WITH_GL if gl else WITHOUT_GL)]
                started[gl] = playwright.chromium.launch(executable_path=named, args=flags)
            return started[gl]

        yield launch
        for browser in started.values():
            browser.close()


LONGEST_S = 600
"""After so long processes end that tests start, whatever becomes of the tests."""


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Return what waits until something holds, and fails when it takes too long."""
    return _until


def _until(holds: Callable[[], object], seconds: float = 120) -> None:
    """Wait until something holds, and fail when it takes too long."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """Return what lets no file grow beyond a size, as if the disk were full."""
    return _largest_file


@contextmanager
def _largest_file(n_bytes: int) -> Iterator[None]:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python would keep half of what it compiles, which ends all that import it later.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Cluster:
    """A Dask scheduler and workers, each a process of its own on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self, n_workers: int = 2) -> None:
        """Start all, and wait for the scheduler."""
        file = self._folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
        self._run("distributed.cli.dask_scheduler", *options, "--no-dashboard")
        _until(file.exists)
        _until(lambda: file.read_text("utf-8").strip())
        self.address = json.loads(file.read_text("utf-8"))["address"]
        for _ in range(n_workers):
            self.hire()

    def hire(self) -> None:
        """Start one more worker; nobody replaces one that is killed."""
        options = ["--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        options += ["--local-directory", str(self._folder), "--death-timeout", "60"]
        worker = self._run("distributed.cli.dask_worker", self.address, *options)
        self.workers.append(worker)

    def _run(self, module: str, *options: str) -> subprocess.Popen[bytes]:
        # It ends by itself, should nobody be left to end it.
        script = (
            "import runpy, sys, threading, os\n"
            f"threading.Timer({LONGEST_S}, os._exit, (3,)).start()\n"
            f"sys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
            f"sys.argv[1:] = {list(options)!r}\n"
            f"runpy.run_module({module!r}, run_name='__main__')\n"
        )
        log = (self._folder / f"{module}-{len(self._processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=log,
            stderr=log,
            env=os.environ
            | {"IMGTOFMRI_THREADS": "1", "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error"},
        )
        log.close()
        self._processes.append(process)
        return process

    def kill(self, number: int) -> None:
        """Kill a worker outright."""
        self.workers[number].send_signal(signal.SIGKILL)
        self.workers[number].wait()

    def stop(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a Dask cluster that is not started yet, and stop it at the end."""
    pytest.importorskip("distributed", reason="needs the extra [scale]")
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def published_wheel() -> Path:
    """Return the published model's wheel, fetched through pip into the user's cache."""
    if assets.is_offline() and not list((assets.cache_dir() / "wheels").glob("img2fmri-*.whl")):
        pytest.skip("IMGTOFMRI_OFFLINE is set and the published wheel is not in the cache")
    return reference.reference_wheel(progress=False)


@pytest.fixture(scope="session")
def published_bundle(published_wheel: Path) -> Bundle:
    """Return the published encoder, compiled afresh."""
    return reference.compile_bundle(published_wheel)


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of random ResNet-18 weights: a real network that has learned nothing."""
    from safetensors.numpy import save_file

    from imgtofmri.backbones.architectures import ARCHITECTURES

    rng = np.random.default_rng(7)
    tensors = {}
    for conv in ARCHITECTURES["resnet18"].convolutions:
        scale = np.sqrt(2 / np.prod(conv.shape[1:]))
        tensors[f"{conv.name}.weight"] = rng.normal(size=conv.shape).astype(np.float32) * scale
        tensors[f"{conv.name}.bias"] = np.zeros(conv.shape[0], np.float32)
    tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture
def small_bundle(rng: np.random.Generator, make_bundle: Callable[..., Bundle]) -> Bundle:
    """Return an encoder of two subjects, two overlapping ROIs and six features on a small grid."""
    return make_bundle(rng, n_features=6, shape=(12, 10, 9), native=(8, 8, 8), firsts=(150, 170))


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Bundle]:
    """Return what makes small encoders."""
    return _make_bundle


@pytest.fixture
def small_encoder(
    make_bundle: Callable[..., Bundle], rng: np.random.Generator, tmp_path: Path
) -> Path:
    """Write an encoder of ResNet-18's features on a small grid."""
    write_bundle(make_bundle(rng), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.fixture
def dark_and_bright(tmp_path: Path, rng: np.random.Generator) -> Callable[[int], tuple[Path, Path]]:
    """Return what makes two folders of some noisy pictures each."""

    def make(n_each: int) -> tuple[Path, Path]:
        pair = (tmp_path / "dark", tmp_path / "bright")
        for folder, offset in zip(pair, (0, 128), strict=True):
            folder.mkdir()
            for number in range(n_each):
                pixels = rng.integers(offset, offset + 100, (30, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{folder.name}{number}.png")
        return pair

    return make


def _make_bundle(
    rng: np.random.Generator,
    *,
    n_features: int = 512,
    shape: tuple[int, int, int] = (14, 12, 10),
    native: tuple[int, int, int] = (9, 9, 9),
    firsts: tuple[int, int] = (200, 300),
    n_voxels: int = 30,
) -> Bundle:
    """Return an encoder of two subjects and two ROIs on a small grid, with random weights.

    ``firsts`` are the first voxels of LOC and PPA, which have ``n_voxels`` each.
    """
    template = Grid(shape, np.diag([2.0, 2, 2, 1]))
    own = Grid(native, np.diag([2.5, 2.5, 2.5, 1]))
    to_template = affine_map(own, template, np.eye(4))
    half = n_voxels // 2
    subjects = []
    for name in ("S1", "S2"):
        rois = {}
        for roi, first in zip(("LOC", "PPA"), firsts, strict=True):
            rois[roi] = RoiModel(
                voxels=np.arange(first, first + n_voxels).astype(np.int32),
                hemi=np.repeat(np.array([0, 1], np.uint8), half),
                weights=rng.normal(size=(n_features, n_voxels)).astype(np.float32),
                intercept=rng.normal(size=n_voxels).astype(np.float32),
            )
        every = np.concatenate([model.voxels for model in rois.values()])
        subjects.append(SubjectModel(name, own, to_template.restrict(every), rois))
    card: dict[str, Any] = {
        "id": "small",
        "title": "Two small ROIs",
        "licence": "CC0",
        "citation": "none",
        "features": {
            "id": "resnet18/avgpool",
            "backbone": "resnet18",
            "layers": ["avgpool"],
            "n_features": n_features,
        },
        "template": {"space": "MNI152NLin6Asym"},
    }
    return Bundle(card, template, tuple(subjects))


@pytest.fixture(scope="session")
def make_prediction() -> Callable[..., Prediction]:
    """Return what makes predictions without an encoder."""
    return _make_prediction


_TWO_ROIS = {("PPA", "L"): 5, ("PPA", "R"): 5, ("LOC", "L"): 10, ("LOC", "R"): 0}


def _make_prediction(
    rng: np.random.Generator,
    *,
    n_stimuli: int = 24,
    n_voxels: int = 30,
    n_subjects: int = 3,
    rois: Mapping[tuple[str, str], int] = _TWO_ROIS,
    average: str = "mean",
    subjects: np.ndarray[Any, Any] | None = None,
    folder: Path | None = None,
) -> Prediction:
    """Return a prediction of noise that subjects share in part, on a small grid in the brain.

    ``rois`` says how many voxels each (roi, hemi) has: the first ones have the first, and so on; by
    default PPA has ten in two hemispheres and LOC ten in the left. ``subjects``, of shape
    (n_subjects, n_stimuli, n_voxels), is predicted instead of noise, and the group's map is made of
    it as ``average`` says. With ``folder`` the stimuli are small pictures that are written there.
    """
    if subjects is None:
        shared = rng.normal(size=(n_stimuli, n_voxels))
        subjects = shared + 0.5 * rng.normal(size=(n_subjects, n_stimuli, n_voxels))
    subjects = np.asarray(subjects, dtype=np.float32)
    n_subjects, n_stimuli, n_voxels = subjects.shape
    group = subjects.mean(axis=0)
    if average == "zscore":
        group = zscore(zscore(subjects, axis=-1).sum(axis=0), axis=-1)
    side = 2 + int(np.ceil((2 * n_voxels) ** (1 / 3)))
    mask = np.zeros((side, side, side), dtype=bool)
    mask.ravel()[np.sort(rng.choice(mask.size, n_voxels, replace=False))] = True
    ends = np.cumsum([0, *rois.values()])
    index = np.arange(n_voxels)
    spans = dict(zip(rois, pairwise(ends), strict=True))
    names = tuple(f"image{number:02d}.png" for number in range(n_stimuli))
    files = () if folder is None else tuple(folder / name for name in names)
    for file in files:
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(file)
    return Prediction(
        group=group,
        subjects=subjects,
        mask=mask,
        affine=np.array([[-2.0, 0, 0, 10], [0, 2, 0, -70], [0, 0, 2, -10], [0, 0, 0, 1]]),
        names=names,
        roi_masks={
            place: (index >= first) & (index < last) for place, (first, last) in spans.items()
        },
        subject_names=tuple(f"CSI{number + 1}" for number in range(n_subjects)),
        # Every person's native voxels are the template's, so that both ways can be compared.
        native=tuple(subjects),
        own_rois=({place: index[slice(*span)] for place, span in spans.items()},) * n_subjects,
        coverage=np.ones((n_subjects, n_voxels), np.float32),
        provenance=Provenance(
            Settings(rois=[roi for roi, _ in rois], average=average, center_crop=False), "small"
        ),
        sources=files,
        sha256=tuple(map(sha256_of, files)),
    )


@pytest.fixture(scope="session")
def make_template_run() -> Callable[..., Prediction]:
    """Return what makes predictions on the template's grid, in both occipital lobes."""
    return _make_template_run


def _make_template_run(
    rng: np.random.Generator,
    names: Sequence[str] = tuple(f"p{number}.png" for number in range(5)),
    *,
    group: np.ndarray[Any, Any] | None = None,
    folder: Path | None = None,
    average: str = "mean",
) -> Prediction:
    """Return maps of noise, or those of ``group``, by three people who differ by a constant.

    The mask is a box in each hemisphere, of which the lower part has less than a person behind it.
    Both boxes are PPA. With ``folder`` the stimuli are small pictures that are written there.
    """
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    shape = (91, 109, 91)
    x, y, z = (affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]).reshape(
        3, *shape
    )
    mask = (np.abs(x) > 5) & (np.abs(x) < 40) & (y > -100) & (y < -76) & (z > -14) & (z < 16)
    n_voxels = int(mask.sum())
    maps = rng.normal(size=(len(names), n_voxels)) if group is None else group
    people = np.stack([maps + shift for shift in (-0.1, 0.0, 0.1)]).astype(np.float32)
    sides = {("PPA", "L"): x[mask] < 0, ("PPA", "R"): x[mask] > 0}
    files = () if folder is None else tuple(folder / name for name in names)
    for number, file in enumerate(files):
        Image.new("RGB", (60, 40), (200, 5 * number % 255, 30)).save(file)
    return Prediction(
        group=np.asarray(maps, np.float32),
        subjects=people,
        mask=mask,
        affine=affine,
        names=tuple(names),
        roi_masks=sides,
        subject_names=("CSI1", "CSI2", "CSI3"),
        native=tuple(people),
        own_rois=({place: np.flatnonzero(side) for place, side in sides.items()},) * 3,
        coverage=np.stack([np.linspace(0.2, 1, n_voxels, dtype=np.float32)] * 3),
        provenance=Provenance(
            Settings(rois=["PPA"], average=average, center_crop=False),
            "small",
            licence="CC0",
            citation=("A paper & another <2024>.",),
        ),
        sources=files,
        sha256=tuple(map(sha256_of, files)),
    )

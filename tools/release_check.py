"""Check what a release would hand out, and print what was found.

    python tools/release_check.py
    python tools/release_check.py --without container --weights resnet18.safetensors

The wheel and the source archive are built twice, from two copies of what git knows, and compared
byte by byte; their size and content are checked. The wheel is installed in empty environments, once
with the lowest releases that its bounds admit and once with the newest, and predicts a picture and
a film there. The container is built where something can build it. A line is printed for each
finding, and the exit code is 1 if one of them is bad.

Predictions take the weights that ``--weights`` or ``IMGTOFMRI_WEIGHTS`` names; without them they
use the network that a package index holds. The package's cache is used: nothing is fetched twice.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LARGEST = 10_000_000
"""Bytes that a wheel and a source archive may have."""

LARGEST_IMAGE = 1_000_000_000

IN_WHEEL = (
    "imgtofmri/py.typed",
    "imgtofmri/backbones/graphs/resnet18.onnx",
    "imgtofmri/backbones/heads/efficientnet-lite0_resnet18-avgpool.safetensors",
    "imgtofmri/report/static/niivue.js",
    "imgtofmri/report/static/page.html.j2",
    "imgtofmri/serve/static/index.html",
    "imgtofmri/spaces/data/fsaverage5.npz",
)
IN_SOURCE = (
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "tests/conftest.py",
    "docs/index.md",
)
LEFTOVERS = re.compile(
    r"(^|/)(__pycache__|\.git|\.ci|\.venv[^/]*|demo-output|fuzz-findings|dist|build)(/|$)"
    r"|\.(pyc|pyo|orig|rej|swp|log|h5|nii|nii\.gz|mp4|onnx\.data)$"
)
"""What tests, editors and runs leave behind."""

PARTS = ("lowest", "newest", "container")
"""What can be left out."""

# Run in the environment that is tried: it has the libraries that make pictures and films.
MAKE_STIMULI = """
import av, numpy as np
from PIL import Image
rng = np.random.default_rng(0)
Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save("picture.png")
with av.open("film.mp4", "w") as film:
    stream = film.add_stream("mpeg4", rate=4)
    stream.width, stream.height = 160, 120
    for _ in range(12):
        noise = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        film.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
    film.mux(stream.encode())
"""
LOOK_AT_VOLUMES = """
import nibabel as nib, numpy as np
for name, frames in (("picture.png", ()), ("film.mp4", (6,))):
    data = np.asanyarray(nib.load(f"out/{name}.nii.gz").dataobj)
    assert data.shape == (91, 109, 91, *frames), data.shape
    assert np.isfinite(data).any() and data.std() > 0, name
"""


@dataclass(frozen=True)
class Finding:
    """One line of what is printed."""

    what: str
    said: str
    good: bool = True


class Failed(Exception):
    """A command did not end well."""


def call(*words: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """Run a command, and return what it says; `Failed` has the end of what it said otherwise."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=clean | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines()
        message = f"{Path(words[0]).name} {' '.join(map(str, words[1:4]))}: " + " / ".join(
            lines[-3:]
        )
        raise Failed(message)
    return result.stdout


def environment(folder: Path, *packages: str | Path, python: str = sys.executable) -> Path:
    """Make a virtual environment with some packages, and return its folder of programs."""
    call(python, "-m", "venv", folder)
    programs = folder / "bin"
    call(
        programs / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages
    )
    return programs


def version() -> str:
    """Return the version that the package says it has."""
    text = (ROOT / "src" / "imgtofmri" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    assert found, "no version"
    return found[1]


def check_texts() -> Iterator[Finding]:
    """Compare the version with those that other files name."""
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    noted = re.search(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    said = {"CITATION.cff": cited and cited[1], "CHANGELOG.md": noted and noted[1]}
    wrong = {name: one for name, one in said.items() if one != version()}
    yield Finding("version", f"{version()}{f'; but {wrong}' if wrong else ''}", not wrong)


def check_archives(scratch: Path) -> Iterator[Finding]:
    """Build twice, compare, and look inside; the wheel is left in ``scratch / "first"``."""
    programs = environment(scratch / "builder", "hatchling>=1.27", "cffconvert==2.0.0")
    call(programs / "cffconvert", "--validate", cwd=ROOT)
    yield Finding("CITATION.cff", "valid by the schema of Citation File Format")
    moment = _moment()
    for name in ("first", "second"):
        tree = scratch / f"tree-{name}"
        _copy_tree(tree)
        call(programs / "python", "-m", "hatchling", "build", "-d", scratch / name, cwd=tree,
             SOURCE_DATE_EPOCH=moment)  # fmt: skip
        shutil.rmtree(tree)
    built = sorted((scratch / "first").iterdir())
    for path in built:
        same = path.read_bytes() == (scratch / "second" / path.name).read_bytes()
        small = path.stat().st_size < LARGEST
        said = f"{path.stat().st_size / 1e6:.2f} MB; two builds {'are equal' if same else 'DIFFER'}"
        yield Finding(path.name, said, same and small)
    source, wheel = (next(p for p in built if p.name.endswith(end)) for end in (".tar.gz", ".whl"))
    with tarfile.open(source) as archive:
        archive.extractall(scratch / "unpacked", filter="data")
        names = [name.partition("/")[2] for name in archive.getnames()]
    yield from _content(source.name, names, IN_SOURCE)
    (tree,) = (scratch / "unpacked").iterdir()
    call(programs / "python", "-m", "hatchling", "build", "-t", "wheel", "-d", scratch / "third",
         cwd=tree, SOURCE_DATE_EPOCH=moment)  # fmt: skip
    same = (scratch / "third" / wheel.name).read_bytes() == wheel.read_bytes()
    yield Finding("wheel from the source archive", "equal" if same else "DIFFERS", same)
    yield from _wheel_content(wheel)


def _wheel_content(wheel: Path) -> Iterator[Finding]:
    with zipfile.ZipFile(wheel) as archive:
        infos = archive.infolist()
        sizes = {info.filename: info.file_size for info in infos}
    inside = f"imgtofmri-{version()}.dist-info/"
    stray = [name for name in sizes if not name.startswith(("imgtofmri/", inside))]
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["license-files"]
    licences = [path.relative_to(ROOT) for one in stated for path in sorted(ROOT.glob(one))]
    wanted = (*IN_WHEEL, *(f"{inside}licenses/{path.as_posix()}" for path in licences))
    yield from _content(wheel.name, [*sizes], wanted, stray)
    by_folder: dict[str, list[int]] = {}
    for name, size in sizes.items():
        parts = name.split("/")
        by_folder.setdefault("/".join(parts[:2]) if len(parts) > 2 else parts[0], []).append(size)
    for folder, held in sorted(by_folder.items(), key=lambda pair: -sum(pair[1])):
        yield Finding(f"  {folder}", f"{len(held)} files, {sum(held) / 1e6:.2f} MB unpacked")


def _content(
    archive: str, names: Sequence[str], wanted: Sequence[str], stray: Sequence[str] = ()
) -> Iterator[Finding]:
    missing = [name for name in wanted if name not in names]
    left = [*stray, *(name for name in names if LEFTOVERS.search(name))]
    said = f"{len(names)} files"
    said += f"; MISSING {missing}" if missing else ""
    said += f"; NOT WANTED {left[:5]}" if left else ""
    yield Finding(f"{archive}: content", said, not missing and not left)


def _moment() -> str:
    """Return the time of the last commit, in seconds since 1970, or a fixed one without git."""
    with_git = (ROOT / ".git").exists()
    return call("git", "log", "-1", "--format=%ct", cwd=ROOT).strip() if with_git else "1700000000"


def _copy_tree(target: Path) -> None:
    """Copy what git knows, as it lies in the working tree, or everything without git."""
    if not (ROOT / ".git").exists():
        shutil.copytree(ROOT, target)
        return
    for name in call("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def check_install(
    which: str, python: str, wheel: Path, scratch: Path, weights: str
) -> Iterator[Finding]:
    """Install the wheel in an empty environment, and do with it what a person does first."""
    held = ["-c", ROOT / "constraints" / "lowest.txt"] if which == "lowest" else []
    began = time.monotonic()
    programs = environment(scratch / which, wheel, *held, python=python)
    packages = json.loads(call(programs / "python", "-m", "pip", "list", "--format=json"))
    said = f"{len(packages)} packages in {time.monotonic() - began:.0f} s"
    yield Finding(f"{which}: pip install", said)
    call(programs / "python", "-m", "pip", "check")
    folder = scratch / f"{which}-work"
    folder.mkdir()
    program = programs / "imgtofmri"
    first, its_python, *others = call(program, "--version").splitlines()
    mattering = ", ".join(
        line for line in others if line.split()[0] in ("numpy", "onnxruntime", "av")
    )
    yield Finding(f"{which}: --version", f"{first} ({its_python}, {mattering})", first == version())
    seconds = _seconds(program, "--help")
    yield Finding(f"{which}: --help", f"{seconds:.1f} s")
    call(programs / "python", "-c", MAKE_STIMULI, cwd=folder)
    network = ["--weights", weights] if weights else ["--backbone", "efficientnet-lite0"]
    seconds = _seconds(
        program, "predict", "picture.png", "film.mp4", *network, "-o", "out", "-q", cwd=folder
    )
    call(programs / "python", "-c", LOOK_AT_VOLUMES, cwd=folder)
    said = f"volumes in {seconds:.0f} s, {'with the weights named' if weights else network[1]}"
    yield Finding(f"{which}: a picture and a film", said)
    if which == "newest":
        call(programs / "python", ROOT / "tools" / "make_licences.py", "--check")
        yield Finding("licences", "docs/reference/licences.md lists all that was installed")


def _seconds(*words: str | Path, cwd: Path | None = None) -> float:
    began = time.monotonic()
    call(*words, cwd=cwd)
    return time.monotonic() - began


def check_container(wheel: Path, scratch: Path, image: str | None) -> Iterator[Finding]:
    """Build the container and weigh it; where nothing can build it, weigh what it would hold."""
    reasons = []
    for builder in (["docker"], ["podman"], ["buildah"]):
        try:
            size = _built_size(builder[0], image)
        except (Failed, OSError) as error:
            reasons.append(f"{builder[0]}: {str(error)[:200]}")
        else:
            said = f"{size / 1e6:.0f} MB, built by {builder[0]}"
            yield Finding("container", said, size < LARGEST_IMAGE)
            return
    for reason in reasons:
        yield Finding("  not built", reason)
    target = scratch / "target"
    call(sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", target,
         "--disable-pip-version-check", f"{wheel}[serve,train]")  # fmt: skip
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    said = f"{size / 1e6:.0f} MB of packages alone, unpacked, without Python, Debian and bytecode"
    yield Finding("container, estimated", said, size < LARGEST_IMAGE)


def _built_size(builder: str, image: str | None) -> int:
    name = "localhost/imgtofmri:release-check"
    base = ["--build-arg", f"PYTHON_IMAGE={image}"] if image else []
    extra = os.environ.get("IMGTOFMRI_BUILD_OPTIONS", "").split()
    verb = "bud" if builder == "buildah" else "build"
    call(builder, verb, "-q", *base, *extra, "-f", "Containerfile", "-t", name, ".", cwd=ROOT)
    if builder == "buildah":
        text = call(builder, "images", "--json", name)
        return _bytes_of(json.loads(text)[0]["size"])
    return int(call(builder, "image", "inspect", "--format", "{{.Size}}", name))


def _bytes_of(text: str) -> int:
    number, unit = text.split()
    return int(float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()])


def findings(arguments: argparse.Namespace, scratch: Path) -> Iterator[Finding]:
    """Yield all that is found, as it is found."""
    yield from check_texts()
    yield from check_archives(scratch)
    (wheel,) = (scratch / "first").glob("*.whl")
    weights = str(Path(arguments.weights).resolve()) if arguments.weights else ""
    for which, python in (("lowest", arguments.oldest), ("newest", arguments.newest)):
        if which not in arguments.without:
            yield from check_install(which, python, wheel, scratch, weights)
    if "container" not in arguments.without:
        yield from check_container(wheel, scratch, arguments.image)


def main() -> int:
    """Print what is found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--without", nargs="*", default=[], choices=PARTS, help="leave out")
    parser.add_argument(
        "--weights",
        default=os.environ.get("IMGTOFMRI_WEIGHTS", ""),
        help="a file of ResNet-18's weights to predict with",
    )
    parser.add_argument("--image", help="an image of Python to build the container on")
    for which, said in (("oldest", "the lowest"), ("newest", "the newest")):
        parser.add_argument(
            f"--{which}", default=sys.executable, help=f"the Python to install {said} releases on"
        )
    arguments = parser.parse_args()
    n_bad = n_good = 0
    with tempfile.TemporaryDirectory(prefix="release-check-") as scratch:
        try:
            for finding in findings(arguments, Path(scratch)):
                mark = (
                    "    " if finding.what.startswith("  ") else "ok  " if finding.good else "BAD "
                )
                print(f"{mark}{finding.what:<44} {finding.said}", flush=True)
                n_bad += not finding.good
                n_good += finding.good
        except Failed as error:
            print(f"BAD {error}")
            n_bad += 1
    print(f"{n_good} findings good, {n_bad} bad")
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())

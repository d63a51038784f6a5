"""The Python of README and docs: it imports what there is, and what can run here runs."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import av
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from imgtofmri.analyses import rsa
from imgtofmri.bundle import Bundle
from imgtofmri.cli.app import app
from imgtofmri.encoder import Encoder
from imgtofmri.encoder.description import card_lines
from imgtofmri.spaces import MNI152_2MM
from imgtofmri.stimuli import IMAGE_SUFFIXES, MOVIE_SUFFIXES

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]

RUNNABLE = [
    ("README.md", 0),
    ("docs/how-to/compare-geometry.md", 1),
    ("docs/how-to/compare-movie-dynamics.md", 0),
    ("docs/how-to/contrast-images.md", 0),
    ("docs/how-to/explain-responses.md", 0),
    ("docs/how-to/plan-a-scan.md", 0),
    ("docs/how-to/predict-images.md", 0),
    ("docs/how-to/predict-many.md", 0),
    ("docs/how-to/select-stimuli.md", 0),
    ("docs/how-to/simulate-an-experiment.md", 1),
    ("docs/how-to/train-your-own.md", 1),
    ("docs/how-to/use-another-network.md", 1),
    ("docs/how-to/validate-predictions.md", 0),
    ("docs/reference/stimuli.md", 0),
    ("docs/reference/stimuli.md", 1),
]
"""Blocks that need no trained network, and no measured data but those of `desk`."""


def _blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def _imports(block: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("imgtofmri"):
            yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page)])
def test_python_of_a_page_is_valid_and_imports_what_there_is(page: str) -> None:
    """Each block parses, and each name that it imports from the package exists."""
    for block in _blocks(page):
        for module, name in _imports(block):
            assert hasattr(importlib.import_module(module), name), f"{page}: {module}.{name}"


@pytest.fixture
def desk(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to a folder with the files that the pages speak of, and predict by an untrained net."""
    for folder, count in (("photos", 120), ("house", 5), ("face", 5), ("more", 1)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            suffix = "png" if folder == "more" else "jpg"
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.{suffix}")
    (tmp_path / "betas").mkdir()
    for path in (tmp_path / "house").iterdir():
        beta = rng.integers(1, 100, MNI152_2MM.shape, dtype=np.uint8)
        image = nib.Nifti1Image(beta, MNI152_2MM.affine)
        nib.save(image, tmp_path / "betas" / f"{path.name}.nii")
    for name, colour in (("house", "red"), ("face", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.jpg")
    with av.open(tmp_path / "film.mp4", "w") as film:
        stream = film.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 32
        for _ in range(240):
            noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        film.mux(stream.encode())
    coarse = np.diag([-8.0, 8, 8, 1])
    coarse[:3, 3] = 90, -126, -72
    for name in ("sub-01_bold.nii.gz", "sub-02_bold.nii.gz", "sub-03_bold.nii.gz"):
        bold = nib.Nifti1Image(rng.random((23, 28, 23, 30)).astype(np.float32), coarse)
        bold.header.set_zooms((8, 8, 8, 2))
        bold.header.set_xyzt_units("mm", "sec")
        nib.save(bold, tmp_path / name)
    (tmp_path / "bold.json").write_text('{"StartTime": 0.0}')
    for name in ("run1.tsv", "run2.tsv"):
        shown = "onset\tduration\tstim_file\n2\t2\t0.jpg\n60.5\t2\t1.jpg\n"
        (tmp_path / name).write_text(shown, encoding="utf-8")
    names = [f"{number}.jpg" for number in range(120)]
    np.savez(tmp_path / "subjects.npz", rdms=rng.random((3, 120 * 119 // 2)), conditions=names)
    monkeypatch.chdir(tmp_path)
    # The blocks as they stand need ResNet-18's weights; which weights changes none of their steps.
    for method in (Encoder.predict, Encoder.stream, Encoder.predictor):
        untrained = functools.partialmethod(method, weights="untrained:0")
        monkeypatch.setattr(Encoder, method.__name__, untrained)
    of_layers = functools.partial(rsa.layer_models, weights="untrained:0")
    monkeypatch.setattr(rsa, "layer_models", of_layers)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.usefixtures("desk", "published_wheel")
@pytest.mark.parametrize(("page", "number"), RUNNABLE)
def test_python_of_a_page_runs(page: str, number: int) -> None:
    """What a reader copies runs to its end without a warning."""
    block = _blocks(page)[number]
    names: dict[str, object] = {}
    exec(compile(block, f"{page}[{number}]", "exec"), names)
    if "prediction" in names:
        assert len(names["prediction"]) in (2, 120)  # type: ignore[arg-type]


def test_every_environment_variable_stands_on_its_page() -> None:
    """What the package and its tests look at in their surroundings is said in one place."""
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/*.py"), *ROOT.glob("docs/**/*.md")]
    used = {
        name.rstrip("_")
        for path in sources
        for name in re.findall(
            r"\b(?:IMGTOFMRI|TEMPLATEFLOW|HF)_[A-Z_]+\b", path.read_text("utf-8")
        )
    }
    pages = [ROOT / "docs" / "reference" / name for name in ("environment.md", "limits.md")]
    said = " ".join(page.read_text("utf-8") for page in pages)
    assert "IMGTOFMRI_OFFLINE" in used
    assert sorted(name for name in used if name not in said) == []


@pytest.mark.parametrize(
    "pattern",
    ["*.md", "Containerfile", "Makefile", "docs/**/*.md", "src/**/*.py", "tools/**/*.py"],
)
def test_files_that_are_named_are_there(pattern: str) -> None:
    """Whoever is sent to a page, a benchmark or a tool finds it."""
    named = r"(?<![\w./-])(?:docs|tools|benchmarks|tests|studies)/[\w./-]*\w\.(?:md|py|toml)\b"
    found = {
        (path.name, file)
        for path in ROOT.glob(pattern)
        for file in re.findall(named, path.read_text("utf-8"))
    }
    assert found
    assert sorted(each for each in found if not (ROOT / each[1]).is_file()) == []


def test_stimuli_that_are_read_are_those_of_their_page() -> None:
    """Which suffixes count stands on the page of stimuli, and nothing else does."""
    page = (ROOT / "docs/reference/stimuli.md").read_text("utf-8")
    for row, suffixes in (("images", IMAGE_SUFFIXES), ("movies", MOVIE_SUFFIXES)):
        said = re.search(rf"^\| {row} \| (.*) \|$", page, re.MULTILINE)
        assert said
        assert sorted(said[1].split()) == sorted(suffixes)


def test_tests_that_a_page_names_are_there() -> None:
    """Each fault of the page on trust names files of tests, and tests that these files have."""
    rows = re.findall(
        r"^\| ([^|`]+) \| (`test_[^|]+) \|$",
        (ROOT / "docs/explanation/trust.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert len(rows) > 30
    for fault, said in rows:
        for part in said.split("; "):
            file, *names = re.findall(r"`([^`]+)`", part)
            text = (ROOT / "tests" / file).read_text("utf-8")
            assert names, fault
            lacking = [name for name in names if f"\ndef test_{name}(" not in text]
            assert not lacking, fault


@pytest.mark.network
def test_card_that_is_kept_for_the_site_is_the_encoder_s(published_bundle: Bundle) -> None:
    """Where the site cannot have the encoder, it shows what `describe` says of it all the same."""
    kept = ROOT / "docs" / "reference" / "cards" / "bold5000-resnet18.txt"
    told = "imgtofmri describe > docs/reference/cards/bold5000-resnet18.txt"
    assert kept.read_text("utf-8").splitlines() == list(card_lines(published_bundle)), told


def _commands(page: str) -> list[list[str]]:
    """Return the command lines of a page, each as a list of words without the program's name."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^imgtofmri ([a-z].*)$", text, flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def _examples() -> list[list[str]]:
    """Return the command lines of every command's help."""
    found = []
    for command in app.registered_commands:
        text = inspect.cleandoc(command.callback.__doc__ or "")
        shown = text.partition("**Example")[2].split("\n\n")[1:]
        assert shown, f"{command.callback} has no example in its help"
        found += [shlex.split(example)[1:] for example in shown if example.startswith("imgtofmri ")]
    return found


@pytest.mark.parametrize(
    "words",
    [*_examples(), *(words for page in PAGES for words in _commands(page))],
    ids=" ".join,
)
def test_command_line_of_a_page_or_of_help_is_understood(words: list[str]) -> None:
    """Each command exists and takes the options that are shown; nothing is run."""
    command = get_command(app)
    while isinstance(getattr(command, "commands", None), dict):
        command, words = command.commands[words[0]], words[1:]  # type: ignore[attr-defined]
    command.make_context(str(command.name), list(words))

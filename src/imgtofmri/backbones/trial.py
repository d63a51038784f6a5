"""Engines on trial: used only if their answers to test pictures are those of the reference.

The answers depend on the weights, which may be anybody's, so that none can be shipped: the
reference computes them, on this machine, and they are kept in the package's cache under the digest
of the weights.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imgtofmri import __version__
from imgtofmri.assets import cache_dir
from imgtofmri.backbones.base import Backbone, BackboneSpec, MeanOverPlaces, mean_grid
from imgtofmri.backbones.cache import cached_backbone
from imgtofmri.backbones.engines import (
    AUTO,
    LEAST_MEAN_R,
    LEAST_R,
    REFERENCE,
    Engine,
    Trial,
    check_engine,
    installed_engines,
    native_precisions,
)
from imgtofmri.exceptions import MissingDependencyError, OptionError, OutputError

Features = NDArray[np.float32]
Answer = Callable[[NDArray[np.uint8]], Features]
"""What a backbone does, without saying what it is."""

Load = Callable[[Engine], Backbone]
"""Loads a network on an engine."""

N_PICTURES = 16

WORTH_IT = 1.15
"""From how many times the reference's speed on ``auto`` leaves it: less is the machine's drift."""

_ROUNDS = 3

_SIDE = 1024


class EngineWarning(UserWarning):
    """Another engine than the reference is used, and this is how it answered."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What a network's features are compared by.

    Attributes
    ----------
    of : str
        What is compared.
    read : callable
        Features of shape (n_pictures, n_features) to that, one row a picture.
    """

    of: str = "features"
    read: Callable[[Features], NDArray[np.floating]] = lambda features: features


class AdmittedBackbone:
    """A network on an engine that has passed its trial, which its specification tells of.

    Parameters
    ----------
    backbone : Backbone
    trial : Trial
    """

    def __init__(self, backbone: Backbone, trial: Trial) -> None:
        self._backbone = backbone
        self._spec = replace(backbone.spec, trial=trial)

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is."""
        return self._spec

    @property
    def grid(self) -> tuple[int, int] | None:
        """The finest grid of places that all layers are means over; see `MeanOverPlaces`."""
        return mean_grid(self._backbone)

    def on_grid(self, grid: tuple[int, int]) -> Backbone:
        """Return the network with its features at each place; see `MeanOverPlaces`."""
        assert isinstance(self._backbone, MeanOverPlaces)
        return self._backbone.on_grid(grid)

    def __call__(self, pixels: NDArray[np.uint8]) -> Features:
        """Compute features; see `Backbone`."""
        return self._backbone(pixels)


def admitted(name: str, precision: str | None, load: Load, judge: Judge | None = None) -> Backbone:
    """Load a network on an engine, if it passes its trial.

    Parameters
    ----------
    name : str
        One of `imgtofmri.backbones.engines.ENGINES`. ``"auto"`` is the fastest of those that are
        installed and pass, in the precision if one is given; the reference unless another is
        `WORTH_IT`.
    precision : str, optional
        Default: fp32; with ``"auto"`` any that the machine has of its own.
    load : callable
    judge : Judge, optional
        Default: features themselves are compared.

    Raises
    ------
    OptionError
        If there is no such engine, or it does not pass: with the numbers.
    MissingDependencyError
        If it is not installed.

    Warns
    -----
    EngineWarning
        Of how the engine answered, where it is not the reference.
    """
    check_engine(name, precision)
    judge = judge or Judge()
    if name == AUTO:
        return _fastest(precision, load, judge)
    engine = Engine(name, precision or REFERENCE.precision)
    if engine == REFERENCE:
        return load(engine)
    backbone = load(engine)
    trial = _trial(backbone, engine, _remembered(backbone.spec, load), judge)
    if not trial.passed:
        raise OptionError(_refusal(trial), "engine")
    warnings.warn(str(trial), EngineWarning, stacklevel=2)
    return AdmittedBackbone(backbone, trial)


def trial_pictures(size: int) -> NDArray[np.uint8]:
    """Return pictures to try a network on: shape (16, size, size, 3).

    Waves of many lengths, the longer the stronger as in photographs, in three colours, and before
    them a disc or a square of another texture. Whole numbers throughout, so that they are the same
    on every machine.
    """
    return np.stack([_picture(number, size) for number in range(N_PICTURES)])


def _picture(number: int, size: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:size, :size].astype(np.int32) * _SIDE // size
    state = 7919 * (number + 1)

    def draw(below: int) -> int:
        nonlocal state
        state = (1_103_515_245 * state + 12_345) % 2**31
        return (state >> 16) % below

    def texture() -> NDArray[np.int32]:
        planes = np.full((3, size, size), 128, np.int32)
        for level in range(7):
            period = _SIDE >> level
            right, down, phase = draw(17) - 8, draw(17) - 8, draw(period)
            at = ((right * x + down * y) // 8 + phase) % period
            wave = (np.abs(4 * at - 2 * period) - period) * 64 // period  # From -64 to 64.
            for plane in planes:
                plane += wave * (draw(201) - 60) * (7 - level) // 700
        return planes

    behind, before = texture(), texture()
    left, top, radius = draw(_SIDE), draw(_SIDE), _SIDE // 10 + draw(_SIDE // 3)
    across, along = np.abs(x - left), np.abs(y - top)
    disc = across**2 + along**2 < radius**2
    inside = disc if number % 2 else np.maximum(across, along) < radius
    planes = np.where(inside, before, behind)
    return np.clip(planes, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def _trial(backbone: Backbone, engine: Engine, reference: Answer, judge: Judge) -> Trial:
    """Compare the answers of two networks."""
    pictures = trial_pictures(backbone.spec.preprocessing.size)
    found, expected = (
        np.asarray(judge.read(network(pictures)), np.float64) for network in (backbone, reference)
    )
    with np.errstate(invalid="ignore"):  # What has no spread has no correlation, and fails.
        found, expected = (
            values - values.mean(axis=1, keepdims=True) for values in (found, expected)
        )
        products = np.einsum("ij,ij->i", found, expected)
        r = products / np.sqrt(
            np.einsum("ij,ij->i", found, found) * np.einsum("ij,ij->i", expected, expected)
        )
    native = engine.precision in native_precisions(engine.name)
    return Trial(engine, judge.of, len(r), float(r.mean()), float(r.min()), native)


def _fastest(precision: str | None, load: Load, judge: Judge) -> Backbone:
    """Return the network on the fastest engine of those that pass."""
    reference = load(REFERENCE)
    if reference.spec.engine is None:
        return reference
    best: tuple[float, Backbone] = (WORTH_IT, reference)
    said = []
    for engine in installed_engines(precision):
        if engine == REFERENCE:
            continue
        try:
            backbone = load(engine)
            trial = _trial(backbone, engine, reference, judge)
        except (MissingDependencyError, OptionError) as error:
            said.append(f"{engine}: {error}")
            continue
        if not trial.passed:
            said.append(_refusal(trial))
            continue
        speed = _speed(backbone, reference)
        trial = replace(trial, speed=speed)
        said.append(str(trial))
        if speed >= best[0]:
            best = speed, AdmittedBackbone(backbone, trial)
    chosen = best[1]
    tried = "; ".join(said) or "no other engine is installed that this machine runs at full speed"
    message = f"engine auto takes {chosen.spec.engine}: {tried}"
    warnings.warn(message, EngineWarning, stacklevel=3)
    return chosen


def _speed(backbone: Backbone, reference: Backbone) -> float:
    """Return how many times as fast as the reference a network is, of the best of some rounds."""
    pictures = trial_pictures(backbone.spec.preprocessing.size)
    took_s: list[list[float]] = [[], []]
    for _ in range(_ROUNDS):
        for network, took in zip((reference, backbone), took_s, strict=True):
            start_s = time.perf_counter()
            network(pictures)
            took.append(time.perf_counter() - start_s)
    reference_s, its_s = map(min, took_s)
    return reference_s / its_s


def _refusal(trial: Trial) -> str:
    least = f"mean r >= {LEAST_MEAN_R} and lowest r >= {LEAST_R}"
    return (
        f"engine {trial.engine} is refused: its {trial.of} of {trial.n_pictures} test pictures "
        f"must agree with those of {REFERENCE}, {least}; got {trial.numbers}. Leave it out, or "
        "take another `engine` or `precision`."
    )


class _Remembered:
    """The reference, loaded when a picture comes whose answer is not kept."""

    def __init__(self, spec: BackboneSpec, load: Load) -> None:
        self.spec, self._load = spec, load

    def __call__(self, pixels: NDArray[np.uint8]) -> Features:
        return self._load(REFERENCE)(pixels)


def _remembered(spec: BackboneSpec, load: Load) -> Answer:
    """Return the reference with its answers of earlier trials."""
    reference = _Remembered(replace(spec, engine=REFERENCE), load)
    kept = cached_backbone(reference, cache_dir() / "engines" / __version__)

    def answer(pixels: NDArray[np.uint8]) -> Features:
        try:
            return kept(pixels)
        except OutputError:  # A cache that cannot be written to is no reason against an engine.
            return reference(pixels)

    return answer

"""What networks run on: engines and their precisions, and sessions that run a graph.

ONNX Runtime in fp32, on the processor, is the reference. Every other engine is used only after a
trial has compared its answers with the reference's; see `imgtofmri.backbones.trial`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import MissingDependencyError, OptionError, check_choice
from imgtofmri.processors import n_processors

AUTO = "auto"
PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("fp32",),
    "openvino": ("fp32", "bf16", "fp16"),
    "cuda": ("fp32",),
    "coreml": ("fp32", "fp16"),
}
"""What each engine can be asked for."""

ENGINES = (AUTO, *PRECISIONS)

# Images that one thread takes through a network together, at most: more gain nothing on a CPU, cost
# memory, and leave threads idle for longer at the end.
PART_SIZE = 4

_DEVICE_PART_SIZE = 32


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs a network, and in which precision.

    Attributes
    ----------
    name : str
        One of `PRECISIONS`.
    precision : str
        ``"fp32"``, ``"bf16"`` or ``"fp16"``.
    """

    name: str = "onnxruntime"
    precision: str = "fp32"

    def __str__(self) -> str:
        return f"{self.name} in {self.precision}"


REFERENCE = Engine()

LEAST_MEAN_R, LEAST_R = 0.9999, 0.999
"""How far an engine's answers must agree with the reference's, on average and in each picture."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How an engine answered pictures that the reference had answered.

    Attributes
    ----------
    engine : Engine
    of : str
        What was compared: ``"group maps"`` or ``"features"``.
    n_pictures : int
    mean_r, lowest_r : float
        The correlation of a picture's answers, over pictures.
    native : bool
        Whether the engine runs in this precision here at full speed.
    speed : float or None
        How many times as fast as the reference it was; None where it was not timed.
    """

    engine: Engine
    of: str
    n_pictures: int
    mean_r: float
    lowest_r: float
    native: bool = True
    speed: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the engine may be used."""
        return self.mean_r >= LEAST_MEAN_R and self.lowest_r >= LEAST_R

    def __str__(self) -> str:
        slow = "" if self.native else ", in software, as this processor has none of it: slow"
        speed = "" if self.speed is None else f"; {self.speed:.2f} times as fast"
        return (
            f"{self.engine}{slow}: {self.of} of {self.n_pictures} test pictures against "
            f"{REFERENCE}, {self.numbers}{speed}"
        )

    @property
    def numbers(self) -> str:
        """Both correlations, in words."""
        return f"mean r {_shown(self.mean_r)}, lowest r {_shown(self.lowest_r)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for a record."""
        return {
            "compared": self.of,
            "with": str(REFERENCE),
            "pictures": self.n_pictures,
            "mean_r": self.mean_r,
            "lowest_r": self.lowest_r,
            "native": self.native,
            "speed": self.speed,
        }


def _shown(r: float) -> str:
    """Return a correlation in digits, or how far it is from 1 where no digit would tell."""
    return f"1 - {1 - r:.0e}" if r > 1 - 1e-6 else f"{r:.6f}"


def check_engine(engine: str, precision: str | None) -> None:
    """Refuse an engine that is none, or one that cannot be asked for a precision.

    Raises
    ------
    OptionError
    """
    check_choice("engine", engine, ENGINES)
    known = dict.fromkeys(name for names in PRECISIONS.values() for name in names)
    if precision is not None:
        check_choice("precision", precision, known)
    if engine != AUTO and precision not in (None, *PRECISIONS[engine]):
        able = [name for name, precisions in PRECISIONS.items() if precision in precisions]
        message = (
            f"precision of the engine {engine} must be one of {', '.join(PRECISIONS[engine])}; got "
            f"{precision!r}. Leave it out, or take another `engine`: {', '.join(able)}."
        )
        raise OptionError(message, "precision")


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A network as an encoded ONNX model, and what is asked of it.

    Attributes
    ----------
    model : bytes
    image : str
        The input's name.
    image_shape : tuple of int
        Of one image.
    fetches : tuple of str
        Tensors to compute, which are outputs of the model.
    values : mapping of str to float32 array
        Initial values that the model leaves to whoever opens it.
    images_per_call : int, optional
        Where the model takes so many and no other number. By default the engine chooses.
    """

    model: bytes
    image: str
    image_shape: tuple[int, ...]
    fetches: tuple[str, ...]
    values: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    images_per_call: int | None = None


class Session(Protocol):
    """A graph, ready to run."""

    n_calls: int
    """How many calls may run at the same time."""
    images_per_call: int
    """How many images a call takes, at most."""

    def __call__(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the fetched tensors of some images."""


def open_session(
    engine: Engine, graph: Graph, n_threads: int | None = None, opened: Any = None
) -> Session:
    """Open a graph on an engine.

    Parameters
    ----------
    engine : Engine
    graph : Graph
    n_threads : int, optional
        Threads of engines that run on the processor. Default: the CPUs that this process may use.
    opened : onnxruntime.InferenceSession, optional
        Of the graph, on the reference, where there is one already.

    Raises
    ------
    MissingDependencyError
        If the engine is not installed, or its device is not there.
    OptionError
        If it cannot run in the precision.
    """
    n_calls = n_threads or n_processors()
    if opened is not None:
        return OnnxRuntimeSession(opened, graph, n_calls, PART_SIZE)
    return _OPENERS[engine.name](engine, graph, n_calls)


def native_precisions(name: str) -> tuple[str, ...]:
    """Return in which precisions an engine runs here at full speed; none where it is not installed.

    Raises
    ------
    MissingDependencyError
        If it is installed and cannot be imported.
    """
    if name == "openvino":
        from imgtofmri.backbones import openvino

        return openvino.native_precisions()
    provider = _PROVIDERS.get(name)
    here = provider is None or provider in import_onnxruntime().get_available_providers()
    return PRECISIONS[name] if here else ()


def installed_engines(precision: str | None = None) -> list[Engine]:
    """Return the engines that are here, in the precisions that they run at full speed.

    The reference comes first, unless another precision is asked for.
    """
    found = []
    for name in PRECISIONS:
        with suppress(MissingDependencyError):
            found += [Engine(name, one) for one in native_precisions(name)]
    return [engine for engine in found if precision in (None, engine.precision)]


def import_onnxruntime() -> Any:
    """Import ONNX Runtime so that it sends nothing to its maker, and looks nobody up.

    It reads the variable when it is first imported; turning telemetry off later does not keep it
    from asking for its maker's address.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def session_options() -> Any:
    """Return ONNX Runtime's options for sessions that several threads run at the same time."""
    options = import_onnxruntime().SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


class OnnxRuntimeSession:
    """A graph on ONNX Runtime.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    graph : Graph
    n_calls, images_per_call : int
        As `Session` has them.
    keep : object
        What the session refers to without owning it.
    """

    def __init__(
        self, session: Any, graph: Graph, n_calls: int, images_per_call: int, keep: object = None
    ) -> None:
        self._session, self._image, self._keep = session, graph.image, keep
        self._fetches = list(graph.fetches)
        self.n_calls = n_calls
        self.images_per_call = graph.images_per_call or images_per_call
        # Of the many layers on offer, compute no more than what is asked for.
        self._options = import_onnxruntime().RunOptions()
        self._options.only_execute_path_to_fetches = True

    @property
    def providers(self) -> list[str]:
        """What of ONNX Runtime runs it, the first being the one that is preferred."""
        return [*map(str, self._session.get_providers())]

    def __call__(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the fetched tensors of some images."""
        outputs: list[NDArray[np.float32]] = self._session.run(
            self._fetches, {self._image: images}, self._options
        )
        return outputs


def _on_processor(engine: Engine, graph: Graph, n_threads: int) -> Session:
    return _on_onnxruntime(graph, "CPUExecutionProvider", {}, n_threads, PART_SIZE)


def _on_cuda(engine: Engine, graph: Graph, n_threads: int) -> Session:
    # Neither sums in TF32, nor kernels chosen by a race.
    said = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    return _on_device(engine, graph, said)


def _on_coreml(engine: Engine, graph: Graph, n_threads: int) -> Session:
    # Apple's neural engine works in half precision, whatever it is given.
    half = engine.precision == "fp16"
    said = {
        "ModelFormat": "MLProgram",
        "MLComputeUnits": "ALL" if half else "CPUAndGPU",
        "AllowLowPrecisionAccumulationOnGPU": "1" if half else "0",
    }
    return _on_device(engine, graph, said)


def _on_device(engine: Engine, graph: Graph, said: Mapping[str, str]) -> Session:
    """Open a graph on a device that ONNX Runtime reaches, or say why that cannot be."""
    provider = _PROVIDERS[engine.name]
    there = import_onnxruntime().get_available_providers()
    if provider in there:
        try:
            session = _on_onnxruntime(graph, provider, said, 1, _DEVICE_PART_SIZE)
        # ONNX Runtime's errors share no base class but this one.
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            message = f"engine {engine.name} cannot take this network ({reason}). Take another."
            raise OptionError(message, "engine") from error
        # Where a device is missing, ONNX Runtime goes on without and says so in its log alone.
        there = session.providers
        if there[0] == provider:
            return session
    message = (
        f"engine {engine.name} needs an ONNX Runtime with {provider}, and its device; got "
        f"{', '.join(there)}. {_REMEDIES[engine.name]}, or leave `engine` out."
    )
    raise MissingDependencyError(message)


def _on_onnxruntime(
    graph: Graph, provider: str, said: Mapping[str, str], n_calls: int, part_size: int
) -> OnnxRuntimeSession:
    onnxruntime = import_onnxruntime()
    options = session_options()
    # The session refers to these values without owning them: they must live as long as it.
    values = [
        onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value))
        for value in graph.values.values()
    ]
    options.add_external_initializers(list(graph.values), values)
    session = onnxruntime.InferenceSession(graph.model, options, providers=[(provider, dict(said))])
    return OnnxRuntimeSession(session, graph, n_calls, part_size, keep=values)


def _on_openvino(engine: Engine, graph: Graph, n_threads: int) -> Session:
    from imgtofmri.backbones import openvino

    return openvino.OpenVinoSession(engine, graph, n_threads)


_PROVIDERS = {"cuda": "CUDAExecutionProvider", "coreml": "CoreMLExecutionProvider"}
_REMEDIES = {
    "cuda": "Remove the package onnxruntime and install onnxruntime-gpu",
    "coreml": "Install onnxruntime's wheel for macOS",
}

_OPENERS: dict[str, Callable[[Engine, Graph, int], Session]] = {
    "onnxruntime": _on_processor,
    "openvino": _on_openvino,
    "cuda": _on_cuda,
    "coreml": _on_coreml,
}

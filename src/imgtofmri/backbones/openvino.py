"""Graphs on OpenVINO, on the processor.

Importing OpenVINO's Python package tells its maker so, by way of openvino-telemetry, unless that
package is not there. So it is hidden while OpenVINO is imported, and nothing is sent.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones.engines import PART_SIZE, Engine, Graph
from imgtofmri.backbones.onnx_graph import with_values
from imgtofmri.exceptions import MissingDependencyError, OptionError

_TELEMETRY = "openvino_telemetry"

# What OpenVINO calls the precisions: as types of numbers, and as a processor's abilities.
_NAMES = {"fp32": ("f32", "FP32"), "bf16": ("bf16", "BF16"), "fp16": ("f16", "FP16")}

_importing, _calling = threading.Lock(), threading.Lock()
_called = threading.Event()


def import_openvino() -> Any:
    """Import OpenVINO, and nothing that tells its maker so.

    Raises
    ------
    MissingDependencyError
        If it is not installed, or cannot be imported.
    """
    with _importing:
        hidden = _TELEMETRY not in sys.modules
        if hidden:
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            import openvino
        except ImportError as error:
            message = (
                f"engine openvino needs the package openvino; got none that can be imported "
                f"({error}). Install imgtofmri[openvino], or leave `engine` out."
            )
            raise MissingDependencyError(message) from error
        finally:
            if hidden:
                del sys.modules[_TELEMETRY]
    return openvino


def native_precisions() -> tuple[str, ...]:
    """Return in which precisions this processor works itself; none where OpenVINO is missing."""
    if find_spec("openvino") is None:
        return ()
    able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, (_, ability) in _NAMES.items() if ability in able)


@cache
def _core() -> Any:
    return import_openvino().Core()


class OpenVinoSession:
    """A graph on OpenVINO.

    The model is compiled for one number of images, so that each image's numbers are worked out
    alike whatever the others are; a call of fewer is filled up.

    Parameters
    ----------
    engine : Engine
        Its precision is asked for by name: OpenVINO would choose another in silence.
    graph : Graph
    n_threads : int
        Each takes calls of its own.

    Raises
    ------
    MissingDependencyError
        If OpenVINO is not installed.
    OptionError
        If this processor cannot run the precision, or OpenVINO cannot take the graph.
    """

    def __init__(self, engine: Engine, graph: Graph, n_threads: int) -> None:
        self.n_calls, self.images_per_call = n_threads, graph.images_per_call or PART_SIZE
        self._process = os.getpid()
        compiled = self._compiled(engine, graph)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(n_threads):
            self._requests.put(compiled.create_infer_request())
        self._n_outputs = len(graph.fetches)
        taken = compiled.input(0).get_element_type().to_dtype()
        self._call_first(np.zeros((self.images_per_call, *graph.image_shape), taken))

    def _compiled(self, engine: Engine, graph: Graph) -> Any:
        openvino = import_openvino()
        asked, _ = _NAMES[engine.precision]
        said = {
            "INFERENCE_PRECISION_HINT": asked,
            "NUM_STREAMS": self.n_calls,
            "INFERENCE_NUM_THREADS": self.n_calls,
            # Decoders and writers need the processors, too.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            whole = _core().read_model(with_values(graph.model, graph.values))
            outputs = [whole.output(name) for name in graph.fetches]
            model = openvino.Model(outputs, whole.get_parameters())
            model.reshape({graph.image: [self.images_per_call, *graph.image_shape]})
            compiled = _core().compile_model(model, "CPU", said)
        except RuntimeError as error:
            reason = next(iter(str(error).strip().splitlines()), "no reason")
            message = (
                f"engine openvino cannot take this network ({reason}). Leave `engine` out, or take "
                "another."
            )
            raise OptionError(message, "engine") from error
        found = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if found != asked:
            message = (
                f"precision {engine.precision} is none that OpenVINO runs on this processor: asked "
                f"for {asked}, it would take {found} in silence. Take another `precision`, or "
                "leave it out."
            )
            raise OptionError(message, "precision")
        return compiled

    def _call_first(self, images: NDArray[Any]) -> None:
        """Make the first call of a process in one thread.

        What the bindings know of NumPy they find out in it. Two first calls at once may wait for
        each other for ever: one has Python's lock, the other that of what is found out.
        """
        with _calling:
            if not _called.is_set():
                self(images)
                _called.set()

    def __call__(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the fetched tensors of some images."""
        if self._process != os.getpid():
            message = (
                "engine openvino cannot be used in a process that was forked from the one that "
                "loaded it. Load the network in each process, or start them by `spawn`."
            )
            raise OptionError(message, "engine")
        n_images = len(images)
        if n_images < self.images_per_call:
            images = images[np.minimum(np.arange(self.images_per_call), n_images - 1)]
        request = self._requests.get()
        try:
            request.infer({0: images}, share_inputs=True)
            return [
                request.get_output_tensor(number).data[:n_images].copy()
                for number in range(self._n_outputs)
            ]
        finally:
            self._requests.put(request)

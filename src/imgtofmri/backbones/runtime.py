"""Networks on ONNX Runtime: the package's own graphs, and any ONNX file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.assets import sha256_of
from imgtofmri.backbones.base import BackboneSpec, Preprocessing, check_pixels
from imgtofmri.backbones.networks import Network, fold_preprocessing
from imgtofmri.backbones.weights import LoadedWeights
from imgtofmri.exceptions import OptionError, WeightsError, choice_message

# Larger batches gain nothing on a CPU and cost memory (see benchmarks).
BATCH_SIZE = 16


class NetworkBackbone:
    """One of the package's networks.

    Parameters
    ----------
    network : Network
        The architecture.
    weights : LoadedWeights
        Its folded weights.
    layers : sequence of str
        Layers, whose activations are joined in this order.
    n_threads : int, optional
        Threads for one batch. Default: the CPUs that this process may use.

    Raises
    ------
    OptionError
        If the network has no such layer.
    """

    def __init__(
        self,
        network: Network,
        weights: LoadedWeights,
        layers: Sequence[str],
        n_threads: int | None = None,
    ) -> None:
        import onnxruntime

        for layer in layers:
            if layer not in network.layers:
                message = choice_message("load_backbone", "layers", layer, network.layers)
                raise OptionError(message)
        inputs = fold_preprocessing(network, weights.tensors)
        # The session refers to these values without owning them: they must live as long as it.
        self._values = [
            onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value))
            for value in inputs.values()
        ]
        options = session_options(n_threads)
        options.add_external_initializers(list(inputs), self._values)
        graph = (resources.files(__package__) / "graphs" / f"{network.id}.onnx").read_bytes()
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        # Of the many layers on offer, compute no more than what is asked for.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        self._spec = BackboneSpec(
            id=network.id,
            layers=tuple(layers),
            n_features=sum(network.layers[layer] for layer in layers),
            preprocessing=network.preprocessing,
            features_id=f"{network.id}/{'+'.join(layers)}",
            weights_name=weights.path.name,
            weights_sha256=weights.sha256,
            weights_verified=weights.verified,
            note="" if weights.verified else "the weights are not the published ones",
        )

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is."""
        return self._spec

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute features; see `Backbone`."""
        pixels = check_pixels(pixels, self._spec)
        features = np.empty((len(pixels), self._spec.n_features), np.float32)
        for part in batches(len(pixels), BATCH_SIZE):
            outputs = self._session.run(
                list(self._spec.layers), {"pixels": pixels[part]}, self._run_options
            )
            np.concatenate(outputs, axis=1, out=features[part])
        return features


class OnnxFileBackbone:
    """A network in an ONNX file of the user's.

    The graph takes float32 images of shape (n, 3, height, width), normalised as the preprocessing
    says. Its layer is an output or any tensor inside the graph; activations of shape
    (n, channels, height, width) are averaged over space.

    Parameters
    ----------
    path : Path
        The ONNX file, with its weights inside.
    layers : sequence of str, optional
        Names of tensors. Default: the graph's only output.
    preprocessing : Preprocessing, optional
        Default: ImageNet's mean and standard deviation, at the size of the graph's input or 224.
    n_threads : int, optional
        As for `NetworkBackbone`.

    Raises
    ------
    WeightsError
        If the file is not a usable ONNX model of images.
    OptionError
        If the graph has no such layer, or several outputs and none was named.
    """

    def __init__(
        self,
        path: Path,
        layers: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        n_threads: int | None = None,
    ) -> None:
        if not path.is_file():
            message = (
                f"{path}: expected an ONNX file; got {'a folder' if path.is_dir() else 'no file'}. "
                "Give the path of the .onnx file itself."
            )
            raise WeightsError(message)
        model = path.read_bytes()
        session = _open(model, path, n_threads)
        outputs = [output.name for output in session.get_outputs()]
        chosen = list(layers) if layers else outputs
        if not layers and len(outputs) != 1:
            message = (
                f"{path}: expected a layer to be named, as the graph has {len(outputs)} outputs; "
                f"got none. Name one with layers= (--layer): {', '.join(outputs)}."
            )
            raise OptionError(message)
        inner = [layer for layer in chosen if layer not in outputs]
        if inner:
            session = _open_inner(model, path, inner, outputs, n_threads)
        self._session = session
        self._input, size, self._one_at_a_time = _image_input(session, path)
        recipe = preprocessing or Preprocessing(size=size or Preprocessing().size)
        if size not in (None, recipe.size):
            message = (
                f"{path}: preprocessing.size must be {size}, the size of the graph's input; got "
                f"{recipe.size}. Leave preprocessing out, or give that size."
            )
            raise OptionError(message)
        self._scale = np.float32(255.0) * np.asarray(recipe.std, np.float32)[:, None, None]
        self._mean = np.float32(255.0) * np.asarray(recipe.mean, np.float32)[:, None, None]
        self._layers = chosen
        digest = sha256_of(path)
        probe = self._features(np.zeros((1, recipe.size, recipe.size, 3), np.uint8))
        self._spec = BackboneSpec(
            id=path.stem,
            layers=tuple(chosen),
            n_features=probe.shape[1],
            preprocessing=recipe,
            features_id=f"{path.stem}@{digest[:12]}/{'+'.join(chosen)}",
            weights_name=path.name,
            weights_sha256=digest,
        )

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is."""
        return self._spec

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute features; see `Backbone`."""
        pixels = check_pixels(pixels, self._spec)
        step = 1 if self._one_at_a_time else BATCH_SIZE
        features = np.empty((len(pixels), self._spec.n_features), np.float32)
        for part in batches(len(pixels), step):
            features[part] = self._features(pixels[part])
        return features

    def _features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")
        images -= self._mean
        images /= self._scale
        outputs = self._session.run(self._layers, {self._input: images})
        pooled = [_pool(output, self._layers[i]) for i, output in enumerate(outputs)]
        return np.concatenate(pooled, axis=1)


def batches(n_items: int, size: int) -> Iterable[slice]:
    """Return slices of at most ``size`` that cover ``n_items`` in order."""
    return (slice(start, min(start + size, n_items)) for start in range(0, n_items, size))


def session_options(n_threads: int | None) -> Any:
    """Return ONNX Runtime's options for a machine that does other work at the same time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # A given number, unlike the default of 0, leaves the threads free to run on any core.
    options.intra_op_num_threads = n_threads or available_cpus()
    # Threads that spin between batches would take the cores from decoding and writing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open(model: bytes, path: Path, n_threads: int | None) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(
            model, session_options(n_threads), providers=["CPUExecutionProvider"]
        )
    # ONNX Runtime's errors share no base class but this one.
    except Exception as error:
        message = (
            f"{path}: expected an ONNX model with its weights inside; ONNX Runtime cannot load it "
            f"({_first_line(error)}). Export it again, as one file of opset 17 or so."
        )
        raise WeightsError(message) from error


def _open_inner(
    model: bytes, path: Path, inner: Sequence[str], outputs: Sequence[str], n_threads: int | None
) -> Any:
    """Open a model with tensors inside its graph made outputs."""
    try:
        return _open(model + _declare_outputs(inner), path, n_threads)
    except WeightsError as error:
        message = (
            f"{path}: expected layers to be tensors of the graph; got {', '.join(inner)}, of which "
            f"one is none. The graph's outputs are {', '.join(outputs)}; a viewer such as Netron "
            "shows the other tensors' names."
        )
        raise OptionError(message) from error


def _declare_outputs(names: Iterable[str]) -> bytes:
    """Encode a model that has nothing but these outputs.

    Appended to an encoded model it adds the outputs to that model's graph, because protocol buffers
    merge messages that are joined end to end. Fields: ``ModelProto.graph`` is 7,
    ``GraphProto.output`` is 12, ``ValueInfoProto.name`` is 1.
    """
    outputs = b"".join(_field(12, _field(1, name.encode())) for name in names)
    return _field(7, outputs)


def _field(number: int, content: bytes) -> bytes:
    """Encode one length-delimited field of a protocol buffer."""
    length, head = len(content), [number << 3 | 2]
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + content


def _image_input(session: Any, path: Path) -> tuple[str, int | None, bool]:
    """Return the input's name, its size if fixed, and whether it takes one image at a time."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    # A dimension is a number if fixed, else a name or None.
    channels, *sides = shape[1:] if len(shape) == 4 else (0, 0, 0)
    fixed = [side for side in sides if isinstance(side, int)]
    fits = channels == 3 or not isinstance(channels, int)
    if not fits or len(set(fixed)) > 1 or inputs[0].type != "tensor(float)":
        got = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs) or "none"
        message = (
            f"{path}: expected one input, float32 images of shape (n, 3, size, size); got {got}. "
            "Export the network so."
        )
        raise WeightsError(message)
    return inputs[0].name, next(iter(fixed), None), shape[0] == 1


def _pool(output: NDArray[Any], layer: str) -> NDArray[np.float32]:
    if output.ndim == 4:
        output = output.mean(axis=(2, 3))
    if output.ndim != 2:
        message = (
            f"load_backbone: layer {layer} must have shape (n, channels) or (n, channels, height, "
            f"width); got {output.ndim} dimensions. Name a pooled layer."
        )
        raise OptionError(message)
    return output.astype(np.float32, copy=False)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

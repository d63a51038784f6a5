"""Networks that are graphs of ONNX: the package's own, and any ONNX file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.apart import read_apart
from imgtofmri.backbones.architectures import Architecture, fold_preprocessing
from imgtofmri.backbones.base import BackboneSpec, LayerInfo, Preprocessing, check_pixels
from imgtofmri.backbones.crew import Crew
from imgtofmri.backbones.engines import (
    REFERENCE,
    Engine,
    Graph,
    import_onnxruntime,
    open_session,
    session_options,
)
from imgtofmri.backbones.onnx_graph import (
    averaged_map,
    declare_outputs,
    has_outside_data,
    read_nodes,
    tensors_of_image,
)
from imgtofmri.backbones.pooling import (
    Layer,
    Pool,
    check_company,
    check_rows,
    companies,
    on_grid,
    parse_layer,
)
from imgtofmri.backbones.weights import LoadedWeights
from imgtofmri.exceptions import OptionError, WeightsError, choice_message, meant
from imgtofmri.files import is_file, is_there, sha256_of

COARSEST_MAP = (7, 7)
"""Sides of the last maps of the package's networks, which divide those of all others."""


_NETWORK = "an ONNX model that takes an image"


class NetworkBackbone:
    """One of the package's networks.

    Parameters
    ----------
    architecture : Architecture
        The architecture.
    weights : LoadedWeights
        Its folded weights.
    layers : sequence of str
        Layers, whose activations are joined in this order; see `imgtofmri.backbones.pooling`.
    n_threads : int, optional
        Threads for one batch. Default: the CPUs that this process may use.
    engine : Engine
        What it runs on, tried or not.

    Raises
    ------
    OptionError
        If the network has no such layer, or the engine cannot take it.
    MissingDependencyError
        If the engine is not installed.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: LoadedWeights,
        layers: Sequence[str],
        n_threads: int | None = None,
        engine: Engine = REFERENCE,
    ) -> None:
        chosen = [parse_layer(layer) for layer in layers]
        for layer in chosen:
            twice = layer.pooling == "sd" and str(layer) not in architecture.layers
            if layer.name not in architecture.layers or layer.pooling == "tokens" or twice:
                message = choice_message("", "layers", str(layer), architecture.layers)
                raise OptionError(message, "layers")
        graph = (resources.files(__package__) / "graphs" / f"{architecture.id}.onnx").read_bytes()
        # The graph itself gives the mean and the deviation; the rest is pooled from whole maps.
        inside = [layer for layer in chosen if layer.pooling in ("max", "grid", "flatten")]
        maps = _pooled_maps(graph) if inside else {}
        for layer in inside:
            if layer.name not in maps:
                raise OptionError(choice_message("", "layers", layer.name, maps), "layers")
        graph += declare_outputs(dict.fromkeys(maps[layer.name] for layer in inside))
        self._fetches = [maps[layer.name] if layer in inside else str(layer) for layer in chosen]
        self._pool = Pool([layer if layer in inside else Layer(str(layer)) for layer in chosen])
        side = architecture.preprocessing.size
        asked = Graph(
            graph,
            image="pixels",
            image_shape=(side, side, 3),
            fetches=tuple(dict.fromkeys(self._fetches)),
            values=fold_preprocessing(architecture, weights.tensors),
        )
        self._session = open_session(engine, asked, n_threads)
        names = tuple(map(str, chosen))
        widths = tuple(layer.n_features(architecture.layers[layer.name]) for layer in chosen)
        self._crew = Crew(self._session.n_calls)
        self._made_of, self._runs_on = (architecture, weights), (n_threads, engine)
        self._means = all(layer.pooling == "avg" for layer in chosen)
        self._spec = BackboneSpec(
            id=architecture.id,
            layers=names,
            n_features=sum(widths),
            preprocessing=architecture.preprocessing,
            features_id=f"{architecture.id}/{'+'.join(names)}",
            weights_name=weights.path.name,
            weights_sha256=weights.sha256,
            weights_verified=weights.verified,
            weights_seed=weights.seed,
            note=weights.note
            or ("" if weights.verified else "the weights are not the published ones"),
            layer_widths=widths,
            parallel_calls=self._session.n_calls,
            images_per_call=self._session.images_per_call,
            engine=engine,
        )

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is."""
        return self._spec

    @property
    def grid(self) -> tuple[int, int] | None:
        """The finest grid of places that all layers are means over; see `MeanOverPlaces`."""
        return COARSEST_MAP if self._means else None

    def on_grid(self, grid: tuple[int, int]) -> NetworkBackbone:
        """Return the network with its features at each place; see `MeanOverPlaces`."""
        layers = on_grid(self._spec.layers, grid)
        return NetworkBackbone(*self._made_of, layers, *self._runs_on)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute features; see `Backbone`."""
        pixels = check_pixels(pixels, self._spec)
        features = np.empty((len(pixels), self._spec.n_features), np.float32)

        def run(part: slice) -> None:
            outputs = self._session(pixels[part])
            of_name = dict(zip(dict.fromkeys(self._fetches), outputs, strict=True))
            pooled = self._pool([of_name[name] for name in self._fetches])
            np.concatenate(pooled, axis=1, out=features[part])

        self._crew.share(run, len(pixels), self._spec.images_per_call)
        return features


class OnnxFileBackbone:
    """A network in an ONNX file of the user's.

    The graph takes float32 images of shape (n, 3, height, width), normalised as the preprocessing
    says. Its layers are outputs or any tensors inside the graph; activations of shape
    (n, channels, height, width) are averaged over space unless the layer names another pooling.

    Parameters
    ----------
    path : Path
        The ONNX file, with its weights inside.
    layers : sequence of str, optional
        Names of tensors. Default: the graph's only output.
    preprocessing : Preprocessing, optional
        Default: ImageNet's mean and standard deviation, at the size of the graph's input or 224.
    n_threads, engine
        As for `NetworkBackbone`.
    tried : bool
        Whether another process has taken an image through it. By default one does first, within
        limits of time and memory: a graph is a program, and may crash or never come to an end.

    Raises
    ------
    WeightsError
        If the file is not a usable ONNX model of images.
    DataError
        If it crashes, or needs more time or memory than there is for the first image.
    OptionError
        If the graph has no such layer, or several outputs and none was named; if a layer has no
        row for each image, or features of an image that change with the others of a call, or from
        call to call; or if the engine cannot take the graph.
    MissingDependencyError
        If the engine is not installed.
    """

    def __init__(
        self,
        path: Path,
        layers: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        n_threads: int | None = None,
        engine: Engine = REFERENCE,
        *,
        tried: bool = False,
    ) -> None:
        model = _read(path)
        if not tried:
            said = None if preprocessing is None else preprocessing.to_dict()
            read_apart(_first_run, path, layers and [*layers], said, kind=_NETWORK)
        session = _open(model, path)
        outputs = [output.name for output in session.get_outputs()]
        tensors = _image_tensors(model, session)
        chosen = [parse_layer(layer, tensors) for layer in layers or outputs]
        if not layers and len(outputs) != 1:
            message = (
                f"{path}: expected a layer to be named, as the graph has {len(outputs)} outputs; "
                f"got none. Name one with `layers`: {', '.join(outputs)}."
            )
            raise OptionError(message)
        unknown = [layer.name for layer in chosen if layer.name not in tensors]
        if unknown:
            raise OptionError(_no_tensor(path, unknown[0], tensors, outputs))
        inner = dict.fromkeys(layer.name for layer in chosen if layer.name not in outputs)
        if inner:
            model += declare_outputs(inner)
            session = _open(model, path)
        image, size, one_at_a_time = _image_input(session, path)
        recipe = preprocessing or Preprocessing(size=size or Preprocessing().size)
        if size not in (None, recipe.size):
            message = (
                f"{path}: preprocessing.size must be {size}, the size of the graph's input; got "
                f"{recipe.size}. Leave preprocessing out, or give that size."
            )
            raise OptionError(message)
        self._scale = np.float32(255.0) * np.asarray(recipe.std, np.float32)[:, None, None]
        self._mean = np.float32(255.0) * np.asarray(recipe.mean, np.float32)[:, None, None]
        self._pool = Pool(chosen)
        asked = Graph(
            model,
            image=image,
            image_shape=(3, recipe.size, recipe.size),
            fetches=tuple(dict.fromkeys(layer.name for layer in chosen)),
            images_per_call=1 if one_at_a_time else None,
        )
        opened = session if engine == REFERENCE else None
        self._session = open_session(engine, asked, n_threads, opened)
        self._crew = Crew(self._session.n_calls)
        digest = sha256_of(path)
        names = tuple(map(str, chosen))
        activations = self._activations(np.zeros((1, recipe.size, recipe.size, 3), np.uint8))
        self._grid, self._read_from = self._pool.grid(activations), (path, recipe)
        self._runs_on = n_threads, engine
        probe = self._pool(activations)
        widths = tuple(values.shape[1] for values in probe)
        if not tried:
            self._check_company(path, recipe.size)
        self._spec = BackboneSpec(
            id=path.stem,
            layers=names,
            n_features=sum(widths),
            preprocessing=recipe,
            features_id=f"{path.stem}@{digest[:12]}/{'+'.join(names)}",
            weights_name=path.name,
            weights_sha256=digest,
            layer_widths=widths,
            parallel_calls=self._session.n_calls,
            images_per_call=self._session.images_per_call,
            engine=engine,
        )

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is."""
        return self._spec

    @property
    def grid(self) -> tuple[int, int] | None:
        """The finest grid of places that all layers are means over; see `MeanOverPlaces`."""
        return self._of_maps._grid

    def on_grid(self, grid: tuple[int, int]) -> OnnxFileBackbone:
        """Return the network with its features at each place; see `MeanOverPlaces`."""
        return self._with(on_grid(self._of_maps.spec.layers, grid))

    def _with(self, layers: Sequence[str]) -> OnnxFileBackbone:
        return OnnxFileBackbone(self._read_from[0], layers, self._read_from[1], *self._runs_on)

    @cached_property
    def _of_maps(self) -> OnnxFileBackbone:
        """The same features from the maps that layers are means of, as far as these are found."""
        nodes = read_nodes(_read(self._read_from[0]))
        behind = [
            averaged_map(nodes, layer.name) if layer.pooling == "avg" else None
            for layer in self._pool.layers
        ]
        if not any(behind):
            return self
        names = zip(behind, self._spec.layers, strict=True)
        try:
            found = self._with([name or layer for name, layer in names])
        except OptionError:
            return self  # What is averaged there is no map.
        side = self._spec.preprocessing.size
        picture = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
        ours, theirs = self(picture), found(picture)
        same = ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
        return found if same else self

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute features; see `Backbone`."""
        pixels = check_pixels(pixels, self._spec)
        features = np.empty((len(pixels), self._spec.n_features), np.float32)

        size = self._spec.images_per_call

        def run(part: slice) -> None:
            # Operations may sum otherwise for one image than for several: all calls have one size,
            # and the last image stands in for those that are lacking.
            rows = np.minimum(np.arange(part.start, part.start + size), len(pixels) - 1)
            pooled = self._pool(self._activations(pixels[rows]))
            whole = [values[: part.stop - part.start] for values in pooled]
            np.concatenate(whole, axis=1, out=features[part])

        self._crew.share(run, len(pixels), size)
        return features

    def _check_company(self, path: Path, size: int) -> None:
        """See that what a call gives for an image depends on that image alone."""
        n_images = self._session.images_per_call
        *calls, place = companies(size, n_images)
        try:
            mixed, alike = (self._pool(self._activations(pixels)) for pixels in calls)
        except (MemoryError, OptionError):
            raise
        # Engines' errors share no base class but this one.
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            message = (
                f"{path}: expected a graph that takes {n_images} images at once, as its input "
                f"says; it fails on them ({reason}). Export it again, with an axis of images that "
                "may have any length, or length 1."
            )
            raise WeightsError(message) from error
        check_company(self._pool.layers, mixed, alike, place)

    def _activations(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        images = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")
        images -= self._mean
        images /= self._scale
        fetches = dict.fromkeys(layer.name for layer in self._pool.layers)
        of_name = dict(zip(fetches, self._session(images), strict=True))
        found = [of_name[layer.name] for layer in self._pool.layers]
        check_rows(self._pool.layers, found, len(pixels))
        return found


def _first_run(
    path: Path, layers: Sequence[str] | None, recipe: Mapping[str, Any] | None
) -> dict[str, NDArray[Any]]:
    """Take one black image through a network, in another process."""
    preprocessing = None if recipe is None else Preprocessing.from_dict(recipe)
    backbone = OnnxFileBackbone(path, layers, preprocessing, 1, tried=True)
    return {"widths": np.array(backbone.spec.layer_widths)}


def list_tensors(path: Path) -> list[LayerInfo]:
    """List the tensors of an ONNX file that can be layers, in the order of computation.

    Parameters
    ----------
    path : Path
        The ONNX file. Where its input has no size, images of 224 pixels are tried.

    Returns
    -------
    list of LayerInfo
        Floating-point tensors that depend on the image and have a row for each.

    Raises
    ------
    WeightsError
        If the file is not a usable ONNX model of images.
    DataError
        As `OnnxFileBackbone`.
    """
    _read(path)
    found = read_apart(_tensors, path, kind=_NETWORK)
    return [
        LayerInfo(str(name), tuple(shape[shape >= 0].tolist()), str(what))
        for name, shape, what in zip(found["names"], found["shapes"], found["whats"], strict=True)
    ]


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return names, shapes (padded with -1) and operations of tensors, in another process."""
    model = _read(path)
    session = _open(model, path)
    outputs = [output.name for output in session.get_outputs()]
    name, fixed, one_at_a_time = _image_input(session, path)
    ops = _image_tensors(model, session)
    session = _open(model + declare_outputs(n for n in ops if n not in outputs), path)
    kinds = ("tensor(float)", "tensor(float16)")
    floats = {item.name for item in session.get_outputs() if item.type in kinds}
    # Two images where the graph takes them: what has two rows then has a row for each image.
    n_images = 1 if one_at_a_time else 2
    side = fixed or Preprocessing().size
    fetches = [tensor for tensor in ops if tensor in floats]
    images = np.zeros((n_images, 3, side, side), np.float32)
    values = session.run(fetches, {name: images}) if fetches else []
    shapes = {
        tensor: value.shape[1:]
        for tensor, value in zip(fetches, values, strict=True)
        if value.ndim >= 2 and len(value) == n_images
    }
    padded = np.full((len(shapes), max(map(len, shapes.values()), default=0)), -1)
    for row, shape in zip(padded, shapes.values(), strict=True):
        row[: len(shape)] = shape
    whats = [ops[tensor] + (", output" if tensor in outputs else "") for tensor in shapes]
    return {"names": np.array([*shapes], str), "shapes": padded, "whats": np.array(whats, str)}


def _open(model: bytes, path: Path) -> Any:
    onnxruntime = import_onnxruntime()
    try:
        return onnxruntime.InferenceSession(
            model, session_options(), providers=["CPUExecutionProvider"]
        )
    # ONNX Runtime's errors share no base class but this one.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "std::bad_alloc" in str(error):  # It says so in words alone.
            message = f"loading {path}"
            raise MemoryError(message) from error
        message = (
            f"{path}: expected an ONNX model with its weights inside; ONNX Runtime cannot load it "
            f"({reason}). Export it again, as one file of opset 17 or so."
        )
        raise WeightsError(message) from error


def _read(path: Path) -> bytes:
    if not is_file(path):
        message = (
            f"{path}: expected an ONNX file; got {'a folder' if is_there(path) else 'no file'}. "
            "Give the path of the .onnx file itself."
        )
        raise WeightsError(message)
    model = path.read_bytes()
    try:
        outside = has_outside_data(model)
    except WeightsError as error:
        message = f"{path}: {error}"
        raise WeightsError(message) from error
    if outside:
        message = (
            f"{path}: expected an ONNX model with its weights inside; it keeps some in other "
            "files, which are not opened. Export it again as one file (for "
            "torch.onnx.export, external_data=False)."
        )
        raise WeightsError(message)
    return model


def _image_tensors(model: bytes, session: Any) -> dict[str, str]:
    """Return the tensors that depend on the only input, each with its operation."""
    found: dict[str, str] = {}
    for item in session.get_inputs():
        found |= tensors_of_image(read_nodes(model), item.name)
    return found


def _pooled_maps(graph: bytes) -> dict[str, str]:
    """Return the maps that the package's own graphs pool, by layer."""
    return {
        output.removesuffix("/map_mean"): node.inputs[0]
        for node in read_nodes(graph)
        for output in node.outputs
        if output.endswith("/map_mean")
    }


def _no_tensor(path: Path, name: str, tensors: Iterable[str], outputs: Sequence[str]) -> str:
    return (
        f"{path}: expected layers to be tensors of the graph; got {name}, which is none."
        f"{meant(name, tensors)} The graph's outputs are {', '.join(outputs)}; `imgtofmri "
        f"backbones show {path}` lists all tensors."
    )


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

"""The networks this package knows: their convolutions, how weights fold into them, what they offer.

The graphs in ``graphs/`` are made from these tables by ``tools/make_graphs.py``.

References
----------
He, Zhang, Ren & Sun (2016), Deep residual learning for image recognition, doi:10.1109/CVPR.2016.90.
Tan & Le (2019), EfficientNet, arXiv:1905.11946. The Lite variants (2020) leave out
squeeze-and-excitation, use ReLU6 in place of swish, and keep the widths of the stem and the head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones.base import Preprocessing
from imgtofmri.exceptions import WeightsError


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution's name, the batch normalisation behind it, its weight's shape."""

    name: str
    norm: str
    shape: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture whose graph is in the package.

    Attributes
    ----------
    id : str
        The network's name, and its graph's.
    description : str
        One line.
    convolutions : tuple of Convolution
        In order; the first takes the pixels.
    norm_epsilon : float
        What batch normalisation adds to the variance.
    classifier : dict of str to tuple of int
        Tensors that a checkpoint may hold and features do not need.
    layers : dict of str to int
        Every layer on offer and its number of features.
    default_layer : str
        The layer of which features are made when none is named.
    preprocessing : Preprocessing
        What the network was trained with.
    """

    id: str
    description: str
    convolutions: tuple[Convolution, ...]
    norm_epsilon: float
    classifier: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, int]
    default_layer: str = "avgpool"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


RESNET18_WIDTHS = (64, 128, 256, 512)

EFFICIENTNET_STAGES = (
    # repeats, kernel, stride of the first block, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EFFICIENTNET_STEM = 32
EFFICIENTNET_HEAD = 1280


def _resnet18() -> Architecture:
    convolutions = [Convolution("conv1", "bn1", (64, 3, 7, 7))]
    layers: dict[str, int] = {}
    n_in = 64
    for stage, n_out in enumerate(RESNET18_WIDTHS, start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            convolutions += [
                Convolution(f"{name}.conv1", f"{name}.bn1", (n_out, n_in, 3, 3)),
                Convolution(f"{name}.conv2", f"{name}.bn2", (n_out, n_out, 3, 3)),
            ]
            if n_in != n_out:
                shape = (n_out, n_in, 1, 1)
                convolutions.append(
                    Convolution(f"{name}.downsample.0", f"{name}.downsample.1", shape)
                )
            n_in = n_out
        pooled = "avgpool" if n_out == RESNET18_WIDTHS[-1] else f"layer{stage}"
        layers |= {pooled: n_out, f"{pooled}/sd": n_out}
    return Architecture(
        id="resnet18",
        description="ResNet-18 trained on ImageNet, the published model's network (44.7 MB)",
        convolutions=tuple(convolutions),
        norm_epsilon=1e-5,
        classifier={"fc.weight": (1000, 512), "fc.bias": (1000,)},
        layers=layers,
    )


def _efficientnet_lite0() -> Architecture:
    convolutions = [Convolution("_conv_stem", "_bn0", (EFFICIENTNET_STEM, 3, 3, 3))]
    layers: dict[str, int] = {}
    n_in, index = EFFICIENTNET_STEM, 0
    for repeats, kernel, _, expansion, n_out in EFFICIENTNET_STAGES:
        for _ in range(repeats):
            name, n_mid = f"_blocks.{index}", n_in * expansion
            if expansion != 1:
                shape = (n_mid, n_in, 1, 1)
                convolutions.append(Convolution(f"{name}._expand_conv", f"{name}._bn0", shape))
            convolutions += [
                Convolution(f"{name}._depthwise_conv", f"{name}._bn1", (n_mid, 1, kernel, kernel)),
                Convolution(f"{name}._project_conv", f"{name}._bn2", (n_out, n_mid, 1, 1)),
            ]
            layers |= {f"block{index}": n_out, f"block{index}/sd": n_out}
            n_in, index = n_out, index + 1
    convolutions.append(Convolution("_conv_head", "_bn1", (EFFICIENTNET_HEAD, n_in, 1, 1)))
    layers |= {"avgpool": EFFICIENTNET_HEAD, "avgpool/sd": EFFICIENTNET_HEAD}
    return Architecture(
        id="efficientnet-lite0",
        description="EfficientNet-Lite0 from the package index, whose features a distilled head "
        "turns into estimates of ResNet-18's (18.8 MB)",
        convolutions=tuple(convolutions),
        norm_epsilon=1e-3,
        classifier={"_fc.weight": (1000, EFFICIENTNET_HEAD), "_fc.bias": (1000,)},
        layers=layers,
        preprocessing=Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
    )


ARCHITECTURES: Mapping[str, Architecture] = {
    made.id: made for made in (_resnet18(), _efficientnet_lite0())
}
"""The architectures by their names."""

_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def fold_weights(
    architecture: Architecture, tensors: Mapping[str, NDArray[Any]], source: str
) -> dict[str, NDArray[np.float32]]:
    """Check a state dict against the architecture and fold batch normalisation into it.

    Parameters
    ----------
    architecture : Architecture
        The architecture.
    tensors : mapping of str to array
        The state dict under its publisher's names, with batch normalisation, or already folded
        (then each convolution has a bias and there is no normalisation).
    source : str
        Where the tensors came from, for messages.

    Returns
    -------
    dict of str to float32 array
        ``NAME.weight`` and ``NAME.bias`` of every convolution; the classifier's as they are, where
        the file has them.

    Raises
    ------
    WeightsError
        If tensors are missing, unknown, of another shape, not numbers or not finite, or variances
        are below 0.

    Notes
    -----
    With ``g = gamma / sqrt(var + epsilon)``, the weight becomes ``weight * g`` and the bias
    ``beta - mean * g``, computed in double precision.
    """
    folded_already = f"{architecture.convolutions[0].name}.bias" in tensors
    wanted: dict[str, tuple[int, ...]] = {}
    for conv in architecture.convolutions:
        wanted[f"{conv.name}.weight"] = conv.shape
        parts = ("bias",) if folded_already else _NORM_PARTS
        owner = conv.name if folded_already else conv.norm
        wanted |= {f"{owner}.{part}": conv.shape[:1] for part in parts}
    _check_state(architecture, wanted, tensors, source)
    folded = {}
    for conv in architecture.convolutions:
        weight = tensors[f"{conv.name}.weight"].astype(np.float64)
        if folded_already:
            bias = tensors[f"{conv.name}.bias"].astype(np.float64)
        else:
            scale, shift, mean, variance = (
                tensors[f"{conv.norm}.{part}"].astype(np.float64) for part in _NORM_PARTS
            )
            if variance.min() < 0:
                reason = f"{conv.norm}.running_var holds {variance.min():.3g}, and is no variance"
                raise _wrong_state(architecture, reason, source)
            gain = scale / np.sqrt(variance + architecture.norm_epsilon)
            weight *= gain[:, None, None, None]
            bias = shift - mean * gain
        for part, values in (("weight", weight), ("bias", bias)):
            if np.abs(values).max() > np.finfo(np.float32).max:
                reason = f"{conv.name}.{part} comes to {np.abs(values).max():.3g}, beyond float32"
                raise _wrong_state(architecture, reason, source)
            folded[f"{conv.name}.{part}"] = values.astype(np.float32)
    for name in architecture.classifier:
        if name in tensors:
            folded[name] = tensors[name].astype(np.float32)
    return folded


def _check_state(
    architecture: Architecture,
    wanted: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, NDArray[Any]],
    source: str,
) -> None:
    known = {**wanted, **architecture.classifier}
    missing = [name for name in wanted if name not in tensors]
    unknown = [
        name for name in tensors if name not in known and not name.endswith(".num_batches_tracked")
    ]
    problem = ""
    if missing:
        problem = f"{len(missing)} of {len(wanted)} tensors are missing ({_some(missing)})"
    elif unknown:
        problem = f"it also holds {len(unknown)} unknown tensors ({_some(unknown)})"
    else:
        for name in known:
            if name in tensors and (fault := _fault(tensors[name], known[name])):
                problem = f"{name} {fault}"
                break
    if problem:
        raise _wrong_state(architecture, problem, source)


def _wrong_state(architecture: Architecture, problem: str, source: str) -> WeightsError:
    message = (
        f"{source}: expected the weights of {architecture.id} under their publisher's names; "
        f"{problem}. Give the published file, or name the network it belongs to."
    )
    return WeightsError(message)


def _fault(tensor: NDArray[Any], shape: tuple[int, ...]) -> str:
    if tensor.shape != shape:
        return f"has shape {tensor.shape} where {shape} is due"
    return fault_of_values(tensor)


def fault_of_values(tensor: NDArray[Any]) -> str:
    """Return why a tensor's values cannot be weights, empty where they can."""
    if tensor.dtype.kind != "f":
        return f"holds {tensor.dtype} where floating-point numbers are due"
    if not np.isfinite(tensor).all():
        return "holds values that are not finite"
    return ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def fold_preprocessing(
    architecture: Architecture, folded: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return what the graph takes: the folded weights, with the preprocessing folded in too.

    The first convolution takes over the division by the standard deviation. The mean is subtracted
    in the graph, because the zeros that pad the image stand for the mean.
    """
    recipe = architecture.preprocessing
    first = f"{architecture.convolutions[0].name}.weight"
    scale = (255.0 * np.asarray(recipe.std))[:, None, None]
    mean = (255.0 * np.asarray(recipe.mean))[:, None, None]
    inputs = {name: value for name, value in folded.items() if name not in architecture.classifier}
    inputs[first] = (folded[first] / scale).astype(np.float32)
    inputs["pixels.mean"] = mean.astype(np.float32)
    return inputs


def disagreements(
    facts: Mapping[str, tuple[float, float, float]],
    folded: Mapping[str, NDArray[np.float32]],
    tolerance: float,
) -> list[str]:
    """Return the tensors whose sums are not those of the published weights.

    Parameters
    ----------
    facts : mapping of str to 3 floats
        Sum, sum of magnitudes and sum of squares of each folded tensor.
    folded : mapping of str to array
        What `fold_weights` returned. Tensors that it lacks (the classifier) are not compared.
    tolerance : float
        Relative tolerance. A plain sum may nearly cancel, so its tolerance is never less than a
        hundredth of the magnitudes'.

    Returns
    -------
    list of str
        Names, in the order of ``facts``.
    """
    wrong = []
    for name, (total, magnitude, square) in facts.items():
        if name not in folded:
            continue
        got_total, got_magnitude, got_square = sums_of(folded[name])
        slack = max(abs(total), 0.01 * magnitude)
        if not (
            abs(got_total - total) <= tolerance * slack
            and math.isclose(got_magnitude, magnitude, rel_tol=tolerance)
            and math.isclose(got_square, square, rel_tol=tolerance)
        ):
            wrong.append(name)
    return wrong


def sums_of(tensor: NDArray[Any]) -> tuple[float, float, float]:
    """Return the sum, the sum of magnitudes and the sum of squares, in double precision."""
    values = tensor.astype(np.float64).ravel()
    return float(values.sum()), float(np.abs(values).sum()), float(values @ values)

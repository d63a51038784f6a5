"""Write the networks' ONNX graphs, without weights, into the package.

The graphs are made from the tables of ``imgtofmri.backbones.architectures``; the weights are added
when a backbone is loaded, with batch normalisation folded into the convolutions. Run it after
changing an architecture:

    python tools/make_graphs.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from imgtofmri.backbones.architectures import (
    EFFICIENTNET_HEAD,
    EFFICIENTNET_STAGES,
    EFFICIENTNET_STEM,
    RESNET18_WIDTHS,
)

SIZE_PX = 224
OPSET = 17
IR_VERSION = 8
OUT = Path(__file__).parent.parent / "src" / "imgtofmri" / "backbones" / "graphs"


class Graph:
    """A graph under construction: nodes, the weights they want, and pooled outputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Add a node and return its output's name."""
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def weight(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare a weight that is given at load; its content is said to lie outside the file."""
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=f"{self.name}.weights")
        self.weights.append(tensor)
        return name

    def pixels(self) -> str:
        """Take uint8 images, channels last, and return centred channels-first ones.

        The division by the standard deviation is folded into the first convolution; the mean is
        not, because the zeros that pad the image stand for the mean.
        """
        first = self.node("Transpose", ["pixels"], "pixels/chw", perm=[0, 3, 1, 2])
        as_float = self.node("Cast", [first], "pixels/float", to=TensorProto.FLOAT)
        return self.node("Sub", [as_float, self.weight("pixels.mean", (3, 1, 1))], "pixels/centred")

    def conv(
        self,
        x: str,
        name: str,
        channels: tuple[int, int],
        kernel: int,
        *,
        stride: int = 1,
        pads: tuple[int, int] = (0, 0),
        groups: int = 1,
    ) -> str:
        """Add a convolution with bias; ``pads`` are before and after, alike in both directions."""
        n_in, n_out = channels
        weight = self.weight(f"{name}.weight", (n_out, n_in // groups, kernel, kernel))
        return self.node(
            "Conv",
            [x, weight, self.weight(f"{name}.bias", (n_out,))],
            f"{name}/out",
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pads[0], pads[0], pads[1], pads[1]],
            group=groups,
        )

    def pooled(self, x: str, layer: str, n_features: int) -> None:
        """Offer a layer's mean and standard deviation over space as outputs."""
        map_mean = self.node("ReduceMean", [x], f"{layer}/map_mean", axes=[2, 3], keepdims=1)
        self.node("Flatten", [map_mean], layer, axis=1)
        centred = self.node("Sub", [x, map_mean], f"{layer}/centred")
        squared = self.node("Mul", [centred, centred], f"{layer}/squared")
        variance = self.node("ReduceMean", [squared], f"{layer}/variance", axes=[2, 3], keepdims=0)
        self.node("Sqrt", [variance], f"{layer}/sd")
        for output in (layer, f"{layer}/sd"):
            self.outputs.append(
                helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", n_features])
            )

    def model(self) -> onnx.ModelProto:
        """Return the finished model, checked."""
        pixels = helper.make_tensor_value_info(
            "pixels", TensorProto.UINT8, ["n", SIZE_PX, SIZE_PX, 3]
        )
        graph = helper.make_graph(
            self.nodes, self.name, [pixels], self.outputs, initializer=self.weights
        )
        model = helper.make_model(
            graph,
            producer_name="imgtofmri",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        return model


def resnet18() -> onnx.ModelProto:
    """Build ResNet-18: a stem and four stages of two basic blocks."""
    graph = Graph("resnet18")
    n_in = RESNET18_WIDTHS[0]
    x = graph.conv(graph.pixels(), "conv1", (3, n_in), 7, stride=2, pads=(3, 3))
    x = graph.node("Relu", [x], "conv1/relu")
    x = graph.node(
        "MaxPool", [x], "maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
    )
    for stage, n_out in enumerate(RESNET18_WIDTHS, start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = x
            if stride != 1 or n_in != n_out:
                shortcut = graph.conv(x, f"{name}.downsample.0", (n_in, n_out), 1, stride=stride)
            y = graph.conv(x, f"{name}.conv1", (n_in, n_out), 3, stride=stride, pads=(1, 1))
            y = graph.node("Relu", [y], f"{name}.conv1/relu")
            y = graph.conv(y, f"{name}.conv2", (n_out, n_out), 3, pads=(1, 1))
            y = graph.node("Add", [y, shortcut], f"{name}/sum")
            x = graph.node("Relu", [y], f"{name}/relu")
            n_in = n_out
        graph.pooled(x, "avgpool" if stage == len(RESNET18_WIDTHS) else f"layer{stage}", n_out)
    return graph.model()


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after with which the output is ``ceil(size / stride)``."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def efficientnet_lite0() -> onnx.ModelProto:
    """Build EfficientNet-Lite0: a stem, 16 inverted bottlenecks and a head of 1,280 channels."""
    graph = Graph("efficientnet-lite0")
    graph.weights += [
        helper.make_tensor("zero", TensorProto.FLOAT, (), [0.0]),
        helper.make_tensor("six", TensorProto.FLOAT, (), [6.0]),
    ]

    def relu6(x: str) -> str:
        return graph.node("Clip", [x, "zero", "six"], x.removesuffix("/out") + "/relu6")

    size, n_in, index = SIZE_PX // 2, EFFICIENTNET_STEM, 0
    stem = graph.conv(
        graph.pixels(), "_conv_stem", (3, n_in), 3, stride=2, pads=same_pads(SIZE_PX, 3, 2)
    )
    x = relu6(stem)
    for repeats, kernel, first_stride, expansion, n_out in EFFICIENTNET_STAGES:
        for repeat in range(repeats):
            name = f"_blocks.{index}"
            stride = first_stride if repeat == 0 else 1
            n_mid = n_in * expansion
            y = x
            if expansion != 1:
                y = relu6(graph.conv(y, f"{name}._expand_conv", (n_in, n_mid), 1))
            y = graph.conv(
                y,
                f"{name}._depthwise_conv",
                (n_mid, n_mid),
                kernel,
                stride=stride,
                pads=same_pads(size, kernel, stride),
                groups=n_mid,
            )
            y = graph.conv(relu6(y), f"{name}._project_conv", (n_mid, n_out), 1)
            x = graph.node("Add", [y, x], f"{name}/sum") if repeat else y
            size, n_in = -(-size // stride), n_out
            graph.pooled(x, f"block{index}", n_out)
            index += 1
    head = graph.conv(x, "_conv_head", (n_in, EFFICIENTNET_HEAD), 1)
    graph.pooled(relu6(head), "avgpool", EFFICIENTNET_HEAD)
    return graph.model()


def main() -> None:
    """Write both graphs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for model in (resnet18(), efficientnet_lite0()):
        path = folder / f"{model.graph.name}.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""``imgtofmri backbones``: the networks that are there, and the layers of one."""

from __future__ import annotations

from typing import Annotated

import typer

backbones = typer.Typer(
    name="backbones",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Networks that turn images into features: which there are, and their layers.",
)


def list_backbones() -> None:
    """List the networks that need no file, with their layers.

    **Example**

    imgtofmri backbones list
    """
    from imgtofmri.backbones.architectures import NETWORKS

    for network in NETWORKS.values():
        typer.echo(f"{network.id}: {network.description}")
        names = [name for name in network.layers if not name.endswith("/sd")]
        typer.echo(f"  layers: {', '.join(names)}")
    typer.echo("any ONNX file: `imgtofmri backbones show model.onnx` lists its layers")
    typer.echo("timm:NAME, torchvision:NAME: where those packages are installed")


def show_backbone(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="A network's name, an ONNX file, or timm:NAME or torchvision:NAME.",
        ),
    ],
) -> None:
    """Show the layers of a network: names, shapes and the operations that make them.

    The first axis, n, is that of images. Of four axes, the last two are averaged over, unless a
    layer is written LAYER/max, LAYER/sd or LAYER/flatten; of three, or of four with the channels
    last, write LAYER/tokens.

    **Examples**

    imgtofmri backbones show resnet18

    imgtofmri backbones show model.onnx

    imgtofmri backbones show timm:vit_small_patch16_224
    """
    typer.echo("\n".join(layer_lines(name)))


def layer_lines(name: str) -> list[str]:
    """Return a network's layers as lines of a table.

    Parameters
    ----------
    name : str
        A network's name, the path of an ONNX file, or ``"timm:NAME"`` or ``"torchvision:NAME"``.

    Returns
    -------
    list of str

    Raises
    ------
    OptionError
        If there is no such network.
    MissingDependencyError
        If it needs a package that is not installed.
    WeightsError
        If the file is not a usable ONNX model of images.
    """
    from pathlib import Path

    from imgtofmri.backbones.runtime import list_tensors
    from imgtofmri.backbones.torch_named import COLLECTIONS, list_torch_layers
    from imgtofmri.backbones.weights import find_network

    rows = [("layer", "shape", "made by")]
    if name.lower().endswith(".onnx"):
        for tensor in list_tensors(Path(name)):
            shape = " x ".join(["n", *map(str, tensor.shape)])
            rows.append((tensor.name, shape, tensor.op + (", output" if tensor.is_output else "")))
    elif name.startswith(COLLECTIONS):
        for layer, (sizes, kind) in list_torch_layers(name).items():
            rows.append((layer, " x ".join(["n", *map(str, sizes)]), kind))
    else:
        for layer, width in find_network(name).layers.items():
            made = "deviation over space" if layer.endswith("/sd") else "mean over space"
            rows.append((layer, f"n x {width}", made))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]

"""``imgtofmri backbones``: the networks that are there, and the layers of one."""

from __future__ import annotations

from typing import Annotated

import typer

from imgtofmri.cli.command import Group
from imgtofmri.cli.say import say
from imgtofmri.text import table_lines

backbones = typer.Typer(
    name="backbones",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Networks that turn images into features: which there are, and their layers.",
)


def list_backbones() -> None:
    """List the networks that need no file, with their layers.

    **Example**

    imgtofmri backbones list
    """
    from imgtofmri.backbones.architectures import ARCHITECTURES

    for network in ARCHITECTURES.values():
        say(f"{network.id}: {network.description}")
        names = [name for name in network.layers if not name.endswith("/sd")]
        say(f"  layers: {', '.join(names)}")
    say("any ONNX file: `imgtofmri backbones show model.onnx` lists its layers")
    say("timm:NAME, torchvision:NAME: where those packages are installed")


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
    layer is written LAYER/max, LAYER/sd, LAYER@HxW or LAYER/flatten; of three, or of four with the
    channels last, write LAYER/tokens.

    **Examples**

    imgtofmri backbones show resnet18

    imgtofmri backbones show model.onnx

    imgtofmri backbones show efficientnet-lite0
    """
    from imgtofmri.backbones import list_layers

    rows = [("layer", "shape", "made by")]
    for layer in list_layers(name):
        rows.append((layer.name, " x ".join(["n", *map(str, layer.shape)]), layer.made_by))
    say("\n".join(table_lines(rows)))

"""``imgtofmri fetch``: download what predictions need, to use it later without a network."""

from __future__ import annotations

from typing import Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import ending, in_options
from imgtofmri.cli.say import say
from imgtofmri.exceptions import ImgToFmriError


def fetch(
    items: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ITEM...]",
            help="encoder, or a network that `imgtofmri backbones list` names; by default encoder "
            "and resnet18.",
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> int:
    """Download the encoder and the network's weights into the cache, verified.

    Copy the cache to a machine without a network and predictions work there. IMGTOFMRI_CACHE names
    another place for it.

    **Examples**

    imgtofmri fetch

    imgtofmri fetch encoder efficientnet-lite0
    """
    from imgtofmri.assets import cache_dir
    from imgtofmri.backbones import fetch_weights
    from imgtofmri.backbones.architectures import ARCHITECTURES
    from imgtofmri.encoder.reference import bundle_path, reference_bundle
    from imgtofmri.exceptions import OptionError, choice_message

    valid = ["encoder", *ARCHITECTURES]
    wanted = list(dict.fromkeys(items or ["encoder", "resnet18"]))
    for item in wanted:
        if item not in valid:
            raise OptionError(choice_message("", "ITEM", item, valid))
    n_failed = 0
    for item in wanted:
        try:
            if item == "encoder":
                reference_bundle(progress=not quiet)
                path = bundle_path()
            else:
                path = fetch_weights(item, progress=not quiet)
        except ImgToFmriError as error:
            n_failed += 1
            say(f"imgtofmri: {in_options(error)}", err=True)
        else:
            say(f"{item}: {path}")
    say(f"cache: {cache_dir()}")
    return ending(n_failed, len(wanted) - n_failed)

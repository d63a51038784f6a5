"""Networks as they were before training: what an architecture does without anything learned."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones.architectures import Network
from imgtofmri.backbones.weights import LoadedWeights
from imgtofmri.exceptions import OptionError

UNTRAINED = "untrained"


def untrained_seed(weights: Path | str | None) -> int | None:
    """Return the seed of ``"untrained"`` (0) or ``"untrained:SEED"``; None for anything else.

    Raises
    ------
    OptionError
        If the seed is no whole number.

    Examples
    --------
    >>> untrained_seed("untrained:3"), untrained_seed("resnet18.safetensors")
    (3, None)
    """
    if not isinstance(weights, str) or weights.partition(":")[0] != UNTRAINED:
        return None
    if found := re.fullmatch(r"untrained(?::(\d+))?", weights):
        return int(found[1] or 0)
    message = (
        f"load_backbone: weights must be 'untrained' or 'untrained:SEED', with a whole number; got "
        f"{weights!r}. Write untrained:1, for example."
    )
    raise OptionError(message)


def untrained_weights(network: Network, seed: int = 0) -> LoadedWeights:
    """Draw a network's weights as they are drawn before training.

    Parameters
    ----------
    network : Network
        The architecture.
    seed : int
        Of the weights: normal, with He's variance of 2 / fan-out, biases 0, batch normalisation
        neutral.

    Returns
    -------
    LoadedWeights
        Named ``"untrained (seed SEED)"``, with the digest of the values.

    References
    ----------
    He et al. (2015). Delving deep into rectifiers. doi:10.1109/ICCV.2015.123
    """
    rng = np.random.default_rng(seed)
    neutral = 1.0 / math.sqrt(1.0 + network.norm_epsilon)
    tensors: dict[str, NDArray[np.float32]] = {}
    digest = hashlib.sha256()
    for convolution in network.convolutions:
        n_out, _, height, width = convolution.shape
        spread = neutral * math.sqrt(2.0 / (n_out * height * width))
        weight = (rng.standard_normal(convolution.shape) * spread).astype(np.float32)
        digest.update(weight.tobytes())
        tensors[f"{convolution.name}.weight"] = weight
        tensors[f"{convolution.name}.bias"] = np.zeros(n_out, np.float32)
    return LoadedWeights(
        tensors,
        Path(f"{UNTRAINED} (seed {seed})"),
        digest.hexdigest(),
        verified=False,
        note=f"the weights are random (seed {seed}): nothing was learned",
    )

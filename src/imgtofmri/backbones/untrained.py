"""Networks as they were before training: what an architecture does without anything learned."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones.architectures import Architecture
from imgtofmri.backbones.names import Untrained
from imgtofmri.backbones.weights import LoadedWeights


def untrained_weights(architecture: Architecture, untrained: Untrained) -> LoadedWeights:
    """Draw a network's weights as they are drawn before training.

    Parameters
    ----------
    architecture : Architecture
        The architecture.
    untrained : Untrained
        Which ones.

    Returns
    -------
    LoadedWeights
        Normal, with He's variance of 2 / fan-out, which of a depthwise convolution is its kernel's
        size alone; biases 0, batch normalisation neutral. The digest is that of the values.

    References
    ----------
    He et al. (2015). Delving deep into rectifiers. doi:10.1109/ICCV.2015.123
    """
    rng = np.random.default_rng(untrained.seed)
    neutral = 1.0 / math.sqrt(1.0 + architecture.norm_epsilon)
    tensors: dict[str, NDArray[np.float32]] = {}
    digest = hashlib.sha256()
    for convolution in architecture.convolutions:
        n_out, n_in, height, width = convolution.shape
        # Of a depthwise convolution each channel has one channel out.
        n_fed = 1 if n_in == 1 else n_out
        spread = neutral * math.sqrt(2.0 / (n_fed * height * width))
        weight = (rng.standard_normal(convolution.shape) * spread).astype(np.float32)
        digest.update(weight.tobytes())
        tensors[f"{convolution.name}.weight"] = weight
        tensors[f"{convolution.name}.bias"] = np.zeros(n_out, np.float32)
    return LoadedWeights(
        tensors,
        Path(untrained.name),
        digest.hexdigest(),
        verified=False,
        note=untrained.note,
        seed=untrained.seed,
    )

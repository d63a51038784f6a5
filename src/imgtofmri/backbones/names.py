"""What a string names: a network, and the weights for one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from imgtofmri.backbones.architectures import ARCHITECTURES, Architecture
from imgtofmri.exceptions import OptionError, choice_message

Kind = Literal["known", "onnx", "head", "torch", "other"]

COLLECTIONS = ("timm", "torchvision")
"""Packages whose networks are named ``PACKAGE:NAME``."""


@dataclass(frozen=True, slots=True)
class NetworkName:
    """The name of a network, and what kind of network it names.

    Attributes
    ----------
    text : str
        As it was given.
    kind : {"known", "onnx", "head", "torch", "other"}
        One of `ARCHITECTURES`; the path of an ONNX file; the path of a head, which brings its
        network with it; ``timm:NAME`` or ``torchvision:NAME``; or nothing that can be loaded by
        its name.
    """

    text: str
    kind: Kind

    @classmethod
    def parse(cls, name: str | Path) -> NetworkName:
        """Tell what a name or a path names; no file is looked at.

        Examples
        --------
        >>> NetworkName.parse("nets/CLIP.ONNX").kind, NetworkName.parse("timm:resnet50").kind
        ('onnx', 'torch')
        """
        text = str(name)
        if text in ARCHITECTURES:
            return cls(text, "known")
        if text.lower().endswith(".safetensors"):
            return cls(text, "head")
        # A path can name nothing but a file, however it ends.
        if isinstance(name, Path) or text.lower().endswith(".onnx"):
            return cls(text, "onnx")
        return cls(text, "torch" if text.partition(":")[0] in COLLECTIONS else "other")

    @property
    def is_file(self) -> bool:
        """Whether it is the path of a file."""
        return self.kind in ("onnx", "head")

    @property
    def takes_preprocessing(self) -> bool:
        """Whether the network can be given another preprocessing than its own."""
        return self.kind in ("onnx", "torch")

    @property
    def id(self) -> str:
        """What features are named after: the name, or that of a file without folder and suffix."""
        return Path(self.text).stem if self.is_file else self.text

    def architecture(self) -> Architecture:
        """Return the package's architecture of this name.

        Raises
        ------
        OptionError
            If there is none.
        """
        if self.kind != "known":
            message = choice_message("", "backbone", self.text, ARCHITECTURES)
            message += " Or give the path of an ONNX file, or timm:NAME or torchvision:NAME."
            raise OptionError(message, "backbone")
        return ARCHITECTURES[self.text]


@dataclass(frozen=True, slots=True)
class Untrained:
    """Random weights, as they are drawn before training.

    Attributes
    ----------
    seed : int
        Which random weights.
    """

    seed: int = 0

    def __str__(self) -> str:
        return f"untrained:{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Untrained | None:
        """Read ``"untrained"`` (seed 0) or ``"untrained:SEED"``; None for anything else.

        Raises
        ------
        OptionError
            If the seed is no whole number.

        Examples
        --------
        >>> Untrained.parse("untrained:3"), Untrained.parse("resnet18.safetensors")
        (Untrained(seed=3), None)
        """
        if text.partition(":")[0] != "untrained":
            return None
        if found := re.fullmatch(r"untrained(?::([0-9]{1,18}))?", text):
            return cls(int(found[1] or 0))
        message = (
            "weights must be 'untrained' or 'untrained:SEED', with a whole number; got "
            f"{text!r}. Write untrained:1, for example."
        )
        raise OptionError(message, "weights")

    @property
    def name(self) -> str:
        """What records call the weights."""
        return f"untrained (seed {self.seed})"

    @property
    def note(self) -> str:
        """What records say of them."""
        return f"the weights are random (seed {self.seed}): nothing was learned"


Weights = str | Path | Untrained
"""A file of weights, or random ones, also as ``"untrained"`` or ``"untrained:SEED"``; or
``"published"``."""

WEIGHTS_VARIABLE = "IMGTOFMRI_WEIGHTS"
"""The environment variable that names the weights to use where none are given."""

PUBLISHED: Final = "published"
"""The published weights, whatever `WEIGHTS_VARIABLE` names."""


def parse_weights(weights: object) -> Path | Untrained | Literal["published"] | None:
    """Tell random weights and the published ones from a file; None is none of these.

    Raises
    ------
    OptionError
        If it is none of these, or a seed is no whole number.

    Examples
    --------
    >>> parse_weights("published"), parse_weights("untrained:2")
    ('published', Untrained(seed=2))
    """
    if weights == PUBLISHED:
        return PUBLISHED
    if isinstance(weights, str):
        return Untrained.parse(weights) or Path(weights)
    if weights is None or isinstance(weights, Path | Untrained):
        return weights
    message = (
        "weights must be a file's path, 'untrained:SEED' or 'published'; got a "
        f"{type(weights).__name__}. Save tensors as .safetensors and name the file."
    )
    raise OptionError(message, "weights")


def weights_of_environment() -> Path | Untrained | None:
    """Return the weights that `WEIGHTS_VARIABLE` names; None for the published ones.

    Raises
    ------
    OptionError
        If a seed is no whole number.
    """
    chosen = parse_weights(os.environ.get(WEIGHTS_VARIABLE, "").strip() or None)
    return None if chosen == PUBLISHED else chosen

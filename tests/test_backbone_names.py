"""What a string names: a network by its kind, and weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtofmri.backbones import NetworkName, Untrained
from imgtofmri.backbones.architectures import ARCHITECTURES
from imgtofmri.backbones.names import parse_weights
from imgtofmri.exceptions import OptionError


@pytest.mark.parametrize(
    ("name", "kind", "id"),
    [
        ("resnet18", "known", "resnet18"),
        ("nets/mine.onnx", "onnx", "mine"),
        (Path("nets/MINE.ONNX"), "onnx", "MINE"),
        (Path("nets/model"), "onnx", "model"),
        ("heads/mine.safetensors", "head", "mine"),
        (Path("heads/mine.safetensors"), "head", "mine"),
        ("timm:resnet50", "torch", "timm:resnet50"),
        ("torchvision:vit_b_16", "torch", "torchvision:vit_b_16"),
        ("resnet19", "other", "resnet19"),
        ("keras:resnet50", "other", "keras:resnet50"),
    ],
)
def test_network_name_tells_the_kind(name: str | Path, kind: str, id: str) -> None:
    """A name is known, or a file by its suffix, or of another package by its prefix."""
    named = NetworkName.parse(name)
    assert (named.kind, named.id) == (kind, id)
    assert named.is_file == (kind in ("onnx", "head"))
    assert named.takes_preprocessing == (kind in ("onnx", "torch"))
    if kind == "known":
        assert named.architecture() is ARCHITECTURES[str(name)]
    else:
        with pytest.raises(OptionError, match=r"backbone must be one of resnet18.*; got '.*Or giv"):
            named.architecture()


def test_untrained_is_read_as_it_is_written() -> None:
    """A seed's text gives the seed back, and a file stays a file."""
    assert parse_weights("untrained") == Untrained() == Untrained(0)
    assert parse_weights(str(Untrained(12))) == Untrained(12)
    assert parse_weights(Untrained(5)) == Untrained(5)
    assert parse_weights("untrained.safetensors") == Path("untrained.safetensors")
    assert parse_weights(None) is None


@pytest.mark.parametrize("text", ["untrained:", "untrained:x", "untrained:-1", "untrained:1:2"])
def test_untrained_other_seeds_are_refused(text: str) -> None:
    """A seed is a whole number."""
    with pytest.raises(OptionError, match=f"'untrained:SEED', with a whole number; got '{text}'"):
        parse_weights(text)

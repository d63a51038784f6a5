"""The networks that an encoder's card names: which layers its ROIs need, where weights lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import (
    Backbone,
    BackboneSpec,
    NetworkName,
    Preprocessing,
    Untrained,
    Weights,
)
from imgtofmri.backbones.engines import REFERENCE, Engine
from imgtofmri.backbones.head import DistilledBackbone
from imgtofmri.backbones.joined import JoinedBackbone, JoinedPart
from imgtofmri.backbones.load import load_untried
from imgtofmri.backbones.names import (
    PUBLISHED,
    WEIGHTS_VARIABLE,
    parse_weights,
    weights_of_environment,
)
from imgtofmri.exceptions import OptionError, ShapeError, WeightsUnavailableError
from imgtofmri.files import is_file, sha256_of


@dataclass(frozen=True, slots=True)
class CardNetwork:
    """One network of an encoder, as its card describes it.

    Attributes
    ----------
    label : str
        The study's name for it; empty where there is one network only.
    backbone : str
        What to load.
    features_id : str
        What its features are, all layers included.
    layers : tuple of str
        In the order of the features.
    widths : tuple of int
        How many features each layer has; empty where the card does not say.
    n_features : int
        How many they are together.
    first_feature : int
        Where they begin among the encoder's.
    preprocessing : mapping or None
        Of an ONNX file's input.
    weights : mapping
        ``name``, ``sha256`` and ``verified`` of the file, or the ``seed`` of random ones; empty
        where the card does not say.
    emulated : bool
        Whether its head estimates another network's features.
    """

    label: str
    backbone: str
    features_id: str
    layers: tuple[str, ...]
    widths: tuple[int, ...]
    n_features: int
    first_feature: int
    preprocessing: Mapping[str, Any] | None
    weights: Mapping[str, Any]
    emulated: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it is an ONNX file rather than a network known by name."""
        return NetworkName.parse(str(self.weights.get("name", self.backbone))).kind == "onnx"

    def key(self, layer: str) -> str:
        """Return a layer's name among the layers of all networks."""
        return layer_key(self.label, layer)

    def id_of(self, layers: Sequence[str]) -> str:
        """Return what the features of some of the layers are."""
        return self.features_id.removesuffix("+".join(self.layers)) + "+".join(layers)

    def columns(self, layers: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return where the features of some layers stand among the encoder's."""
        if tuple(layers) == self.layers:
            return self.first_feature + np.arange(self.n_features)
        starts = self.first_feature + np.cumsum([0, *self.widths])
        places = [self.layers.index(layer) for layer in layers]
        return np.concatenate([np.arange(starts[i], starts[i + 1]) for i in places])


def layer_key(label: str, layer: str) -> str:
    """Return a layer's name among the layers of all networks.

    Examples
    --------
    >>> layer_key("", "layer4"), layer_key("late", "layer4")
    ('layer4', 'late/layer4')
    """
    return f"{label}/{layer}" if label else layer


def card_networks(features: Mapping[str, Any]) -> tuple[CardNetwork, ...]:
    """Return the networks of a card's ``features``, in the order of their features."""
    found: list[CardNetwork] = []
    first = 0
    for entry in features.get("networks", [features]):
        network = CardNetwork(
            label=str(entry.get("label", "")),
            backbone=str(entry["backbone"]),
            features_id=str(entry["id"]),
            layers=tuple(entry["layers"]),
            widths=tuple(entry.get("layer_widths", ())),
            n_features=int(entry["n_features"]),
            first_feature=first,
            preprocessing=entry.get("preprocessing"),
            weights=entry.get("weights") or {},
            emulated=bool(entry.get("emulated", False)),
        )
        found.append(network)
        first += network.n_features
    return tuple(found)


def needed_layers(
    features: Mapping[str, Any], rois: Iterable[str] | None = None
) -> tuple[tuple[str, ...], ...]:
    """Return which layers of each network some ROIs need.

    Parameters
    ----------
    features : mapping
        The card's ``features``; its ``rois`` say which ROI uses which layers. An ROI that is not
        listed uses all.
    rois : iterable of str, optional
        All by default.

    Returns
    -------
    tuple of tuple of str
        For each network, in the card's order; empty for a network that is not needed.
    """
    networks = card_networks(features)
    said = features.get("rois", {})
    chosen = None if rois is None else list(rois)
    if not said or chosen is None or any(roi not in said for roi in chosen):
        return tuple(network.layers for network in networks)
    wanted = {key for roi in chosen for key in said[roi]}
    return tuple(
        tuple(layer for layer in network.layers if network.key(layer) in wanted)
        if network.widths
        else network.layers
        for network in networks
    )


def load_networks(
    features: Mapping[str, Any],
    needed: Sequence[Sequence[str]],
    *,
    backbone: str | Path | Backbone | None = None,
    weights: Weights | None = None,
    folder: Path | None = None,
    encoder: str = "",
    engine: Engine = REFERENCE,
) -> Backbone:
    """Load the networks of a card, with no more layers than are needed.

    Parameters
    ----------
    features : mapping
        The card's ``features``.
    needed : sequence of sequence of str
        As `needed_layers` returns it.
    backbone : str, Path or Backbone, optional
        A network or ONNX file, or a network that is loaded already, to use instead of the card's;
        for encoders of one network.
    weights : path, str or Untrained, optional
        A weights file, for encoders that use one network known by name; random weights for every
        network; or ``"published"``. None is what the card records, else, for encoders that use one
        network known by name, what ``IMGTOFMRI_WEIGHTS`` names.
    folder : Path, optional
        Where the bundle lies. ONNX files, and weights that are not the published ones, are looked
        for there by the names that the card records, and have to have the recorded digests.
    encoder : str
        The encoder's id, for messages.
    engine : Engine
        What the networks run on, tried or not.

    Returns
    -------
    Backbone
        Of the encoder's whole width; features of layers that are not needed are 0.

    Raises
    ------
    OptionError
        If ``backbone`` or ``weights`` cannot be told which network it is for, or a network's
        weights cannot be drawn at random.
    WeightsUnavailableError
        If a network's file is nowhere to be found.
    ShapeError
        If features are not those that the models were fitted on.
    """
    networks, weights = card_networks(features), parse_weights(weights)
    known = {network.backbone for network in networks if not network.is_file}
    _check_overrides(networks, len(known), backbone, weights, encoder)
    if backbone is not None and not isinstance(backbone, str | Path):
        if not hasattr(backbone, "spec"):
            message = (
                "backbone must be a network's name, a file, or what `imgtofmri.load_backbone` or "
                f"TorchBackbone makes; got a {type(backbone).__name__}. Load it so."
            )
            raise OptionError(message, "backbone")
        _check_spec(backbone.spec, networks[0], networks[0].layers, encoder)
        _check_weights(backbone, networks[0], encoder)
        if engine != REFERENCE:
            message = (
                f"engine must be left out with a network that is loaded already; got {engine}. "
                "Load the network itself on it."
            )
            raise OptionError(message, "engine")
        return backbone
    parts = []
    for network, layers in zip(networks, needed, strict=True):
        if not layers:
            continue
        # What emulates a network gives all of its layers or none.
        wanted = network.layers if _emulates(backbone, network) else tuple(layers)
        # Among several networks, weights are for the one that is known by name.
        its = None if network.is_file and len(networks) > 1 else weights
        alone = len(known) < 2
        loaded = _load(network, wanted, backbone, its, folder, encoder, engine, alone=alone)
        parts.append(JoinedPart(loaded, network.columns(wanted)))
    n_features = int(features["n_features"])
    # What gives every feature in its place needs no copying.
    if len(networks) == 1 and parts[0].backbone.spec.n_features == n_features:
        return parts[0].backbone
    return JoinedBackbone(parts, n_features, str(features["id"]))


def _check_overrides(
    networks: Sequence[CardNetwork],
    n_known: int,
    backbone: str | Path | Backbone | None,
    weights: Path | Untrained | str | None,
    encoder: str,
) -> None:
    if isinstance(weights, Untrained) and backbone is None:
        for network in networks:
            if network.is_file or network.emulated:
                reason = (
                    "an ONNX file, which holds its own weights"
                    if network.is_file
                    else "a network with a distilled head, which was fitted on trained weights"
                )
                message = (
                    "weights can be untrained where every network's can be drawn at random; the "
                    f"encoder {encoder} uses {network.features_id}, {reason}. Leave the control "
                    "out."
                )
                raise OptionError(message, "weights")
        return
    if len(networks) == 1:
        return
    for option, value, allowed in (
        ("backbone", backbone, False),
        ("weights", weights, n_known == 1 or weights == PUBLISHED),
    ):
        if value is not None and not allowed:
            labels = ", ".join(network.label for network in networks)
            message = (
                f"{option} must be left out, as the encoder {encoder} uses several "
                f"networks ({labels}); got {str(value)!r}. Put the networks' files beside the "
                "bundle, under the names that its card records."
            )
            raise OptionError(message, option)


def _emulates(backbone: str | Path | None, network: CardNetwork) -> bool:
    """Return whether a network that was named is another one, with a head, or a head itself."""
    named = NetworkName.parse(network.backbone if backbone is None else backbone)
    return named.kind == "head" or (named.kind == "known" and named.text != network.backbone)


def _load(
    network: CardNetwork,
    layers: Sequence[str],
    backbone: str | Path | None,
    weights: Path | Untrained | str | None,
    folder: Path | None,
    encoder: str,
    engine: Engine,
    *,
    alone: bool,
) -> Backbone:
    chosen = network.backbone if backbone is None else backbone
    if backbone is None and network.is_file:
        chosen = _beside(network, folder, encoder, "backbone")
    named = NetworkName.parse(chosen)
    drawn = isinstance(weights, Untrained)
    # Other weights than the published ones give other features under the same name.
    ours = backbone is None and weights is None and named.kind in ("known", "torch")
    if ours and not network.weights.get("verified", True):
        if "seed" in network.weights:
            weights = Untrained(network.weights["seed"])
        else:
            weights = _beside(network, folder, encoder, "weights")
    if weights is None and not alone:
        weights = PUBLISHED  # The environment names one file, which cannot be for several.
    recipe = network.preprocessing if named.takes_preprocessing else None
    loaded = load_untried(
        chosen,
        weights=weights,
        # An emulation has layers of its own, of another network.
        layers=None if network.emulated or _emulates(backbone, network) else list(layers),
        preprocessing=None if recipe is None else Preprocessing.from_dict(recipe),
        engine=engine,
    )
    # What such a network gives is named by a digest of its weights, which random ones change.
    if not (named.kind == "torch" and drawn and loaded.spec.id == network.backbone):
        _check_spec(loaded.spec, network, layers, encoder)
        _check_weights(loaded, network, encoder)
    return loaded


def _check_spec(
    spec: BackboneSpec, network: CardNetwork, layers: Sequence[str], encoder: str
) -> None:
    """Refuse a network that gives other features than the models were fitted on."""
    expected = network.id_of(layers)
    if spec.features_id != expected:
        message = (
            f"the encoder {encoder} was fitted on {expected}; the backbone {spec.id} gives "
            f"{spec.features_id}. Use a backbone that gives the same features, or fit an encoder "
            "on this one."
        )
        raise ShapeError(message)
    recipe = network.preprocessing
    fitted = None if recipe is None else Preprocessing.from_dict(recipe)
    if not spec.emulated and fitted not in (None, spec.preprocessing):
        message = (
            f"the encoder {encoder} was fitted with {fitted}; the backbone {spec.id} has "
            f"{spec.preprocessing}. Load it with the encoder's."
        )
        raise ShapeError(message)


def _check_weights(backbone: Backbone, network: CardNetwork, encoder: str) -> None:
    """Refuse features of the right name from weights that are known to be others.

    Weights that are not the published ones were warned of when they were loaded.
    """
    spec, fitted = backbone.spec, str(network.weights.get("sha256"))
    own = not network.weights.get("verified", True) and "seed" not in network.weights
    if network.emulated:
        return
    if isinstance(backbone, DistilledBackbone):
        card = backbone.card
        digest = str(card.get("teacher_weights_sha256"))
        published = card.get("teacher_weights_verified", True)
        others = own or not (published or card.get("encoder") == encoder)
    else:
        digest, published = spec.weights_sha256, spec.weights_verified
        others = own and published
    if others and digest != fitted:
        its = f"weights of its own, SHA-256 {fitted[:12]}..." if own else "the published weights"
        got = "the published ones" if published else f"others, {digest[:12]}..."
        message = (
            f"the encoder {encoder} was fitted on {network.features_id} with {its}; the backbone "
            f"{spec.id} {'estimates features' if spec.emulated else 'gives those'} of {got}. Use "
            "the encoder's network with its weights, or a head that was distilled for this encoder."
        )
        raise ShapeError(message)


def _beside(network: CardNetwork, folder: Path | None, encoder: str, option: str) -> Path:
    """Return a network's file, by its digest: beside the bundle, here, or as the environment says.

    What a card records goes before what `WEIGHTS_VARIABLE` names: that is for any encoder.
    """
    name = Path(str(network.weights.get("name", network.backbone))).name
    digest = network.weights.get("sha256")
    found = [place / name for place in (folder, Path()) if place is not None]
    where = "beside the bundle"
    if option == "weights" and isinstance(here := weights_of_environment(), Path) and digest:
        found.append(here)
        where += f" and in {WEIGHTS_VARIABLE}"
    for path in found:
        if is_file(path) and (digest is None or sha256_of(path) == digest):
            return path
    there = [str(path) for path in found if is_file(path)]
    got = f"{there[0]} has another content" if there else "it is not there"
    message = (
        f"the encoder {encoder} was fitted with {name} (SHA-256 {str(digest)[:12]}...), which is "
        f"looked for {where}; {got}. Put it there, or name it with `{option}`."
    )
    raise WeightsUnavailableError(message)

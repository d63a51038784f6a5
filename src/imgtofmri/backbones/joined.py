"""Several networks, or some layers of one, as a single backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones.base import (
    Backbone,
    BackboneSpec,
    MeanOverPlaces,
    common_grid,
    mean_grid,
)
from imgtofmri.exceptions import OptionError


@dataclass(frozen=True, slots=True, eq=False)
class JoinedPart:
    """One network of several.

    Attributes
    ----------
    backbone : Backbone
        The network, with the layers that are needed.
    columns : array of shape (backbone.spec.n_features,), int
        Where its features stand among all.
    """

    backbone: Backbone
    columns: NDArray[np.intp]


class JoinedBackbone:
    """Networks that see the same pixels, their features side by side.

    Columns that no part fills are 0: they belong to layers that nobody asked for.

    Parameters
    ----------
    parts : sequence of JoinedPart
        Each network runs once for a batch.
    n_features : int
        The width of the whole.
    features_id : str
        What the whole is, as the encoder's card says it.

    Raises
    ------
    OptionError
        If the networks take pictures of different sizes.
    """

    def __init__(self, parts: Sequence[JoinedPart], n_features: int, features_id: str) -> None:
        specs = [part.backbone.spec for part in parts]
        sizes = {spec.id: spec.preprocessing.size for spec in specs}
        if len(set(sizes.values())) > 1:
            got = ", ".join(f"{name} {size}" for name, size in sizes.items())
            message = (
                "networks of one encoder must take pictures of one size; got "
                f"{got}. Give them one preprocessing size in the study, or files made for it, or "
                "fit an encoder for each."
            )
            raise OptionError(message)
        self._parts = tuple(parts)
        several = len(specs) > 1
        self._spec = BackboneSpec(
            id="+".join(spec.id for spec in specs),
            layers=tuple(
                f"{spec.id}/{layer}" if several else layer
                for spec in specs
                for layer in spec.layers
            ),
            n_features=n_features,
            preprocessing=specs[0].preprocessing,
            features_id=features_id,
            emulated=any(spec.emulated for spec in specs),
            weights_name="+".join(spec.weights_name for spec in specs),
            weights_sha256="+".join(spec.weights_sha256 for spec in specs),
            weights_verified=all(spec.weights_verified for spec in specs),
            note="; ".join(f"{spec.id}: {spec.note}" for spec in specs if spec.note),
            parallel_calls=min(spec.parallel_calls for spec in specs),
            images_per_call=max(spec.images_per_call for spec in specs),
            engine=specs[0].engine if len({spec.engine for spec in specs}) == 1 else None,
        )

    @property
    def spec(self) -> BackboneSpec:
        """What this backbone is; ``layers`` are those that are computed."""
        return self._spec

    @property
    def grid(self) -> tuple[int, int] | None:
        """The finest grid of places that all networks are means over; see `MeanOverPlaces`."""
        return common_grid(mean_grid(part.backbone) for part in self._parts)

    def on_grid(self, grid: tuple[int, int]) -> JoinedBackbone:
        """Return the networks with their features at each place; see `MeanOverPlaces`."""
        places = np.arange(grid[0] * grid[1])
        parts = [
            JoinedPart(
                part.backbone.on_grid(grid),
                (part.columns[:, None] * len(places) + places).ravel(),
            )
            for part in self._parts
            if isinstance(part.backbone, MeanOverPlaces)
        ]
        spec = self._spec
        return JoinedBackbone(parts, spec.n_features * len(places), spec.features_id)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute features; see `Backbone`."""
        features = np.zeros((len(pixels), self._spec.n_features), np.float32)
        for part in self._parts:
            features[:, part.columns] = part.backbone(pixels)
        return features

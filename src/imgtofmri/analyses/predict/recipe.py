"""`Recipe`: what a predictor is made of, so that another process can make the same."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from imgtofmri.backbones.names import NetworkName
from imgtofmri.encoder import Encoder, Predictor, Settings, load_encoder
from imgtofmri.encoder.surface import MESHES, check_mesh
from imgtofmri.exceptions import OptionError
from imgtofmri.files import is_there


@dataclass(frozen=True, slots=True)
class Recipe:
    """An encoder, restricted and moved as was asked, with settings.

    Attributes
    ----------
    encoder : Encoder, str or Path
        One that is loaded, or what `imgtofmri.load_encoder` takes.
    settings : Settings
    min_accuracy : float, optional
        Voxels whose cross-validated r is below this are left out.
    share_of_ceiling : bool
        ``min_accuracy`` is of r divided by the noise ceiling.
    space : str, optional
        Another template, or a mesh on which maps are written, too.
    transform : str or Path, optional
        The transform to that template.
    """

    encoder: Encoder | str | Path
    settings: Settings
    min_accuracy: float | None = None
    share_of_ceiling: bool = False
    space: str | None = None
    transform: str | Path | None = None

    def load(self, progress: bool = True) -> tuple[Encoder, Predictor]:
        """Load the encoder and its network.

        Raises
        ------
        OptionError
            If a setting is not valid for this encoder.
        """
        given = self.encoder
        loaded = given if isinstance(given, Encoder) else load_encoder(given, progress)
        if self.min_accuracy is not None:
            loaded = loaded.restricted(self.min_accuracy, self.share_of_ceiling)
        if self.space is not None and self.space in MESHES:
            check_mesh(self.space, loaded.bundle.space)
        elif self.space is not None:
            loaded = loaded.in_space(self.space, self.transform)
        return loaded, loaded.predictor(self.settings)

    def elsewhere(self) -> Recipe:
        """Return the recipe with whole paths, for processes in other folders.

        Raises
        ------
        OptionError
            If the network is an object, which only this process has.
        """
        chosen = self.settings
        if chosen.backbone is not None and not isinstance(chosen.backbone, str | Path):
            message = (
                "backbone must be named for other processes, which cannot be sent one that is "
                f"loaded; got {type(chosen.backbone).__name__}. Give its name or its file."
            )
            raise OptionError(message, "backbone")
        backbone = chosen.backbone
        if backbone is not None and NetworkName.parse(backbone).is_file:
            backbone = Path(backbone).absolute()
        weights = chosen.weights
        if isinstance(weights, str | Path):
            weights = _whole(weights)
        encoder = self.encoder if isinstance(self.encoder, Encoder) else _whole(self.encoder)
        transform = None if self.transform is None else _whole(self.transform)
        settings = replace(chosen, backbone=backbone, weights=weights)
        return replace(self, encoder=encoder, settings=settings, transform=transform)


def _whole(path: str | Path) -> str | Path:
    """Return a path from the root on, and what is none as it is."""
    return os.path.abspath(path) if is_there(path) else path  # noqa: PTH100

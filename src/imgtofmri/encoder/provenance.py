"""What made a prediction: all that it depends on besides the stimuli."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imgtofmri.backbones import BackboneSpec, Engine, Preprocessing
from imgtofmri.bundle import Bundle
from imgtofmri.encoder.intervals import measurement
from imgtofmri.encoder.regions import MODEL_UNIT
from imgtofmri.encoder.settings import Settings

VALIDITY = ("accuracy", "trust", "limits")
"""What of a card says how far predictions can be trusted."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The encoder, its network and the settings that made a prediction.

    Attributes
    ----------
    settings : Settings
        Resolved: nothing is left to the encoder.
    encoder : str
        The encoder's id; empty where no encoder made the prediction.
    source : str
        Where its models came from, as its card says.
    restricted : str
        Which voxels it was restricted to; empty for all.
    space : str
        The template space.
    licence : str
        On what terms the encoder may be used, as its card says.
    citation : tuple of str
        What its card asks to cite.
    validity : tuple of str
        What its card says of accuracy, of what can be trusted, and of limits.
    network : BackboneSpec or None
        The network whose features were used; None where features were given.
    measurement : str
        What one measured response is that a prediction interval covers: a single presentation, or
        a mean over presentations; empty where the encoder does not say.
    encoder_sha256 : str
        The digest of the encoder's content, `Bundle.sha256`, which tells encoders of one id apart.
    """

    settings: Settings = field(default_factory=Settings)
    encoder: str = ""
    source: str = ""
    restricted: str = ""
    space: str = "MNI152NLin6Asym"
    licence: str = ""
    citation: tuple[str, ...] = ()
    validity: tuple[str, ...] = ()
    network: BackboneSpec | None = None
    measurement: str = ""
    encoder_sha256: str = ""

    @classmethod
    def of(
        cls, bundle: Bundle, settings: Settings, network: BackboneSpec | None = None
    ) -> Provenance:
        """Return what a bundle, resolved settings and a network come to."""
        said = [str(bundle.card[key]) for key in VALIDITY if key in bundle.card]
        cited = bundle.card.get("citation") or ()
        return cls(
            settings=settings,
            encoder=str(bundle.card["id"]),
            source=str(bundle.card.get("source", "")),
            restricted=str(bundle.card.get("restricted", "")),
            space=bundle.space,
            licence=str(bundle.card.get("licence", "")),
            citation=(cited,) if isinstance(cited, str) else tuple(map(str, cited)),
            validity=tuple(said),
            network=network,
            measurement=measurement(bundle.card),
            encoder_sha256=bundle.sha256,
        )

    @property
    def unit(self) -> str:
        """The unit of the group's maps: "z" or "model units"."""
        return "z" if self.settings.average == "zscore" else MODEL_UNIT

    @property
    def units(self) -> str:
        """What the group's maps are measured in; subjects' are in the models' own units."""
        zscored = self.settings.average == "zscore"
        return "standard deviations over the mask" if zscored else "the models' own"

    @property
    def note(self) -> str:
        """Which encoder and which network made it, in a line for footnotes; empty if unknown."""
        said = [f"Encoder {self.encoder}"] if self.encoder else []
        spec = self.network
        if spec is not None:
            weights = spec.weights_name or "weights unnamed"
            unknown = "" if spec.weights_verified else ", not the published weights"
            kind = "estimating " + spec.features_id if spec.emulated else "/".join(spec.layers)
            said.append(f"network {spec.id}, {kind} ({weights}{unknown})")
        return "; ".join(said)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, for a record."""
        spec, settings = self.network, self.settings
        network: dict[str, Any] = {}
        if spec is not None:
            network = {
                "backbone": spec.id,
                "layers": list(spec.layers),
                "weights": spec.weights_name,
                "weights_sha256": spec.weights_sha256,
                "weights_verified": spec.weights_verified,
                "emulated": spec.emulated,
                "note": spec.note,
            }
            if spec.engine is not None:
                network |= {"engine": spec.engine.name, "precision": spec.engine.precision}
            if spec.trial is not None:
                network["engine_trial"] = spec.trial.to_dict()
        return {
            "encoder": self.encoder,
            "encoder_sha256": self.encoder_sha256,
            "encoder_source": self.source,
            "licence": self.licence,
            "citation": list(self.citation),
            "validity": list(self.validity),
            **network,
            "rois": list(settings.rois or ()),
            "sigma_mm": settings.sigma_mm,
            "mask": settings.mask,
            "average": settings.average,
            "center_crop": settings.center_crop,
            "space": self.space,
            "units": self.units,
            **({"measurement": self.measurement} if self.measurement else {}),
            **({"restricted": self.restricted} if self.restricted else {}),
        }

    def to_stored(self) -> dict[str, Any]:
        """Return it as plain data from which `of_stored` makes it again.

        How an engine's trial went is left out: it is another on each machine that has a part in a
        store.
        """
        spec, said = self.network, self.to_dict()
        said.pop("engine_trial", None)
        if spec is None:
            return said
        return said | {
            "features": {
                "id": spec.features_id,
                "n_features": spec.n_features,
                "preprocessing": spec.preprocessing.to_dict(),
                "weights_seed": spec.weights_seed,
            }
        }

    @classmethod
    def of_stored(cls, said: Mapping[str, Any]) -> Provenance:
        """Return what `to_stored` gave.

        Raises
        ------
        OptionError, ValueError, LookupError, TypeError
            If it is something else.
        """
        settings = Settings(
            rois=[str(roi) for roi in said["rois"]] or None,
            sigma_mm=float(said["sigma_mm"]),
            mask=said["mask"],
            average=said["average"],
            center_crop=said["center_crop"],
        )
        network = None
        if "features" in said:
            features = said["features"]
            network = BackboneSpec(
                id=str(said["backbone"]),
                layers=tuple(map(str, said["layers"])),
                n_features=int(features["n_features"]),
                preprocessing=Preprocessing.from_dict(features["preprocessing"]),
                features_id=str(features["id"]),
                emulated=bool(said["emulated"]),
                weights_name=str(said["weights"]),
                weights_sha256=str(said["weights_sha256"]),
                weights_verified=bool(said["weights_verified"]),
                weights_seed=features["weights_seed"],
                note=str(said["note"]),
                engine=Engine(said["engine"], said["precision"]) if "engine" in said else None,
            )
        return cls(
            settings=settings,
            encoder=str(said["encoder"]),
            source=str(said["encoder_source"]),
            restricted=str(said.get("restricted", "")),
            space=str(said["space"]),
            licence=str(said["licence"]),
            citation=tuple(map(str, said["citation"])),
            validity=tuple(map(str, said["validity"])),
            network=network,
            measurement=str(said.get("measurement", "")),
            encoder_sha256=str(said["encoder_sha256"]),
        )

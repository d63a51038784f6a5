"""Features of a study's stimuli, each computed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import (
    Backbone,
    BackboneSpec,
    FeatureExtractor,
    NetworkName,
    Preprocessing,
    cached_backbone,
    load_backbone,
)
from imgtofmri.backbones.engines import REFERENCE
from imgtofmri.backbones.joined import JoinedBackbone, JoinedPart
from imgtofmri.encoder.networks import layer_key
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.files import is_file
from imgtofmri.measured import read_array, read_stimulus_rows
from imgtofmri.stimuli import Source
from imgtofmri.training.study import BackboneSettings, Study

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class StudyFeatures:
    """The features of every stimulus of a study.

    Attributes
    ----------
    of_name : dict of str to int
        The row of each stimulus.
    values : array of shape (n_stimuli, n_features), float32
        One row for each stimulus.
    layers : dict of str to slice
        The columns of each layer; where a study has several networks, of each ``"LABEL/LAYER"``.
    card : dict
        What a bundle's card says about features.
    aliases : dict of str to str
        From the study's names of layers to those in ``layers``, which say the pooling in full.
    """

    of_name: dict[str, int]
    values: Float32Array
    layers: dict[str, slice]
    card: dict[str, Any]
    aliases: dict[str, str] = field(default_factory=dict)

    def keys(self, layers: Sequence[str] | None) -> tuple[str, ...]:
        """Return the layers that an ROI's settings mean; None, or a network's name, means all."""
        if layers is None:
            return tuple(self.layers)
        found: dict[str, None] = {}
        for given in layers:
            name = self.aliases.get(given, given)
            same = [name] if name in self.layers else []
            inside = [key for key in self.layers if key.startswith(f"{name}/")]
            found.update(dict.fromkeys(same or inside))
        return tuple(found)


def study_features(
    study: Study,
    names: Iterable[str],
    progress: bool = True,
    *,
    backbone: Backbone | None = None,
    cache: Path | None = None,
) -> StudyFeatures:
    """Compute or read the features of stimuli.

    Parameters
    ----------
    study : Study
        Names the backbone, the folder of stimuli or the file of features.
    names : iterable of str
        The stimulus of every row of the study's tables, repeats included.
    progress : bool
        Whether to report progress on standard error.
    backbone : Backbone, optional
        A network to use instead of the study's, such as a
        `imgtofmri.backbones.torch_module.TorchBackbone`.
    cache : Path, optional
        The folder where features are kept (see `imgtofmri.backbones.cached_backbone`). Default:
        they are computed anew.

    Returns
    -------
    StudyFeatures
        One row for each distinct stimulus.

    Raises
    ------
    DataError
        If a stimulus is missing.
    StimulusError
        If one cannot be read.
    ShapeError
        If features from a file do not fit the table or the layers.
    """
    rows = list(names)
    of_name = {name: row for row, name in enumerate(dict.fromkeys(rows))}
    if study.stimuli.features is not None and backbone is None:
        return _given(study, rows, of_name)
    if backbone is None:
        settings = study.backbones
        networks = [load_settings(one, progress=progress) for one in settings]
    else:
        settings, networks = (replace(study.backbone, label="", layers=None),), [backbone]
    if cache is not None:
        networks = [cached_backbone(network, cache) for network in networks]
    specs = [network.spec for network in networks]
    widths = [layer_widths(one, spec) for one, spec in zip(settings, specs, strict=True)]
    card = _card(settings, specs, widths)
    layers: list[str] = []
    aliases: dict[str, str] = {}
    for one, spec in zip(settings, specs, strict=True):
        names_here = [layer_key(one.label, layer) for layer in feature_layers(spec)]
        layers += names_here
        if one.layers is not None and len(one.layers) == len(names_here):
            aliases |= zip(
                (layer_key(one.label, name) for name in one.layers), names_here, strict=True
            )
    network = _join(networks, card)
    paths = stimulus_paths(study, of_name)
    extractor = FeatureExtractor(network, study.backbone.center_crop)
    sources = [Source(path, path.name, "image") for path in paths]
    values = extractor.features(sources, progress=progress).features
    columns = _slices(layers, chain(*widths))
    return StudyFeatures(of_name, values, columns, card, aliases)


def stimulus_paths(study: Study, names: Iterable[str]) -> list[Path]:
    """Return the picture of each stimulus.

    Raises
    ------
    DataError
        If one is missing.
    """
    folder = study.stimuli.folder or study.path.parent
    paths = [folder / name for name in names]
    missing = [path for path in paths if not is_file(path)]
    if missing:
        message = (
            f"{study.path}: every stimulus must be a file below {folder}; {len(missing)} of "
            f"{len(paths)} are not there, the first is {missing[0].name}. Set stimuli.folder."
        )
        raise DataError(message)
    return paths


def load_settings(
    settings: BackboneSettings, layers: Sequence[str] | None = None, progress: bool = False
) -> Backbone:
    """Load a study's network, with its layers or others."""
    recipe = settings.preprocessing
    return load_backbone(
        settings.name,
        weights=settings.weights,
        layers=layers or settings.layers,
        preprocessing=None if recipe is None else Preprocessing.from_dict(recipe),
        progress=progress,
        engine=settings.engine,
        precision=settings.precision,
    )


def feature_layers(spec: BackboneSpec) -> tuple[str, ...]:
    """Return the layers that features come from; an emulation's are one, the emulated network's."""
    return (spec.features_id.partition("/")[2],) if spec.emulated else spec.layers


def layer_widths(settings: BackboneSettings, spec: BackboneSpec) -> tuple[int, ...]:
    """Return how many features each layer has, if need be by loading it alone."""
    if spec.layer_widths and not spec.emulated:
        return spec.layer_widths
    if len(feature_layers(spec)) == 1:
        return (spec.n_features,)
    alone = replace(settings, engine=REFERENCE.name, precision=None)
    return tuple(load_settings(alone, [layer]).spec.n_features for layer in spec.layers)


def _join(networks: Sequence[Backbone], card: Mapping[str, Any]) -> Backbone:
    if len(networks) == 1:
        return networks[0]
    parts, start = [], 0
    for network in networks:
        stop = start + network.spec.n_features
        parts.append(JoinedPart(network, np.arange(start, stop)))
        start = stop
    return JoinedBackbone(parts, start, str(card["id"]))


def _card(
    settings: Sequence[BackboneSettings],
    specs: Sequence[BackboneSpec],
    widths: Sequence[tuple[int, ...]],
) -> dict[str, Any]:
    """Return what a bundle's card says of one network, or of several side by side."""
    entries: list[dict[str, Any]] = [
        {
            "id": spec.features_id,
            "backbone": spec.id,
            "layers": list(feature_layers(spec)),
            "layer_widths": list(width),
            "n_features": spec.n_features,
            "preprocessing": spec.preprocessing.to_dict(),
            "weights": {
                "name": spec.weights_name,
                "sha256": spec.weights_sha256,
                "verified": spec.weights_verified,
                **({} if spec.weights_seed is None else {"seed": spec.weights_seed}),
            },
            # Of a head: how faithful it is, and on what terms it may be used.
            **({"emulated": True, "emulation": spec.note} if spec.emulated else {}),
            **({} if spec.engine in (None, REFERENCE) else {"engine": str(spec.engine)}),
        }
        for spec, width in zip(specs, widths, strict=True)
    ]
    crop = {"center_crop": settings[0].center_crop}
    if not settings[0].label:
        return entries[0] | crop
    return {
        "id": "+".join(entry["id"] for entry in entries),
        "backbone": "+".join(entry["backbone"] for entry in entries),
        "layers": [
            layer_key(chosen.label, layer)
            for chosen, entry in zip(settings, entries, strict=True)
            for layer in entry["layers"]
        ],
        "n_features": sum(entry["n_features"] for entry in entries),
        "networks": [
            {"label": chosen.label, **entry}
            for chosen, entry in zip(settings, entries, strict=True)
        ],
        **crop,
    }


def _given(study: Study, rows: list[str], of_name: dict[str, int]) -> StudyFeatures:
    """Read features of each row, or of each distinct stimulus, from a file."""
    source, settings = study.stimuli.features, study.backbone
    assert source is not None
    assert settings.layers is not None
    for key in ("axes", "voxel_order"):
        if getattr(source, key) is not None:
            message = f"{source.line}: {key} is of responses, not of features. Leave it out."
            raise OptionError(message)
    values = read_array(source.file, source.key, source.line)
    values = source.turned(values, "stimuli", "features")
    listed, said = rows, "rows of the responses"
    if (table := study.stimuli.table) is not None:
        # Whatever the rows of the responses are, the table says what those of features are.
        listed = list(read_stimulus_rows(table, study.stimuli.column).names)
        said = f"rows of {table.name}"
    row_of = {name: row for row, name in enumerate(dict.fromkeys(listed))}
    if values.ndim != 2 or len(values) not in (len(row_of), len(listed)):
        message = (
            f"{source.line}: features must have a row for each of the {len(listed)} {said}, or for "
            f"each of its {len(row_of)} stimuli in order of first appearance; got {values.shape}. "
            "Set transposed = true if stimuli are columns."
        )
        raise ShapeError(message)
    missing = [name for name in of_name if name not in row_of]
    if missing:
        message = (
            f"{source.line}: every stimulus must have features; {len(missing)} of {len(of_name)} "
            f"are not in {study.stimuli.table}, the first is {missing[0]!r}. Name them there as "
            "the responses do."
        )
        raise DataError(message)
    if len(values) != len(row_of):
        code = np.array([row_of[name] for name in listed])
        first = np.unique(code, return_index=True)[1]
        if not np.array_equal(values, values[first][code]):
            row = int(np.flatnonzero((values != values[first][code]).any(axis=1))[0])
            message = (
                f"{source.line}: repeats of a stimulus must have the same features; row {row} "
                f"({listed[row]}) differs from row {first[code[row]]}. Correct the table or the "
                "file."
            )
            raise DataError(message)
        values = values[first]
    values = values[[row_of[name] for name in of_name]]
    widths = settings.layer_widths or (values.shape[1],)
    if len(widths) != len(settings.layers) or sum(widths) != values.shape[1]:
        message = (
            f"{source.line}: backbone.layer_widths must give the features of each of "
            f"{len(settings.layers)} layers, {values.shape[1]} in all; got {list(widths)}. Add "
            "them."
        )
        raise ShapeError(message)
    if settings.weights is not None:
        return _of_weights(of_name, values, settings, widths, source.line)
    name = NetworkName.parse(settings.name).id
    card = {
        "id": f"{name}/{'+'.join(settings.layers)}",
        "backbone": name,
        "layers": list(settings.layers),
        "layer_widths": list(widths),
        "n_features": values.shape[1],
        "center_crop": settings.center_crop,
        "preprocessing": dict(settings.preprocessing or Preprocessing().to_dict()),
    }
    return StudyFeatures(of_name, values.astype(np.float32), _slices(settings.layers, widths), card)


def _of_weights(
    of_name: dict[str, int],
    values: npt.NDArray[Any],
    settings: BackboneSettings,
    widths: tuple[int, ...],
    where: str,
) -> StudyFeatures:
    """Say on the card which weights given features are of, so that predictions use the same."""
    spec = load_settings(settings).spec
    theirs = layer_widths(settings, spec)
    if theirs != widths:
        message = (
            f"{where}: features must be those of {spec.features_id}, {list(theirs)} for each "
            f"layer, as backbone.weights are of it; got {list(widths)}. Correct backbone."
        )
        raise ShapeError(message)
    names = feature_layers(spec)
    card = _card((settings,), (spec,), (widths,))
    aliases = dict(zip(settings.layers or (), names, strict=True))
    return StudyFeatures(of_name, values.astype(np.float32), _slices(names, widths), card, aliases)


def _slices(layers: Iterable[str], widths: Iterable[int]) -> dict[str, slice]:
    found, start = {}, 0
    for layer, width in zip(layers, widths, strict=True):
        found[layer] = slice(start, start + width)
        start += width
    return found

"""Features of a study's stimuli, each computed once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import Backbone, Preprocessing, load_backbone
from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.features import cached_backbone, stream_features
from imgtofmri.progress import track
from imgtofmri.responses import read_array
from imgtofmri.stimuli import read_images
from imgtofmri.study import BackboneSettings, Study

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
        The columns of each layer.
    card : dict
        What a bundle's card says about features.
    """

    of_name: dict[str, int]
    values: Float32Array
    layers: dict[str, slice]
    card: dict[str, Any]


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
        The folder where features are kept (see `imgtofmri.features.cached_backbone`). Default:
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
    settings = study.backbone
    network = backbone or _load(settings, progress)
    if cache is not None:
        network = cached_backbone(network, cache)
    folder = study.stimuli.folder or study.path.parent
    paths = [folder / name for name in of_name]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        message = (
            f"{study.path}: every stimulus must be a file below {folder}; {len(missing)} of "
            f"{len(paths)} are not there, the first is {missing[0].name}. Set stimuli.folder."
        )
        raise DataError(message)
    spec = network.spec
    frames = read_images(paths, size=spec.preprocessing.size, center_crop=settings.center_crop)
    parts = []
    with track("Computing features", len(paths), "images", enabled=progress) as advance:
        for batch in stream_features(frames, network):
            for failure in batch.failures:
                raise failure.error
            parts.append(batch.features)
            advance(len(batch.names))
    card = {
        "id": spec.features_id,
        "backbone": spec.id,
        "layers": list(spec.layers),
        "n_features": spec.n_features,
        "preprocessing": spec.preprocessing.to_dict(),
        "center_crop": settings.center_crop,
        "weights": {"name": spec.weights_name, "sha256": spec.weights_sha256},
    }
    # Layers go by the names that the study gives them, which its ROIs use, too.
    layers = spec.layers if backbone is not None else settings.layers or spec.layers
    widths = spec.layer_widths
    if not widths:
        # What a head makes of several layers cannot be told apart: it counts as one.
        layers, widths = ("+".join(layers),), (spec.n_features,)
    return StudyFeatures(of_name, np.concatenate(parts), _slices(layers, widths), card)


def _load(settings: BackboneSettings, progress: bool) -> Backbone:
    recipe = settings.preprocessing
    return load_backbone(
        settings.name,
        weights=settings.weights,
        layers=settings.layers,
        preprocessing=None if recipe is None else Preprocessing.from_dict(recipe),
        progress=progress,
    )


def _given(study: Study, rows: list[str], of_name: dict[str, int]) -> StudyFeatures:
    """Read features of each row, or of each distinct stimulus, from a file."""
    source, settings = study.stimuli.features, study.backbone
    assert source is not None
    assert settings.layers is not None
    values = read_array(source.file, source.key, source.line)
    values = values.T if source.transposed else values
    if values.ndim != 2 or len(values) not in (len(of_name), len(rows)):
        message = (
            f"{source.line}: features must have a row for each of the {len(rows)} rows of the "
            "table, "
            f"or for each of its {len(of_name)} stimuli in order of first appearance; got "
            f"{values.shape}. Set transposed = true if stimuli are columns."
        )
        raise ShapeError(message)
    if len(values) != len(of_name):
        code = np.array([of_name[name] for name in rows])
        first = np.unique(code, return_index=True)[1]
        if not np.array_equal(values, values[first][code]):
            row = int(np.flatnonzero((values != values[first][code]).any(axis=1))[0])
            message = (
                f"{source.line}: repeats of a stimulus must have the same features; row {row} "
                f"({rows[row]}) differs from row {first[code[row]]}. Correct the table or the file."
            )
            raise DataError(message)
        values = values[first]
    widths = settings.layer_widths or (values.shape[1],)
    if len(widths) != len(settings.layers) or sum(widths) != values.shape[1]:
        message = (
            f"{source.line}: backbone.layer_widths must give the features of each of "
            f"{len(settings.layers)} layers, {values.shape[1]} in all; got {list(widths)}. Add "
            "them."
        )
        raise ShapeError(message)
    name = Path(settings.name).stem if settings.name.endswith(".onnx") else settings.name
    card = {
        "id": f"{name}/{'+'.join(settings.layers)}",
        "backbone": name,
        "layers": list(settings.layers),
        "n_features": values.shape[1],
        "center_crop": settings.center_crop,
        "preprocessing": dict(settings.preprocessing or Preprocessing().to_dict()),
    }
    return StudyFeatures(of_name, values.astype(np.float32), _slices(settings.layers, widths), card)


def _slices(layers: Iterable[str], widths: Iterable[int]) -> dict[str, slice]:
    found, start = {}, 0
    for layer, width in zip(layers, widths, strict=True):
        found[layer] = slice(start, start + width)
        start += width
    return found

"""Which layer of a network predicts which ROI best: cross-validated scores of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgtofmri.backbones import Backbone
from imgtofmri.exceptions import OptionError, choice_message
from imgtofmri.progress import track
from imgtofmri.regression import open_engine
from imgtofmri.training.fit import fit_rois, load_subjects, stimulus_names
from imgtofmri.training.stimuli import StudyFeatures, study_features
from imgtofmri.training.study import Study, read_study
from imgtofmri.training.subjects import Geometry, read_geometry

if TYPE_CHECKING:
    import pandas as pd


def layer_search(
    study: Study | Path | str,
    layers: Sequence[str] | None = None,
    geometry: Geometry = read_geometry,
    progress: bool = True,
    *,
    backbone: Backbone | None = None,
    cache: Path | None = None,
) -> pd.DataFrame:
    """Score each layer of a network on its own, by subject and ROI.

    All layers come from one pass of the stimuli through the network. Each layer is fitted as
    `fit_study` would fit it alone, with the study's folds and penalties.

    Parameters
    ----------
    study : Study or path
        The study, or its file. Layers of single ROIs and banded fits are left aside.
    layers : sequence of str, optional
        The layers, with poolings if need be. Default: the study's.
    geometry, progress, backbone, cache
        As for `fit_study`; a backbone has its layers already.

    Returns
    -------
    pandas.DataFrame
        One row for each subject, ROI and layer: ``subject``, ``roi``, ``layer``, ``n_features``,
        ``n_voxels``, ``median_r`` and ``mean_r`` over voxels of the correlation with held-out
        responses, its quartiles ``r_25`` and ``r_75``, and ``noise_ceiling_r``, the voxels' median
        ceiling (NaN without repeats).

    Raises
    ------
    OptionError
        If fewer than two layers are named, or one twice.
    DataError
        If data cannot be fitted.

    Notes
    -----
    The best of several layers looks a little better than it is. Report the accuracy of a layer
    that was chosen so on other data, or choose it on some subjects and report the rest.
    """
    import pandas as pd

    if not isinstance(study, Study):
        study = read_study(study)
    open_engine(study.fit.engine, study.fit.device)
    chosen = backbone.spec.layers if backbone is not None else layers or study.backbone.layers or ()
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        message = (
            "layers must be two or more different ones; got "
            f"{', '.join(chosen) or 'none'}. Name each that is to be compared."
        )
        raise OptionError(message, "layers")
    if backbone is None and study.stimuli.features is None:
        if len(study.backbones) > 1:
            message = (
                f"{study.path} must have one network, whose layers are compared; it "
                f"has {len(study.backbones)}. Search each in a study of its own."
            )
            raise OptionError(message)
        study = replace(study, backbones=(replace(study.backbone, layers=tuple(chosen)),))
    _, subjects = load_subjects(study, geometry, progress)
    subjects = [
        replace(one, rois={name: replace(roi, layers=None) for name, roi in one.rois.items()})
        for one in subjects
    ]
    features = study_features(
        study, stimulus_names(subjects), progress, backbone=backbone, cache=cache
    )
    if backbone is None and study.stimuli.features is not None:
        features = _chosen(features, chosen)
    settings = replace(study.fit, banded=False)
    rows = []
    with track("Scoring", len(features.layers), "layers", enabled=progress) as advance:
        for layer, columns in features.layers.items():
            alone = _only(features, layer, columns)
            models, _ = fit_rois(settings, subjects, alone, progress=False)
            for subject, rois in models.items():
                for roi, model in rois.items():
                    r = model.extras["cv_r"]
                    low, middle, high = np.percentile(r, [25, 50, 75])
                    ceiling = model.extras.get("noise_ceiling", np.array([np.nan]))
                    rows.append(
                        {
                            "subject": subject,
                            "roi": roi,
                            "layer": layer,
                            "n_features": alone.values.shape[1],
                            "n_voxels": model.n_voxels,
                            "median_r": float(middle),
                            "mean_r": float(np.mean(r)),
                            "r_25": float(low),
                            "r_75": float(high),
                            "noise_ceiling_r": float(np.median(ceiling)),
                        }
                    )
            advance(1)
    return pd.DataFrame(rows)


def _chosen(features: StudyFeatures, layers: Sequence[str]) -> StudyFeatures:
    """Return features out of a file with those layers alone that were asked for."""
    for layer in layers:
        if not features.keys([layer]):
            raise OptionError(choice_message("", "layers", layer, features.layers), "layers")
    kept = {key: features.layers[key] for key in features.keys(layers)}
    return replace(features, layers=kept)


def _only(features: StudyFeatures, layer: str, columns: slice) -> StudyFeatures:
    values = np.ascontiguousarray(features.values[:, columns])
    return replace(features, values=values, layers={layer: slice(0, values.shape[1])})

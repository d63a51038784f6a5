"""A prediction's geometry, and its controls', compared with measured matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from imgtofmri.analyses.rsa.comparison import (
    ModelComparison,
    best_controls,
    compare_models,
    control_pairs,
)
from imgtofmri.analyses.rsa.layers import LayerModel
from imgtofmri.analyses.rsa.matrices import (
    Measured,
    control_rdms,
    match_conditions,
    model_rdms,
    name_in_order,
    read_matrices,
)
from imgtofmri.encoder import Control, Prediction
from imgtofmri.encoder.controls import ENCODER, PICTURES, check_made
from imgtofmri.encoder.copies import tell_of_copies
from imgtofmri.encoder.showing import read_pictures
from imgtofmri.exceptions import DataError, check_choice
from imgtofmri.figures.style import plain
from imgtofmri.measured.patterns import Missing
from imgtofmri.rsa import COMPARISONS, DISSIMILARITIES, RDMs
from imgtofmri.stimuli import Failure
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.figures.style import Figure

MAX_THUMBNAILS = 120
"""With more images thumbnails hide each other."""

THUMBNAIL = 64
"""Side of a thumbnail in pixels."""


@dataclass(frozen=True, eq=False, repr=False)
class GeometryComparison(Brief):
    """A prediction's, layers' and controls' matrices compared with measured ones.

    Attributes
    ----------
    models : dict of str to RDMs
        The encoder's matrices, one for each ROI, under "encoder", and each layer's and control's.
    compared : dict of str to dict of str to ModelComparison
        For each measured set, the encoder's comparison and each layer's and control's. Each is a
        family of its own: asking for one changes no p of the encoder's.
    prediction : Prediction
    layers : tuple of LayerModel
        Further models.
    controls : tuple of Control
    measured : dict of str to RDMs
    failures : tuple of Failure
        Images that could not be used.
    options : dict
        As `compare_geometry` took them: dissimilarity, comparison, ...
    """

    models: Mapping[str, RDMs]
    compared: Mapping[str, Mapping[str, ModelComparison]]
    prediction: Prediction
    layers: tuple[LayerModel, ...]
    controls: tuple[Control, ...]
    measured: Mapping[str, RDMs]
    failures: tuple[Failure, ...]
    options: Mapping[str, Any]

    def controls_of(self, model: str) -> tuple[str, ...]:
        """Return the controls that a model is compared with; none for a control.

        An untrained network's model of an ROI is a control of the encoder's, that of a layer is a
        control of the layer's.
        """
        layers = {layer.label: layer for layer in self.layers}
        if model == ENCODER:
            return tuple(control.name for control in self.controls)
        if model in layers and not layers[model].control:
            twins = (label for label, layer in layers.items() if layer.control_of == model)
            return (*twins, *(each.name for each in self.controls if each.name in PICTURES))
        return ()

    def beside(self, model: str) -> tuple[str, ...]:
        """Return what a model is compared with, pair by pair: its controls, and layers after it."""
        if not self.is_model(model):
            return ()
        labels = [layer.label for layer in self.layers if self.is_model(layer.label)]
        later = labels if model == ENCODER else labels[labels.index(model) + 1 :]
        return (*later, *self.controls_of(model))

    def is_model(self, name: str) -> bool:
        """Whether it is the encoder or a layer, rather than a control."""
        return name == ENCODER or any(
            layer.label == name and not layer.control for layer in self.layers
        )

    def stacked(self) -> RDMs:
        """Return all models' matrices as one stack: the encoder's under the ROIs' own names."""
        own = self.models[ENCODER]
        names = [
            roi if model in (ENCODER, roi) else f"{roi} {model}"
            for model, rdms in self.models.items()
            for roi in rdms.names
        ]
        stacked = np.concatenate([rdms.dissimilarities for rdms in self.models.values()])
        return RDMs(stacked, own.conditions, tuple(names), own.measure)

    def plot(self, measured: str | None = None) -> Figure:
        """Draw each model's similarity to one set of measured matrices, beside the noise ceiling.

        Parameters
        ----------
        measured : str, optional
            The set's name; the first one by default.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        OptionError
            If there is no such set.
        """
        from imgtofmri.analyses.rsa.figures import plot_comparison

        name = next(iter(self.compared), "") if measured is None else measured
        check_choice("measured", name, list(self.compared))
        compared = self.compared[name]
        others = {model: each for model, each in compared.items() if model != ENCODER}
        models = [model for model in others if self.is_model(model)]
        return plot_comparison(compared[ENCODER], others, models, plain(name))

    def plot_models(self) -> Figure:
        """Draw all models' matrices, coloured by percentile.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from imgtofmri.analyses.rsa.figures import plot_rdms

        return plot_rdms(self.stacked())

    def plot_mds(self, groups: Sequence[str] | None = None) -> Figure:
        """Place the images so that near ones are predicted alike, a panel for each ROI.

        Parameters
        ----------
        groups : sequence of str, length n_images, optional
            Colours their frames by category.

        Returns
        -------
        matplotlib.figure.Figure
            Of more than 120 images without their pictures, which would hide each other.
        """
        from imgtofmri.analyses.rsa.figures import plot_mds

        many = len(self.prediction) > MAX_THUMBNAILS
        pictures = {} if many else read_pictures(self.prediction, size=THUMBNAIL)
        return plot_mds(self.models[ENCODER], pictures, groups)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Join the comparisons with all measured sets into tidy tables.

        Returns
        -------
        dict of str to pandas.DataFrame
            "rsa" has a row for each measured set, model and ROI, with the columns of
            `ModelComparison.table`, and best_control, best_control_score and p_best_control: the
            control with the highest score and the p of the difference to it; "pairs" one for each
            two ROIs, and for each model and what it is beside; "subjects" each similarity. Columns
            ``model`` say whose a row is: "encoder", a layer, or a control. Empty without measured
            matrices.
        """
        import pandas as pd

        joined: dict[str, list[pd.DataFrame]] = {"rsa": [], "pairs": [], "subjects": []}
        for name, compared in self.compared.items():
            for model, result in compared.items():
                against = {
                    other: control_pairs(result, compared[other]) for other in self.beside(model)
                }
                if model == ENCODER:
                    joined["pairs"].append(_of_pairs(result.pairs, name, ENCODER, ENCODER))
                for other, pairs in against.items():
                    joined["pairs"].append(_of_pairs(pairs, name, model, other))
                of_controls = {key: against[key] for key in self.controls_of(model)}
                table = result.table.join(best_controls(result, of_controls))
                wide = pd.DataFrame(result.similarity, columns=list(result.subjects))
                wide.insert(0, "model", list(result.models))
                tidy = wide.melt("model", var_name="subject", value_name="similarity")
                for kind, rows in (("rsa", table), ("subjects", tidy)):
                    of_roi = rows.rename(columns={"model": "roi"})
                    of_roi["roi"] = _rois(of_roi["roi"], model)
                    of_roi.insert(0, "model", model)
                    of_roi.insert(0, "measured", name)
                    joined[kind].append(of_roi)
        return {kind: _stacked(parts) for kind, parts in joined.items()}


def compare_geometry(
    prediction: Prediction,
    measured: Measured = (),
    *,
    layers: Sequence[LayerModel] = (),
    controls: Sequence[Control] = (),
    failures: Sequence[Failure] = (),
    in_order: bool = False,
    unmatched: Missing = "error",
    dissimilarity: str = "correlation",
    comparison: str = "spearman",
    n_permutations: int = 1000,
    n_bootstraps: int = 1000,
    confidence: float = 0.95,
    seed: int | None = 0,
) -> GeometryComparison:
    """Compare the geometry of predicted patterns with measured ones, ROI by ROI.

    Each ROI's prediction is a model of each set of measured matrices, and so is each control's.

    Parameters
    ----------
    prediction : Prediction
        Of the images that were shown; with ``average="mean"``, which keeps amplitude.
    measured : RDMs, path, "NAME=FILE", a sequence of these, or a dict of str to RDMs or path
        Sets of matrices, one matrix for each subject; see `read_matrices`. Conditions are matched
        with the images as in `match_conditions`.
    layers : sequence of LayerModel
        Further models, of layers of networks, from `layer_models`.
    controls : sequence of Control
        ``encoder.controls(["untrained", "luminance"], average="mean").predict(images)``.
    failures : sequence of Failure
        Images that could not be predicted: the record names them.
    in_order : bool
        Whether measured rows have no names, but follow the images, none of which failed.
    unmatched : {"error", "drop"}
        What to do with an image or a measured condition that has no partner by name.
    dissimilarity : {"correlation", "euclidean"}
        Of the models, as in `model_rdms`.
    comparison : {"spearman", "kendall", "pearson", "cosine"}
        Of matrices.
    n_permutations, n_bootstraps, confidence, seed
        As in `compare_models`.

    Returns
    -------
    GeometryComparison
        `save_geometry` writes it.

    Raises
    ------
    DataError
        If there are fewer than 3 images, or matrices do not fit them.
    OptionError
        If an option is not valid, or two sets of matrices have one name.

    Examples
    --------
    >>> result = compare_geometry(prediction, "subjects.npz")  # doctest: +SKIP
    >>> result.tables()["rsa"]  # doctest: +SKIP
    """
    check_measures(dissimilarity, comparison)
    check_made(controls)
    check_choice("unmatched", unmatched, get_args(Missing))
    tell_of_copies(prediction)
    if len(prediction) < 3:
        message = (
            f"a geometry needs at least 3 images; got {', '.join(prediction.names)}. Give all "
            "images that were shown."
        )
        raise DataError(message)
    stacks = read_matrices(measured)
    if in_order:
        stacks = {
            name: name_in_order(stack, prediction.names, len(failures), name)
            for name, stack in stacks.items()
        }
    models = {ENCODER: model_rdms(prediction, dissimilarity)}
    models |= {layer.label: layer.rdms(dissimilarity) for layer in layers}
    models |= {control.name: control_rdms(control, dissimilarity) for control in controls}
    for name, rdms in models.items():
        if rdms.conditions != prediction.names:
            message = (
                f"{name} must be of the {len(prediction)} images of the prediction, in their "
                f"order; got {len(rdms.conditions)}, or others. Give it the same images."
            )
            raise DataError(message)
    tests: dict[str, Any] = {
        "n_permutations": n_permutations,
        "n_bootstraps": n_bootstraps,
        "confidence": confidence,
        "seed": seed,
    }
    compared: dict[str, dict[str, ModelComparison]] = {}
    for name, stack in stacks.items():
        families = compared[name] = {}
        for model, rdms in models.items():
            own = families.get(ENCODER)
            families[model] = compare_models(
                *match_conditions(rdms, stack, unmatched, name),
                comparison,
                **tests,
                # All models see the same resamples.
                bootstrap=None if own is None else own.bootstrap,
            )
    return GeometryComparison(
        models=models,
        compared=compared,
        prediction=prediction,
        layers=tuple(layers),
        controls=tuple(controls),
        measured=stacks,
        failures=tuple(failures),
        options={
            "in_order": in_order,
            "unmatched": unmatched,
            "dissimilarity": dissimilarity,
            "comparison": comparison,
        }
        | tests,
    )


def check_measures(dissimilarity: str, comparison: str) -> None:
    """Refuse what dissimilarities and comparisons cannot be, before anything is loaded.

    Raises
    ------
    OptionError
        If one is not known.
    """
    for option, value, valid in (
        ("dissimilarity", dissimilarity, DISSIMILARITIES),
        ("comparison", comparison, COMPARISONS),
    ):
        check_choice(option, value, valid)


def _of_pairs(pairs: pd.DataFrame, measured: str, model_a: str, model_b: str) -> pd.DataFrame:
    """Say of which measured set and of which models the two of each pair are."""
    table = pairs.rename(columns={"model_a": "roi_a", "model_b": "roi_b"})
    table["roi_a"] = _rois(table["roi_a"], model_a)
    table["roi_b"] = _rois(table["roi_b"], model_b)
    table.insert(1, "model_b", model_b)
    table.insert(0, "model_a", model_a)
    table.insert(0, "measured", measured)
    return table


def _rois(names: pd.Series[str], model: str) -> pd.Series[str]:
    """Leave the ROI empty where the model is of none, and bears its own name instead."""
    return names.where(names != model)


def _stacked(parts: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    rows = [record for part in parts for record in part.to_dict("records")]
    return pd.DataFrame(rows, columns=parts[0].columns if parts else None)

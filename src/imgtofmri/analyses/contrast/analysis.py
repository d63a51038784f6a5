"""A contrast of predicted responses: maps, ROI tables, and whether the subjects agree.

And the same contrast of its controls: of what an untrained network predicts for the images, and of
what the images are like before any brain sees them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.contrast.agreement import SignAgreement
from imgtofmri.analyses.contrast.maps import OUTSIDE, statistic_of, values_of
from imgtofmri.analyses.contrast.rois import RoiResponses, condition_table, roi_table
from imgtofmri.analyses.contrast.welch import (
    WelchTest,
    permuted_tests,
    permuted_together,
    welch_test,
)
from imgtofmri.encoder import Control, Prediction
from imgtofmri.encoder.controls import ENCODER, control_predictions
from imgtofmri.encoder.copies import tell_of_copies
from imgtofmri.exceptions import DataError, OptionError, ShapeError, check_choice
from imgtofmri.outputs import to_img
from imgtofmri.stats import fdr
from imgtofmri.stats.contrasts import (
    contrast_weights,
    default_contrast,
    written_contrast,
)
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.figures.style import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Contrast(Brief):
    """A contrast's maps and tables.

    Parameters
    ----------
    name : str
        The contrast as written.
    weights : dict of str to float
        Conditions with a weight.
    counts : dict of str to int
        Images in each of them.
    test : WelchTest
        The group map's difference, standard error, t, dof and two-sided p, each (n_voxels,).
        Of covered voxels (`Prediction.covered`); NaN elsewhere.
    p_fdr : array of shape (n_voxels,)
        ``test.p`` adjusted over voxels for the false discovery rate (Benjamini and Hochberg).
    p_max : array of shape (n_voxels,)
        Corrected over voxels by the largest absolute t under images exchanged over conditions.
    subject_differences, subject_t : arrays of shape (n_subjects, n_voxels)
        Of each subject's responses where the subject covers a voxel at all; NaN elsewhere.
    conjunction : array of shape (n_voxels,), int8
        1 or -1 where every subject's t has that sign and p below ``alpha``, not corrected over
        voxels, else 0; 0, too, where a subject does not cover the voxel.
    p_conjunction : array of shape (n_voxels,)
        The largest of the subjects' p values where their signs agree, else 1: the test of "in
        every one of these subjects" (minimum statistic, Nichols et al. 2005).
    roi_table : pandas.DataFrame
        contrast, roi, hemi ("L", "R", "both"), subject ("group" or a name), n_voxels (of the
        subject's own ROI; of the group, all subjects' together), difference, ci_low, ci_high (of
        95 %), t, dof, p, p_fdr, p_max, p_max_contrasts (corrected over the contrasts made together,
        too; p_max where there is one), n_subjects (who have the ROI), n_agree (of these, with the
        sign of this row's difference), p_agree (how often as many agree when images are exchanged).
        Responses are means over each subject's own ROI in native space, the group's the mean over
        subjects. Families of the corrections are the rows of one subject.
    condition_table : pandas.DataFrame
        roi, hemi, subject, condition, n, mean, sem.
    prediction : Prediction
        What was contrasted.
    conditions : tuple of str
        The condition of each of its images.
    n_permutations : int
    seed : int or None
    alpha : float
    controls : tuple of Control
        Those that were asked for.
    of_controls : dict of str to Contrast
        The same contrast of what each untrained control predicts.
    of_images : pandas.DataFrame or None
        The contrast of the images' luminance, where that was a control; see `contrast_properties`.
    """

    name: str
    weights: dict[str, float]
    counts: dict[str, int]
    test: WelchTest
    p_fdr: NDArray[np.float64]
    p_max: NDArray[np.float64]
    subject_differences: NDArray[np.float64]
    subject_t: NDArray[np.float64]
    conjunction: NDArray[np.int8]
    p_conjunction: NDArray[np.float64]
    roi_table: pd.DataFrame
    condition_table: pd.DataFrame
    prediction: Prediction
    conditions: tuple[str, ...]
    n_permutations: int
    seed: int | None
    alpha: float
    controls: tuple[Control, ...] = ()
    of_controls: dict[str, Contrast] = field(default_factory=dict)
    of_images: pd.DataFrame | None = None

    @property
    def models(self) -> dict[str, Contrast]:
        """The encoder's contrast and its controls', each by what tables call it."""
        return {ENCODER: self, **self.of_controls}

    def plot(self, threshold: str = "p_fdr", alpha: float | None = None) -> Figure:
        """Draw the t map on a glass brain above the ROIs' means and differences.

        Parameters
        ----------
        threshold : {"p_fdr", "p_max", "conjunction", "none"}
            Which voxels are drawn; see `imgtofmri.analyses.contrast.figures.plot_contrast`.
        alpha : float, optional
            By default the contrast's own.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        OptionError
            If ``threshold`` is unknown.
        """
        from imgtofmri.analyses.contrast.figures import plot_contrast

        return plot_contrast(self, threshold, self.alpha if alpha is None else alpha)

    def plot_controls(self) -> Figure:
        """Draw t in each ROI beside that of the controls, and of the images' own properties.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        OptionError
            If there are no controls.
        """
        from imgtofmri.analyses.contrast.figures import plot_controls

        if not self.controls:
            message = (
                "controls must have been given to `compute_contrast`; got none. Give it those of "
                '`encoder.controls(["untrained", "luminance"], average="mean").predict(images)`.'
            )
            raise OptionError(message, "controls")
        return plot_controls(self.joined("roi_table"), self.of_images)

    def joined(self, table: str) -> pd.DataFrame:
        """Return a table of the encoder above those of its controls, told apart by ``model``.

        Parameters
        ----------
        table : {"roi_table", "condition_table"}

        Raises
        ------
        OptionError
            If there is no such table.
        """
        import pandas as pd

        check_choice("table", table, ("roi_table", "condition_table"))
        parts = {name: getattr(one, table) for name, one in self.models.items()}
        rows: pd.DataFrame = pd.concat(parts, names=["model"])
        return rows.reset_index("model").reset_index(drop=True)

    def to_img(self, what: str = "t") -> Any:
        """Return one map as a NIfTI image on the template's grid.

        Parameters
        ----------
        what : {"difference", "t", "p", "p_fdr", "p_max", "conjunction", "p_conjunction"}
            Outside the mask p is 1 and the rest 0; NaN in the mask where nothing could be tested.
            The header says what the values are.

        Raises
        ------
        OptionError
            If there is no such map.
        """
        check_choice("what", what, OUTSIDE)
        return to_img(
            values_of(self, what)[None],
            self.prediction.mask,
            self.prediction.affine,
            outside=OUTSIDE[what],
            statistic=statistic_of(self, what),
        )


def compute_contrasts(
    prediction: Prediction,
    conditions: Sequence[str] | Mapping[str, str],
    contrasts: Sequence[str | Mapping[str, float]],
    n_permutations: int = 1000,
    seed: int | None = 0,
    alpha: float = 0.05,
    controls: Sequence[Control] = (),
) -> list[Contrast]:
    """Make several contrasts, and correct ROI rows over all of them, too.

    Parameters
    ----------
    contrasts : sequence of str or mapping of str to float
        Each as for `compute_contrast`.
    prediction, conditions, n_permutations, seed, alpha, controls
        As for `compute_contrast`.

    Returns
    -------
    list of Contrast
        Each as `compute_contrast` makes it, but for the column ``p_max_contrasts`` of its
        ``roi_table``: corrected by the largest absolute t over places and contrasts, under
        exchanges that contrasts share; never below ``p_max``. Maps are corrected over the voxels of
        their own contrast only.

    Raises
    ------
    OptionError
        If there is none, or as `compute_contrast` does.
    ShapeError, DataError
        As `compute_contrast`.
    """
    if not contrasts:
        message = "contrasts must be one or more; got none. Name one, such as 'house - face'."
        raise OptionError(message)
    results = [
        compute_contrast(prediction, conditions, one, n_permutations, seed, alpha, controls)
        for one in contrasts
    ]
    if len(results) == 1:
        return results
    designs = [_Design.of(conditions, one, prediction.names) for one in contrasts]
    corrected: list[dict[str, Contrast]] = [{} for _ in results]
    for model in results[0].models:
        together = _over_contrasts([one.models[model] for one in results], designs)
        for found, one in zip(corrected, together, strict=True):
            found[model] = one
    return [replace(of.pop(ENCODER), of_controls=of) for of in corrected]


def _over_contrasts(results: Sequence[Contrast], designs: Sequence[_Design]) -> list[Contrast]:
    """Correct the ROI rows of one model over contrasts."""
    first = results[0]
    responses = RoiResponses.of(first.prediction)
    families = permuted_together(
        responses.values,
        [(design.chosen, design.labels, design.weights) for design in designs],
        first.n_permutations,
        first.seed,
    )
    corrected = []
    for number, result in enumerate(results):
        p = [family[number] for family in families]
        table = result.roi_table.copy()
        joint = np.concatenate([responses.of_owner(at, of) for at, of in enumerate(p)])
        table["p_max_contrasts"] = np.maximum(table["p_max"], joint)
        corrected.append(replace(result, roi_table=table))
    return corrected


def compute_contrast(
    prediction: Prediction,
    conditions: Sequence[str] | Mapping[str, str],
    contrast: str | Mapping[str, float] | None = None,
    n_permutations: int = 1000,
    seed: int | None = 0,
    alpha: float = 0.05,
    controls: Sequence[Control] = (),
) -> Contrast:
    """Contrast predicted responses between conditions, images being the random factor.

    Each place is tested with Welch's t over images: voxels of the group's and the subjects' maps,
    and means over each subject's own ROI in native space, with their mean over subjects. Under the
    null hypothesis images are exchanged between the conditions that have a weight; all voxels, ROIs
    and subjects see the same exchange. Other images play no part. Predictions carry no measurement
    noise: p says how surely the difference would be found with other images of the same kinds, not
    with other people.

    Parameters
    ----------
    prediction : Prediction
        Predicted with ``average="mean"``; the z-scores of the published model discard amplitude.
    conditions : sequence of str, length n_stimuli; or mapping or pandas.Series of str to str
        The condition of each image, in order or by the images' names: a Series whose index holds
        text is labelled by it. Numbers count as the text that writes them.
    contrast : str or mapping of str to float, optional
        ``"house - face"``, ``"scene > face + object"``, or one weight for each condition. By
        default the first of two conditions minus the second.
    n_permutations : int
        Exchanges for ``p_max``.
    seed : int or None
        The same seed gives the same exchanges and the same answer, whatever the thread count.
    alpha : float
        Level of each subject's test in the conjunction.
    controls : sequence of Control
        From `Encoder.controls`: untrained networks' predictions of the same images are contrasted
        alike, and so is the images' luminance. No number of the encoder's depends on them.

    Returns
    -------
    Contrast

    Raises
    ------
    OptionError
        If the contrast is none, names an unknown condition, or the prediction lacks amplitude.
    ShapeError
        If there is not one condition for each image, or a control is of other images.
    DataError
        If a condition has fewer than 2 images, an image's responses are NaN or all the same, or all
        images give an ROI the same response.

    References
    ----------
    Westfall PH, Young SS (1993), Resampling-Based Multiple Testing, Wiley.
    Nichols T et al. (2005), doi:10.1016/j.neuroimage.2004.12.005 (conjunction).
    """
    tell_of_copies(prediction)
    design = _Design.of(conditions, contrast, prediction.names)
    result = _contrast(prediction, design, n_permutations, seed, alpha)
    of_controls = {
        name: _contrast(other, design, n_permutations, seed, alpha)
        for name, other in control_predictions(controls, prediction).items()
    }
    of_images = None
    for control in controls:
        if control.prediction is None:
            light = control.properties.drop(columns="size")
            of_images = contrast_properties(
                light, design.conditions, contrast, n_permutations, seed
            )
    return replace(result, controls=tuple(controls), of_controls=of_controls, of_images=of_images)


def contrast_properties(
    properties: pd.DataFrame,
    conditions: Sequence[str],
    contrast: str | Mapping[str, float] | None = None,
    n_permutations: int = 1000,
    seed: int | None = 0,
) -> pd.DataFrame:
    """Contrast what is measured on the images themselves, such as luminance, as responses are.

    The same test as in `compute_contrast`, with the same exchanges for the same seed: Welch's
    t over images, and under the null hypothesis images are exchanged between the conditions that
    have a weight.

    Parameters
    ----------
    properties : pandas.DataFrame
        One row for each image and one column of numbers for each property; a column ``stimulus``
        names the images.
    conditions : sequence of str
        The condition of each image.
    contrast, n_permutations, seed
        As for `compute_contrast`.

    Returns
    -------
    pandas.DataFrame
        One row for each property: contrast, property, difference, ci_low, ci_high (95 %),
        d (difference in standard deviations of the images within conditions), t, dof, p, p_fdr,
        p_max (corrected over the properties). NaN where a property does not vary.

    Raises
    ------
    OptionError, ShapeError
        As `compute_contrast`.
    DataError
        If a condition has fewer than 2 images, or a property is missing for an image.
    """
    import pandas as pd

    names = list(properties.get("stimulus", range(len(properties))))
    measured = properties.drop(columns="stimulus", errors="ignore")
    design = _Design.of(conditions, contrast, names)
    values = measured.to_numpy(dtype=np.float64)[design.chosen]
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        row, column = bad[0]
        message = (
            f"properties must be finite; image {names[design.chosen[row]]!r} has "
            f"{values[row, column]} for {measured.columns[column]}. Measure it again or leave it "
            "out."
        )
        raise DataError(message)
    labels, weights = design.labels, design.weights
    ((test, null),) = permuted_tests([values], labels, weights, n_permutations, seed)
    within = np.mean([part.var(axis=0, ddof=1) for _, part in design.split(values)], axis=0)
    tested = ~np.isnan(test.t)
    d = np.full(len(within), np.nan)
    d[tested] = test.difference[tested] / np.sqrt(within[tested])
    columns = {"contrast": design.name, "property": list(measured.columns)}
    table = pd.DataFrame({**columns, **test.columns(null)})
    table.insert(list(table).index("t"), "d", d)
    return table


@dataclass(frozen=True)
class _Design:
    """Which images take part in a contrast, and what their conditions weigh.

    ``labels`` are the conditions of the ``chosen`` images, those whose condition has a weight, as
    positions in ``kinds``, to which ``weights`` belong.
    """

    name: str
    conditions: tuple[str, ...]
    kinds: tuple[str, ...]
    weights: NDArray[np.float64]
    chosen: NDArray[np.intp]
    labels: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        conditions: Sequence[str] | Mapping[str, str],
        contrast: str | Mapping[str, float] | None,
        images: Sequence[object],
    ) -> _Design:
        """Make it for images of some names, refusing what cannot be tested."""
        # A pandas Series is labelled by its index, unless that does no more than count.
        index = getattr(conditions, "index", ())
        if not callable(index) and any(isinstance(label, str) for label in index):
            conditions = dict(zip(index, conditions, strict=True))
        if isinstance(conditions, Mapping):
            conditions = [conditions[name] for name in map(str, images) if name in conditions]
        conditions = [str(condition) for condition in conditions]
        counts = Counter(conditions)
        if len(conditions) != len(images):
            message = (
                f"conditions must label each of the {len(images)} images; got {len(conditions)}. "
                "Give one condition for each."
            )
            raise ShapeError(message)
        kinds = tuple(counts)
        contrast = default_contrast(kinds) if contrast is None else contrast
        if isinstance(contrast, Mapping):
            contrast = {str(kind): weight for kind, weight in contrast.items()}
        weights = contrast_weights(contrast, kinds)
        for kind, weight in zip(kinds, weights, strict=True):
            if weight and counts[kind] < 2:
                message = (
                    "each condition needs at least 2 images, as images are the random factor; "
                    f"condition {kind!r} has {counts[kind]}. Add images."
                )
                raise DataError(message)
        labels = np.array([kinds.index(condition) for condition in conditions], dtype=np.intp)
        chosen = np.flatnonzero(weights[labels])
        name = written_contrast(contrast)
        return cls(name, tuple(conditions), kinds, weights, chosen, labels[chosen])

    def split(self, values: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Yield each condition that has a weight, with its rows."""
        for index in np.flatnonzero(self.weights):
            yield self.kinds[index], values[self.labels == index]


def _contrast(
    prediction: Prediction,
    design: _Design,
    n_permutations: int,
    seed: int | None,
    alpha: float,
) -> Contrast:
    """Contrast one prediction."""
    if not 0 < alpha < 1:
        message = f"alpha must lie between 0 and 1; got {alpha}. Use 0.05."
        raise OptionError(message, "alpha")
    if prediction.average != "mean":
        message = (
            'average must be "mean" for a contrast, as z-scores have lost their amplitude; got '
            f"{prediction.average!r}. Predict with that average."
        )
        raise OptionError(message, "average")
    prediction.check_whole(subjects=True, native=True)
    labels, weights, chosen = design.labels, design.weights, design.chosen
    covered = prediction.covered
    names = [prediction.names[index] for index in chosen]
    group = prediction.group[chosen][:, covered].astype(np.float64)
    _check_responses(group, [native[chosen] for native in prediction.native], names)
    responses = RoiResponses.of(prediction)
    responses.check_vary(chosen)
    rois = [values[chosen] for values in responses.values]

    agreement = SignAgreement([welch_test(values, labels, weights).t for values in rois])
    (test, null), *roi_tests = permuted_tests(
        [group, *rois],
        labels,
        weights,
        n_permutations,
        seed,
        watch=lambda null_t: agreement.update(null_t[1:]),
    )
    subject_tests = [
        welch_test(values, labels, weights) for values in _own_responses(prediction, chosen)
    ]
    subject_t = np.stack([result.t for result in subject_tests])
    subject_p = np.stack([result.p for result in subject_tests])
    conjunction, p_conjunction = _conjunction(subject_t, subject_p, alpha)
    p_conjunction[~covered] = np.nan
    return Contrast(
        name=design.name,
        weights={
            condition: float(weight)
            for condition, weight in zip(design.kinds, weights, strict=True)
            if weight
        },
        counts={condition: len(rows) for condition, rows in design.split(group)},
        test=WelchTest(
            *(
                _spread(values, covered)
                for values in (test.difference, test.standard_error, test.t, test.dof, test.p)
            )
        ),
        p_fdr=_spread(fdr(test.p), covered),
        p_max=_spread(null.p_max, covered),
        subject_differences=np.stack([result.difference for result in subject_tests]),
        subject_t=subject_t,
        conjunction=conjunction,
        p_conjunction=p_conjunction,
        roi_table=roi_table(design.name, responses, roi_tests, agreement),
        condition_table=condition_table(responses, [dict(design.split(values)) for values in rois]),
        prediction=prediction,
        conditions=design.conditions,
        n_permutations=n_permutations,
        seed=seed,
        alpha=alpha,
    )


def _check_responses(
    group: NDArray[np.float64],
    native: Sequence[NDArray[np.floating[Any]]],
    names: Sequence[str],
) -> None:
    """Refuse NaN and images whose response is the same everywhere."""
    bad = np.zeros(len(names), dtype=bool)
    for responses in (group, *native):
        bad |= ~np.isfinite(responses).all(axis=1)
    if bad.any():
        message = (
            f"responses must be finite; image {names[int(np.argmax(bad))]!r} has NaN or infinite "
            "voxels. Predict it again or leave it out."
        )
        raise DataError(message)
    flat = np.flatnonzero(group.max(axis=1, initial=-np.inf) == group.min(axis=1, initial=np.inf))
    if group.shape[1] > 1 and flat.size:
        message = (
            f"a response must vary over voxels; image {names[flat[0]]!r} has "
            f"{group[flat[0], 0]:g} in all {group.shape[1]}. Leave it out."
        )
        raise DataError(message)


def _own_responses(
    prediction: Prediction, chosen: NDArray[np.intp]
) -> Iterator[NDArray[np.float64]]:
    """Yield each subject's responses at the template's voxels, NaN where the subject has none."""
    for maps, coverage in zip(prediction.subjects, prediction.coverage, strict=True):
        # A map is 0 where the subject does not reach, which is no response.
        yield maps[chosen] / np.where(coverage > 0, coverage.astype(np.float64), np.nan)


def _spread(values: NDArray[np.float64], covered: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Put values of covered voxels among all, NaN elsewhere."""
    spread = np.full(covered.size, np.nan)
    spread[covered] = values
    return spread


def _conjunction(
    t: NDArray[np.float64], p: NDArray[np.float64], alpha: float
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Find where all subjects agree in sign, and how sure the least sure of them is."""
    direction = np.where((t > 0).all(axis=0), 1, np.where((t < 0).all(axis=0), -1, 0))
    largest = np.where(direction != 0, np.nan_to_num(p, nan=1.0).max(axis=0), 1.0)
    return np.where(largest < alpha, direction, 0).astype(np.int8), largest

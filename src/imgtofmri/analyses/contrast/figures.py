"""Figures of a contrast: where on the brain, and how large in each ROI."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.contrast.analysis import Contrast
from imgtofmri.exceptions import check_choice
from imgtofmri.figures.style import (
    DIVERGING,
    MARKS_LINE,
    colour_of,
    journal_style,
    significance_mark,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_contrast", "plot_controls"]

WIDTH_IN, HEIGHT_IN = 7.2, 4.6
LINE_CHARACTERS = 165

#: How voxels can be chosen for the glass brain.
THRESHOLDS = ("p_max", "p_fdr", "conjunction", "none")


def plot_contrast(
    result: Contrast, threshold: str = "p_fdr", alpha: float = 0.05, title: str = ""
) -> Figure:
    """Draw a contrast's t map on a glass brain, above its ROI means and differences.

    Parameters
    ----------
    result : Contrast
    threshold : {"p_fdr", "p_max", "conjunction", "none"}
        Which voxels are drawn: those below ``alpha`` after that correction, or where all subjects
        agree.
    alpha : float
    title : str
        Comes before the contrast's name.

    Returns
    -------
    matplotlib.figure.Figure
        Left: condition means of the group, standard errors over images. Right: the differences,
        95 % intervals over images, the subjects as open circles; marks are of ``p_max_contrasts``,
        over ROIs and the contrasts that were made together.

    Raises
    ------
    OptionError
        If ``threshold`` is unknown.
    """
    from matplotlib.figure import Figure

    check_choice("threshold", threshold, THRESHOLDS)
    with journal_style():
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
        figure.set_layout_engine("none")
        _draw_brain(figure, result, threshold, alpha, title)
        means = figure.add_axes((0.09, 0.14, 0.39, 0.33))
        differences = figure.add_axes((0.59, 0.14, 0.39, 0.33))
        _draw_means(means, result)
        _draw_differences(differences, result)
        for letter, left, height in (("a", 0.01, 0.95), ("b", 0.01, 0.50), ("c", 0.52, 0.50)):
            figure.text(left, height, letter, fontweight="bold", fontsize=9)
        told = (
            "Images are the random factor. b: means and standard errors; c: differences with 95 % "
            f"intervals, circles are subjects; max t over ROIs and contrasts: {MARKS_LINE}"
        )
        lines = [*textwrap.wrap(told, LINE_CHARACTERS), result.prediction.provenance.note]
        figure.text(0.01, 0.01, "\n".join(lines), fontsize=5.5, linespacing=1.3)
    return figure


def plot_controls(rois: pd.DataFrame, images: pd.DataFrame | None = None) -> Figure:
    """Draw a contrast's t in each ROI beside that of its controls.

    t, because a difference has the units of its network's features.

    Parameters
    ----------
    rois : pandas.DataFrame
        ROI tables of the encoder and its controls, with a first column ``model``.
    images : pandas.DataFrame, optional
        From `imgtofmri.analyses.contrast.contrast_properties`.

    Returns
    -------
    matplotlib.figure.Figure
        Left: the group's t in each ROI, a bar for each model. Right: t of the images' properties.
        Marks are of ``p_max_contrasts`` (images: ``p_max``), within each model.
    """
    from matplotlib.figure import Figure

    table = rois[(rois["hemi"] == "both") & (rois["subject"] == "group")]
    names = list(dict.fromkeys(table["roi"]))
    models = list(dict.fromkeys(table["model"]))
    n_images = 0 if images is None else len(images)
    with journal_style():
        width = min(WIDTH_IN, 1.4 + 0.7 * (len(names) + n_images))
        figure = Figure(figsize=(width, 2.6))
        ratios = [len(names) + 0.5, n_images + 0.5][: 1 + (images is not None)]
        panels = figure.subplots(1, len(ratios), width_ratios=ratios, sharey=True, squeeze=False)[0]
        step = 0.8 / len(models)
        for number, model in enumerate(models):
            rows = table[table["model"] == model].set_index("roi").loc[names]
            places = np.arange(len(names)) + (number - (len(models) - 1) / 2) * step
            grey = str(min(0.8, 0.4 + 0.15 * number))
            colour = colour_of(0) if number == 0 else grey
            panels[0].bar(places, rows["t"], 0.92 * step, color=colour, label=model)
            _mark_bars(panels[0], places, rows, "p_max_contrasts")
        _finish(panels[0], names, "t over images")
        panels[0].margins(y=0.15)
        if images is not None:
            at = np.arange(float(n_images))
            panels[1].bar(at, images["t"].fillna(0.0), 0.6, color="0.6")
            _mark_bars(panels[1], at, images, "p_max")
            _finish(panels[1], images["property"].tolist(), "")
            panels[1].set_title("images")
            panels[1].set_xlim(-0.75, n_images - 0.25)
        panels[0].set_title(str(table["contrast"].iloc[0]))
        figure.legend(loc="outside upper right", ncols=len(models))
        figure.supxlabel(f"{MARKS_LINE}, exchanged images", x=0.01, ha="left", fontsize=5.5)
    return figure


def _mark_bars(axes: Axes, places: NDArray[Any], rows: pd.DataFrame, of: str) -> None:
    """Write marks beyond the ends of bars of t."""
    for place, t, p in zip(places, rows["t"], rows[of], strict=True):
        up = not t < 0
        axes.annotate(
            significance_mark(p),
            (place, 0.0 if np.isnan(t) else t),
            xytext=(0, 1 if up else -2),
            textcoords="offset points",
            ha="center",
            va="bottom" if up else "top",
            fontsize=6,
        )


def _draw_brain(figure: Figure, result: Contrast, threshold: str, alpha: float, title: str) -> None:
    """Draw the t map where the threshold lets it through."""
    import nibabel as nib
    from nilearn import plotting

    volume = np.nan_to_num(result.to_img("t").get_fdata(dtype=np.float32))
    if threshold == "conjunction":
        shown = result.to_img("conjunction").get_fdata() != 0
        rule = f"every subject p < {result.alpha:g} uncorrected, same sign"
    elif threshold == "none":
        shown = ~np.isnan(result.to_img("t").get_fdata()) & result.prediction.mask
        rule = "no threshold"
    else:
        shown = result.to_img(threshold).get_fdata() < alpha
        rule = f"{'FDR' if threshold == 'p_fdr' else 'max-t'} p < {alpha:g}"
    values = np.abs(volume[shown])
    brain = figure.add_axes((0.04, 0.55, 0.86, 0.38))
    where: dict[str, Any] = {"display_mode": "lyrz", "axes": brain, "figure": figure}
    if values.size:
        plotting.plot_glass_brain(
            nib.Nifti1Image(np.where(shown, volume, 0.0), result.prediction.affine),
            colorbar=True,
            plot_abs=False,
            symmetric_cbar=True,
            cmap=DIVERGING,
            threshold=1e-6,
            vmax=float(np.percentile(values, 99)),
            **where,
        )
    else:
        plotting.plot_glass_brain(None, **where)
    counts = ", ".join(f"{name} n = {count}" for name, count in result.counts.items())
    figure.text(0.04, 0.95, f"{title}{result.name}   ({counts})", fontsize=8)
    figure.text(0.96, 0.95, f"t, {rule}: {shown.sum():,} voxels", fontsize=6.5, ha="right")


def _draw_means(axes: Axes, result: Contrast) -> None:
    """Draw the group's condition means in each ROI as bars."""
    table = result.condition_table.query("subject == 'group' and hemi == 'both'")
    rois = list(dict.fromkeys(table["roi"]))
    conditions = sorted(result.weights, key=lambda name: -result.weights[name])
    width = 0.8 / len(conditions)
    for number, condition in enumerate(conditions):
        rows = table[table["condition"] == condition].set_index("roi").loc[rois]
        places = np.arange(len(rois)) + (number - (len(conditions) - 1) / 2) * width
        axes.bar(
            places,
            rows["mean"],
            width * 0.92,
            yerr=rows["sem"].to_numpy(),
            color=colour_of(number),
            label=condition,
            error_kw={"elinewidth": 0.7},
        )
    _finish(axes, rois, "predicted response (model units)")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(4, len(conditions)))


def _draw_differences(axes: Axes, result: Contrast) -> None:
    """Draw the contrast in each ROI: the group with its interval, and each subject."""
    table = result.roi_table[result.roi_table["hemi"] == "both"]
    group = table[table["subject"] == "group"]
    rois = group["roi"].tolist()
    places: Any = np.arange(len(rois))
    below, above = (group["difference"] - group["ci_low"], group["ci_high"] - group["difference"])
    error = np.stack([below.to_numpy(), above.to_numpy()])
    axes.errorbar(
        places, group["difference"], yerr=error, fmt="o", color="black", ms=4, lw=0.9, zorder=3
    )
    for number, subject in enumerate(result.prediction.subject_names):
        rows = table[table["subject"] == subject].set_index("roi").reindex(rois)
        shift = 0.16 + 0.11 * number
        axes.plot(
            places + shift,
            rows["difference"],
            "o",
            mfc="none",
            mec=colour_of(number + 2),
            ms=3,
            mew=0.7,
            label=subject,
        )
    highest = table.groupby("roi", sort=False)["difference"].max()[rois].to_numpy()
    top = np.maximum(group["ci_high"].to_numpy(), highest)
    for place, height, p in zip(places, top, group["p_max_contrasts"], strict=True):
        axes.annotate(
            significance_mark(p),
            (place, height),
            xytext=(0, 1),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axes.margins(y=0.15)
    _finish(axes, rois, "difference (model units)")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, handletextpad=0.1)


def _finish(axes: Axes, rois: list[str], label: str) -> None:
    """Label a panel whose columns are ROIs."""
    axes.axhline(0.0, color="0.5", lw=0.6, zorder=0)
    axes.set_xticks(range(len(rois)), rois)
    axes.set_ylabel(label)
    axes.tick_params(axis="x", length=0)

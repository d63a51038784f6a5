"""Figures of one map: on a glass brain, on slices, on the cortical surface; and bars of ROIs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.figures.style import DIVERGING, FOOTNOTE, colour_of, journal_style, plain

if TYPE_CHECKING:
    import nibabel as nib
    from matplotlib.figure import Figure
    from nilearn.surface import SurfaceImage

__all__ = ["plot_glass", "plot_roi_bars", "plot_roi_lines", "plot_slices", "plot_surface"]

WIDTH_IN = 7.2
N_SLICES = 6
MARGIN_MM = 12.0
"""Of anatomy around what slices show."""

VIEWS = ("lateral", "medial", "ventral")
_SMALLEST = 1e-6
"""What is below is not drawn: nothing of the mask, as no response is exactly 0."""

_NOTE_IN, _LINE_IN, _CHARACTER_IN = 0.08, 0.1, 0.039
_BAR_CHARACTER_IN = 0.053
"""How wide a character beside a colour bar is at most."""


def plot_glass(
    image: nib.Nifti1Image,
    title: str,
    label: str,
    note: str = "",
    *,
    picture: npt.NDArray[np.uint8] | None = None,
    vmax: float | None = None,
) -> Figure:
    """Draw a map on a glass brain, from the left, behind, the right and above.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        3-D; NaN and 0 are not drawn.
    title, label, note : str
        Above; beside the colour bar, with the unit; below.
    picture : array of shape (height, width, 3), uint8, optional
        What it is the response to, to stand on the left.
    vmax : float, optional
        Where the colours end, on both sides of 0; by default the 99th percentile.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from nilearn import plotting

    figure, bottom, top = _canvas(1.75, title, note)
    left = _draw_picture(figure, picture, bottom, top)
    brain = figure.add_axes((left, bottom, 0.955 - left, top - bottom))
    with journal_style():
        plotting.plot_glass_brain(
            _finite(image),
            display_mode="lyrz",
            axes=brain,
            figure=figure,
            colorbar=True,
            plot_abs=False,
            symmetric_cbar=True,
            cmap=DIVERGING,
            threshold=_SMALLEST,
            vmax=vmax or robust_maximum(_finite(image)),
        )
    _label_bar(figure, label, bottom, top)
    return figure


def plot_slices(
    image: nib.Nifti1Image,
    title: str,
    label: str,
    note: str = "",
    *,
    in_mni: bool = True,
    vmax: float | None = None,
) -> Figure:
    """Draw a map on horizontal slices, the left hemisphere on the left.

    Parameters
    ----------
    image, title, label, note, vmax
        As for `plot_glass`.
    in_mni : bool
        Whether an anatomical image of MNI152 can lie below.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from nilearn import plotting

    finite = _finite(image)
    below: dict[str, Any] = {} if in_mni else {"bg_img": None}
    background = "; background: nilearn's MNI152 template" if in_mni else ""
    figure, bottom, top = _canvas(1.3, title, f"{note}{background}; L is left, z in mm")
    axes = figure.add_axes((0.01, bottom, 0.94, top - bottom))
    index = np.argwhere(np.asarray(finite.dataobj))
    places = index @ finite.affine[:3, :3].T + finite.affine[:3, 3]
    with journal_style():
        display = plotting.plot_stat_map(
            finite,
            display_mode="z",
            cut_coords=_heights(places),
            axes=axes,
            figure=figure,
            draw_cross=False,
            annotate=False,
            black_bg=False,
            symmetric_cbar=True,
            cmap=DIVERGING,
            threshold=_SMALLEST,
            vmax=vmax or robust_maximum(finite),
            **below,
        )
        display.annotate(size=6)
        if len(places):
            low, high = places.min(axis=0) - MARGIN_MM, places.max(axis=0) + MARGIN_MM
            for cut in display.axes.values():
                cut.ax.set_xlim(low[0], high[0])
                cut.ax.set_ylim(low[1], high[1])
    _label_bar(figure, label, bottom, top)
    return figure


def plot_surface(
    surface: SurfaceImage, title: str, label: str, note: str = "", *, vmax: float | None = None
) -> Figure:
    """Draw a map on fsaverage5, inflated, each hemisphere from three sides.

    Parameters
    ----------
    surface : nilearn.surface.SurfaceImage
        Of fsaverage5, one map; NaN is not drawn.
    title, label, note, vmax
        As for `plot_glass`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn import plotting
    from nilearn.datasets import load_fsaverage, load_fsaverage_data
    from nilearn.surface import SurfaceImage

    known = [values[np.isfinite(values)] for values in surface.data.parts.values()]
    values = np.abs(np.concatenate(known))
    limit = vmax or (float(np.percentile(values, 99)) if values.size else 1.0)
    mesh = load_fsaverage("fsaverage5")["inflated"]
    folds = load_fsaverage_data(mesh="fsaverage5", data_type="sulcal", mesh_type="inflated")
    shown = SurfaceImage(mesh, {side: np.nan_to_num(v) for side, v in surface.data.parts.items()})
    figure, bottom, top = _canvas(2.9, title, f"{note}; shown on fsaverage5, inflated")
    width, height = 0.9 / len(VIEWS), (top - bottom) / 2
    with journal_style():
        for row, hemi in enumerate(("left", "right")):
            for column, view in enumerate(VIEWS):
                left, low = column * width, top - (row + 1) * height
                # A frame larger than its place: views in three dimensions leave its edges empty.
                frame = (left - 0.15 * width, low - 0.2 * height, 1.3 * width, 1.4 * height)
                axes = figure.add_axes(frame, projection="3d", facecolor="none")
                plotting.plot_surf_stat_map(
                    stat_map=shown,
                    hemi=hemi,
                    view=view,
                    bg_map=folds,
                    axes=axes,
                    figure=figure,
                    colorbar=False,
                    cmap=DIVERGING,
                    threshold=_SMALLEST,
                    vmin=-limit,
                    vmax=limit,
                )
                figure.text(left + width / 2, low, f"{hemi}, {view}", ha="center", fontsize=6)
        bar = figure.add_axes((0.915, bottom + 0.1, 0.012, top - bottom - 0.15))
        figure.colorbar(ScalarMappable(Normalize(-limit, limit), DIVERGING), cax=bar)
        bar.tick_params(labelsize=6)
    _label_bar(figure, label, bottom, top)
    return figure


def plot_roi_bars(
    means: Mapping[str, npt.NDArray[np.float64]],
    rois: Sequence[str],
    stimuli: Sequence[str],
    title: str,
    label: str,
    note: str = "",
) -> Figure:
    """Draw the mean response of each ROI to each of some stimuli, and each person's.

    Parameters
    ----------
    means : mapping of str to array of shape (n_rois, n_stimuli)
        The group's first, then each person's; NaN where a person lacks an ROI.
    rois, stimuli : sequence of str
    title, label, note : str
        As for `plot_glass`.

    Returns
    -------
    matplotlib.figure.Figure
        Bars are the group's, circles the people's.
    """
    (_, group), *people = means.items()
    figure, bottom, top = _canvas(2.1, title, note)
    with journal_style():
        axes = figure.add_axes((0.075, bottom + 0.12, 0.62, top - bottom - 0.14))
        step = 0.8 / len(stimuli)
        places = np.arange(len(rois))
        for number, stimulus in enumerate(stimuli):
            at = places + (number - (len(stimuli) - 1) / 2) * step
            axes.bar(
                at, group[:, number], 0.92 * step, color=colour_of(number), label=plain(stimulus)
            )
            for person, (name, values) in enumerate(people):
                spread = (person - (len(people) - 1) / 2) * min(0.12, 0.8 * step / len(people))
                axes.plot(
                    at + spread,
                    values[:, number],
                    "o",
                    ms=3,
                    mew=0.6,
                    mec="black",
                    mfc=str(person / max(1, len(people) - 1)),
                    label=name if number == 0 else None,
                )
        axes.axhline(0, color="0.5", lw=0.6, zorder=0)
        axes.set_xticks(places, rois)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(label)
        handles, labels = axes.get_legend_handles_labels()
        bars = sorted(zip(handles, labels, strict=True), key=lambda pair: pair[1] in means)
        figure.legend(
            [handle for handle, _ in bars],
            [text if text in means else f"group, {text}" for _, text in bars],
            loc="upper left",
            bbox_to_anchor=(0.71, top),
        )
    return figure


def plot_roi_lines(
    means: Mapping[str, npt.NDArray[np.float64]],
    rois: Sequence[str],
    onsets_s: npt.NDArray[np.float64],
    title: str,
    label: str,
    note: str = "",
) -> Figure:
    """Draw the mean response of each ROI over a movie: the group's, and each person's in grey.

    Parameters
    ----------
    means, rois, title, label, note
        As for `plot_roi_bars`.
    onsets_s : array of shape (n_stimuli,)

    Returns
    -------
    matplotlib.figure.Figure
    """
    (_, group), *people = means.items()
    figure, bottom, top = _canvas(0.8 * len(rois) + 0.4, title, note)
    with journal_style():
        high = (top - bottom - 0.12) / len(rois)
        shared = None
        for number, roi in enumerate(rois):
            place = (0.11, top - (number + 1) * high, 0.87, 0.85 * high)
            axes = figure.add_axes(place, sharex=shared)
            shared = shared or axes
            for _, values in people:
                axes.plot(onsets_s, values[number], color="0.7", lw=0.6)
            axes.plot(onsets_s, group[number], color=colour_of(number))
            axes.axhline(0, color="0.5", lw=0.6, zorder=0)
            axes.margins(x=0)
            axes.set_ylabel(roi)
            axes.tick_params(labelbottom=number == len(rois) - 1)
        axes.set_xlabel("time (s)")
        figure.text(
            0.012, (bottom + top) / 2, label, rotation=90, va="center", ha="center", fontsize=7
        )
        figure.text(0.98, top + 0.01, "colour: group; grey: people", fontsize=6, ha="right")
    return figure


def _canvas(content_in: float, title: str, note: str) -> tuple[Figure, float, float]:
    """Return a figure with a title and a footnote, and where the content lies between them."""
    from matplotlib.figure import Figure

    per_line = int((WIDTH_IN - 0.1) / _CHARACTER_IN)
    lines = [*textwrap.wrap(plain(note), per_line), *textwrap.wrap(FOOTNOTE, per_line)]
    below, above = _NOTE_IN + _LINE_IN * len(lines), 0.3
    height = below + content_in + above
    with journal_style():
        figure = Figure(figsize=(WIDTH_IN, height))
        figure.set_layout_engine("none")
        figure.text(0.01, 1 - 0.05 / height, plain(title), fontsize=8, va="top")
        figure.text(
            0.01, 0.03 / height, "\n".join(lines), fontsize=5.5, color="0.35", linespacing=1.25
        )
    return figure, below / height, 1 - above / height


def _draw_picture(
    figure: Figure, picture: npt.NDArray[np.uint8] | None, bottom: float, top: float
) -> float:
    """Draw a picture on the left, if there is one, and return where the rest may begin."""
    if picture is None:
        return 0.01
    axes = figure.add_axes((0.01, bottom, 0.2, top - bottom))
    axes.imshow(picture)
    axes.set_axis_off()
    return 0.22


def robust_maximum(image: nib.Nifti1Image) -> float:
    """Return a colour limit that a single voxel cannot set: the 99th percentile of absolutes."""
    values = np.abs(np.asarray(image.dataobj))
    inside = values[values > 0]
    return float(np.percentile(inside, 99)) if inside.size else 1.0


def _finite(image: nib.Nifti1Image) -> nib.Nifti1Image:
    import nibabel as nib

    values = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32))
    return nib.Nifti1Image(values, image.affine)


def _label_bar(figure: Figure, label: str, bottom: float, top: float) -> None:
    fits = (top - bottom) * figure.get_figheight() / _BAR_CHARACTER_IN
    text = label if len(label) <= fits else label.replace(" (", "\n(")
    middle = (bottom + top) / 2
    figure.text(
        0.985, middle, text, rotation=270, va="center", ha="center", fontsize=6.5, linespacing=1.1
    )


def _heights(places_mm: npt.NDArray[np.float64]) -> list[float]:
    """Return heights in mm of slices that show most of a map, evenly spaced."""
    if not len(places_mm):
        return [0.0]
    low, high = np.percentile(places_mm[:, 2], [8, 92])
    return [float(round(z)) for z in np.linspace(low, high, N_SLICES)]

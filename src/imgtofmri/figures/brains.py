"""A predicted response on a glass brain, beside the picture that it is the response to."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri.figures.style import FOOTNOTE
from imgtofmri.files import atomic_path

if TYPE_CHECKING:
    import nibabel as nib

WIDTH_IN, HEIGHT_IN, DPI = 10.0, 2.9, 120
NOTE_CHARACTERS = 190


def plot_response(
    path: Path,
    picture: npt.NDArray[np.uint8],
    image: nib.Nifti1Image,
    title: str,
    note: str = "",
    label: str = "predicted response (z over voxels)",
    vmax: float | None = None,
) -> None:
    """Draw a picture and its predicted response, and write a PNG.

    Parameters
    ----------
    path : Path
        Where to write.
    picture : array of shape (height, width, 3), uint8
    image : nibabel.Nifti1Image
        3-D map in MNI space.
    title, note, label : str
        Above the picture, small below it (before the footnote of all figures), and beside the
        colour bar.
    vmax : float, optional
        Where the colours end, for figures that shall be compared; by default `robust_maximum`.
    """
    from matplotlib.figure import Figure
    from nilearn import plotting

    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI)
    left = figure.add_axes((0.01, 0.13, 0.25, 0.74))
    left.imshow(picture)
    left.set_axis_off()
    left.set_title(title, fontsize=9)
    lines = [*textwrap.wrap(note, NOTE_CHARACTERS), FOOTNOTE]
    figure.text(0.01, 0.01, "\n".join(lines), fontsize=6, color="0.35", va="bottom")
    brain = figure.add_axes((0.27, 0.10, 0.68, 0.86))
    plotting.plot_glass_brain(
        image,
        display_mode="lyrz",
        axes=brain,
        figure=figure,
        colorbar=True,
        plot_abs=False,
        symmetric_cbar=True,
        cmap="RdBu_r",
        threshold=1e-6,  # only what is in the mask is drawn
        vmax=robust_maximum(image) if vmax is None else vmax,
    )
    figure.text(0.985, 0.5, label, fontsize=7, rotation=270, va="center", ha="center")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="white")


def robust_maximum(image: Any) -> float:
    """Return a colour limit that a single voxel cannot set: the 99th percentile of absolutes."""
    values = np.abs(np.asarray(image.dataobj))
    inside = values[values > 0]
    return float(np.percentile(inside, 99)) if inside.size else 1.0

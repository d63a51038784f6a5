"""The panel of a rendered movie: a glass brain that is drawn again for each map."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.figures.style import DIVERGING, journal_style, plain
from imgtofmri.outputs import to_img
from imgtofmri.stimuli import Pixels

__all__ = ["BrainPanel"]

DPI = 100
ROWS = (("lr", 0.56), ("yz", 0.14))
"""Views, two side by side, and where their row begins."""

ROW_HEIGHT = 0.36
_SMALLEST = 1e-6
_CHARACTER_PX = 5.4


class BrainPanel:
    """Draws group maps on a glass brain, all on one scale.

    Parameters
    ----------
    width, height : int
        Of the panel, in pixels.
    mask : array of shape (X, Y, Z), bool
    affine : array of shape (4, 4)
    vmax : float
        Where the colours end, on both sides of 0.
    label, note : str
        Beside the colour bar, with the unit; small at the lower edge.
    """

    def __init__(
        self,
        width: int,
        height: int,
        mask: npt.NDArray[np.bool_],
        affine: npt.NDArray[np.float64],
        vmax: float,
        label: str,
        note: str,
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure
        from nilearn import plotting

        self._mask, self._affine, self._vmax = mask, affine, vmax
        with journal_style():
            figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
            figure.set_layout_engine("none")
            self._canvas: Any = FigureCanvasAgg(figure)
            self._displays: list[Any] = [
                plotting.plot_glass_brain(
                    None,
                    display_mode=views,
                    axes=(0.02, bottom, 0.96, ROW_HEIGHT),
                    figure=figure,
                    plot_abs=False,
                )
                for views, bottom in ROWS
            ]
            for side, left in (("left hemisphere", 0.26), ("right hemisphere", 0.74)):
                figure.text(left, ROWS[0][1] - 0.02, side, ha="center", fontsize=7)
            self._title = figure.text(0.03, 0.985, "", va="top", fontsize=9)
            bar = figure.add_axes((0.3, 0.105, 0.4, 0.018))
            scale = ScalarMappable(Normalize(-vmax, vmax), DIVERGING)
            figure.colorbar(scale, cax=bar, orientation="horizontal")
            bar.tick_params(labelsize=6, pad=1)
            bar.set_title(label, fontsize=7, loc="center", pad=2)
            lines = textwrap.wrap(plain(note), max(20, int(width / _CHARACTER_PX)))
            figure.text(0.03, 0.008, "\n".join(lines), fontsize=5, color="0.35", va="bottom")

    def draw(self, values: npt.NDArray[np.float32], title: str) -> Pixels:
        """Draw a map, shape (n_voxels,), and return the panel's pixels."""
        image = to_img(np.nan_to_num(values)[None], self._mask, self._affine)
        with journal_style():
            for display in self._displays:
                for view in display.axes.values():
                    for drawn in list(view.ax.images):
                        drawn.remove()
                display.add_overlay(
                    image, threshold=_SMALLEST, cmap=DIVERGING, vmin=-self._vmax, vmax=self._vmax
                )
            self._title.set_text(title)
            self._canvas.draw()
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

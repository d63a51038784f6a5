"""A prediction as a notebook shows it: static HTML, with its pictures inside."""

from __future__ import annotations

import base64
import io
import math
from html import escape
from typing import TYPE_CHECKING

from imgtofmri.encoder.regions import BOTH
from imgtofmri.encoder.showing import plot_prediction, thumbnail

if TYPE_CHECKING:
    from imgtofmri.encoder.prediction import Prediction

MOST_SHOWN = 12
"""Stimuli with a thumbnail and a row."""

SIDE, DPI = 96, 80
"""Pixels of thumbnails, and dots an inch of the brain: the whole stays below 300 kB."""

_CELL = "padding:2px 8px;text-align:right"


def prediction_html(prediction: Prediction) -> str:
    """Return a fragment of HTML: what it is, a glass brain, thumbnails, means of the ROIs.

    It needs no script and no other file, so that it survives a notebook's export.
    """
    from imgtofmri.encoder.regions import MODEL_UNIT
    from imgtofmri.figures.style import FOOTNOTE

    n_stimuli, shown = len(prediction), prediction[:MOST_SHOWN]
    kind = "images" if prediction.onsets_s is None else "frames"
    head = (
        f"<b>Prediction</b> of {n_stimuli} {kind}, {prediction.group.shape[1]:,} voxels in "
        f"{escape(prediction.space)}, {len(prediction.subject_names)} people; average "
        f"{escape(prediction.average)}, unit {escape(prediction.unit)}"
    )
    more = n_stimuli - len(shown)
    rest = f"<p>and {more} more: <code>roi_table()</code> has all</p>" if more else ""
    note = escape(". ".join(filter(None, (prediction.provenance.note, FOOTNOTE))))
    return (
        f'<div style="font:13px/1.4 sans-serif"><p>{head}</p>{_brain(shown)}'
        f"<p>Mean response of each person's own ROI, averaged over people ({MODEL_UNIT})</p>"
        f'{_table(shown)}{rest}<p style="color:#666;font-size:11px">{note}</p></div>'
    )


def _brain(shown: Prediction) -> str:
    if not len(shown):
        return ""
    buffer = io.BytesIO()
    plot_prediction(shown, "glass", 0).savefig(buffer, format="png", dpi=DPI)
    alt = f"predicted response to {shown.names[0]} on a glass brain"
    return _image(buffer.getvalue(), "png", alt, "max-width:100%")


def _table(shown: Prediction) -> str:
    means = shown.roi_means()
    both = [number for number, (_, hemi) in enumerate(means.places) if hemi == BOTH]
    names = "".join(f'<th style="{_CELL}">{escape(means.places[n][0])}</th>' for n in both)
    rows = []
    for number, name in enumerate(shown.names):
        cells = "".join(
            f'<td style="{_CELL}">{"n/a" if math.isnan(value) else format(value, ".3f")}</td>'
            for value in means.group[both, number]
        )
        title = f'<td style="padding:2px 8px;text-align:left">{escape(name)}</td>'
        rows.append(f"<tr><td>{_picture(shown[number])}</td>{title}{cells}</tr>")
    return f"<table><tr><th></th><th></th>{names}</tr>{''.join(rows)}</table>"


def _picture(one: Prediction) -> str:
    picture = thumbnail(one, SIDE)
    if picture is None:
        return ""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=75)
    return _image(buffer.getvalue(), "jpeg", one.names[0], "max-height:64px")


def _image(data: bytes, kind: str, alt: str, style: str) -> str:
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{escape(alt)}" style="{style}" src="data:image/{kind};base64,{encoded}">'

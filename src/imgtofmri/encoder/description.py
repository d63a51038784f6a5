"""What an encoder is, as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from imgtofmri.text import table_lines

if TYPE_CHECKING:
    from imgtofmri.bundle import Bundle

LINE_WIDTH = 110
MOST_FILES = 12
"""Of a fit, that are shown one by one: derivatives of some people are dozens."""


def card_lines(bundle: Bundle) -> Iterator[str]:
    """Yield a bundle's card as lines of text."""
    card, features = bundle.card, bundle.card["features"]
    yield f"{card['id']}: {card['title']}"
    yield ""
    yield f"network     {features['id']} ({features['n_features']} features)"
    if weights := features.get("weights"):
        yield f"weights     {weights['name']}"
    if note := features.get("emulation"):
        yield from _paragraph("emulated", str(note))
    yield f"space       {bundle.space}, grid {' x '.join(map(str, bundle.template.shape))}"
    for network in features.get("networks", ()):
        yield f"  {network['label']:<10}{network['id']} ({network['n_features']} features)"
        if note := network.get("emulation"):
            yield f"  {'':<10}emulated: {note}"
    for roi, layers in features.get("rois", {}).items():
        yield f"  {roi:<10}uses {', '.join(layers)}"
    for key in ("model", "units", "source", "accuracy", "trust", "limits", "restricted", "licence"):
        if key in card:
            yield from _paragraph(key, str(card[key]))
    citations = card["citation"]
    for number, citation in enumerate([citations] if isinstance(citations, str) else citations):
        yield f"{'' if number else 'cite':<12}{citation}"
    yield f"sha256      {bundle.sha256}"
    yield ""
    rows = accuracy_lines(bundle)
    if rows:
        yield from rows
        yield ""
        try:
            yield from list(_fit_lines(card.get("fit", {})))
        except (AttributeError, LookupError, TypeError, ValueError):
            # Made by other software, which may keep other things under this key.
            yield "fit         not in the form that imgtofmri writes; --json shows it"
        return
    width = max(len(roi) for roi in bundle.rois)
    names = [subject.name for subject in bundle.subjects]
    yield f"{'voxels':<{width}}  {'  '.join(f'{name:>6}' for name in names)}"
    for roi in bundle.rois:
        counts = [
            f"{subject.rois[roi].n_voxels if roi in subject.rois else '-':>{max(6, len(name))}}"
            for subject, name in zip(bundle.subjects, names, strict=True)
        ]
        yield f"{roi:<{width}}  {'  '.join(counts)}"


def _paragraph(key: str, text: str) -> list[str]:
    """Return a card's text in lines of a readable width, beside its key."""
    return textwrap.wrap(
        text,
        width=LINE_WIDTH,
        initial_indent=f"{key:<12}",
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _fit_lines(said: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a card says of the fit: data, splits, seed, penalties, versions, files."""
    for subject, data in said.get("data", {}).items():
        folds = ", ".join(map(str, data["folds"]))
        rows = f"{data['n_rows']} rows of {data['n_stimuli']} stimuli"
        yield f"data        {subject}: {rows}, folds of {folds}"
    for subject, how in said.get("estimates", {}).items():
        named = how["confounds"]
        # One pattern stands for several columns.
        are_patterns = any(set(name) & set("*?[") for name in named)
        confounds = ", ".join(named) if are_patterns else f"{len(named)} confounds"
        beside = f"{confounds}, drifts below {how['high_pass_hz']:g} Hz"
        yield f"estimates   {subject}: {how['estimator']}, {how['hrf']}; beside {beside}"
    settings = said.get("settings", {})
    if "alphas" in settings:
        alphas = settings["alphas"]
        yield f"penalties   {len(alphas)}, {min(alphas):g} to {max(alphas):g}"
        seed, column = settings.get("seed"), settings.get("fold_column")
        if column is not None:
            yield f"folds       those of the column {column} of the stimuli"
        if seed is not None or column is None:
            yield f"seed        {'none, stimuli in their order' if seed is None else seed}"
    versions = said.get("versions", {})
    if "torch" in versions:
        yield f"device      {said.get('device', 'cpu')}"
    if versions:
        yield f"versions    {', '.join(f'{name} {text}' for name, text in versions.items())}"
    files = list(said.get("files", {}).items())
    shown = files if len(files) <= MOST_FILES else files[: MOST_FILES - 1]
    for number, (name, digest) in enumerate(shown):
        yield f"{'' if number else 'files':<12}{digest[:12]}  {name}"
    if len(files) > len(shown):
        yield f"{'':<12}and {len(files) - len(shown)} more, which the card has (--json)"


def accuracy_lines(bundle: Bundle) -> list[str]:
    """Return the accuracy of a bundle's models by subject and ROI as lines of text.

    Parameters
    ----------
    bundle : Bundle
        As `imgtofmri.training.fit_study` returns it.

    Returns
    -------
    list of str
        A table of voxels, median cross-validated r, median noise ceiling and penalty; empty for a
        bundle that does not record them.
    """
    rows = []
    for subject in bundle.subjects:
        for roi, model in subject.rois.items():
            extras = model.extras
            if "cv_r" in extras:
                medians = [_median(extras, name) for name in ("cv_r", "noise_ceiling")]
                penalty = _range(extras["alpha"]) if "alpha" in extras else "-"
                rows.append((subject.name, roi, str(model.n_voxels), *medians, penalty))
    header = ("subject", "roi", "voxels", "cv r", "ceiling r", "penalty")
    return table_lines([header, *rows]) if rows else []


def _median(extras: Mapping[str, Any], name: str) -> str:
    import numpy as np

    return f"{np.median(extras[name]):.3f}" if name in extras else "-"


def _range(values: Any) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"

"""``imgtofmri describe``: what an encoder is, and what may be done with it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgtofmri.cli import options
from imgtofmri.cli.say import say, say_json
from imgtofmri.cli.text import accuracy_lines

if TYPE_CHECKING:
    from imgtofmri.bundle import Bundle


LINE_WIDTH = 110


def describe(
    encoder: Annotated[
        str, typer.Argument(metavar="[ID|FILE]", help="A published encoder's id, or a bundle.")
    ] = "bold5000-resnet18",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
    voxels: Annotated[
        Path | None,
        typer.Option(
            "--voxels", metavar="FILE", help="Write a table of each voxel and its accuracy (TSV)."
        ),
    ] = None,
    atlas: Annotated[
        Path | None,
        typer.Option(
            "--atlas",
            metavar="FILE",
            help="Write the ROIs as an image of labels (.nii.gz), with a table of them beside it.",
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Show an encoder's card: what it predicts, for whom, from which network, how to cite it.

    **Examples**

    imgtofmri describe

    imgtofmri describe my-encoder.safetensors --json

    imgtofmri describe my-encoder.safetensors --voxels voxels.tsv

    imgtofmri describe --atlas rois.nii.gz
    """
    from imgtofmri.encoder import load_encoder

    loaded = load_encoder(encoder, progress=not quiet)
    bundle = loaded.bundle
    if atlas is not None:
        for path in loaded.atlas().save(atlas):
            say(f"written {path}", err=True)
    if voxels is not None:
        from imgtofmri.encoder.voxelwise import voxel_table
        from imgtofmri.tables import write_table

        write_table(voxel_table(bundle), voxels)
        say(f"written {voxels}", err=True)
    if as_json:
        say_json(bundle.card)
    else:
        for line in card_lines(bundle):
            say(line)


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
        beside = f"{len(how['confounds'])} confounds, drifts below {how['high_pass_hz']:g} Hz"
        yield f"estimates   {subject}: {how['estimator']}, {how['hrf']}; beside {beside}"
    settings = said.get("settings", {})
    if "alphas" in settings:
        alphas = settings["alphas"]
        yield f"penalties   {len(alphas)}, {min(alphas):g} to {max(alphas):g}"
        seed = settings.get("seed")
        yield f"seed        {'none, stimuli in their order' if seed is None else seed}"
    versions = said.get("versions", {})
    if "torch" in versions:
        yield f"device      {said.get('device', 'cpu')}"
    if versions:
        yield f"versions    {', '.join(f'{name} {text}' for name, text in versions.items())}"
    for number, (name, digest) in enumerate(said.get("files", {}).items()):
        yield f"{'' if number else 'files':<12}{digest[:12]}  {name}"

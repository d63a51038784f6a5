"""``imgtofmri describe``: what an encoder is, and what may be done with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from imgtofmri.bundle import Bundle


def describe(
    encoder: Annotated[
        str, typer.Argument(metavar="[ID|FILE]", help="A published encoder's id, or a bundle.")
    ] = "bold5000-resnet18",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
) -> None:
    """Show an encoder's card: what it predicts, for whom, from which network, how to cite it.

    **Examples**

    imgtofmri describe

    imgtofmri describe my-encoder.safetensors --json
    """
    import json

    from imgtofmri.encoder import load_encoder

    bundle = load_encoder(encoder).bundle
    if as_json:
        typer.echo(json.dumps(bundle.card, indent=1, ensure_ascii=False))
    else:
        for line in card_lines(bundle):
            typer.echo(line)


def card_lines(bundle: Bundle) -> Iterator[str]:
    """Yield a bundle's card as lines of text."""
    card, features = bundle.card, bundle.card["features"]
    yield f"{card['id']}: {card['title']}"
    yield ""
    yield f"network     {features['id']} ({features['n_features']} features)"
    yield f"space       {bundle.space}, grid {' x '.join(map(str, bundle.template.shape))}"
    for key in ("model", "units", "source", "limits", "accuracy", "licence"):
        if key in card:
            yield f"{key:<12}{card[key]}"
    citations = card["citation"]
    for number, citation in enumerate([citations] if isinstance(citations, str) else citations):
        yield f"{'' if number else 'cite':<12}{citation}"
    yield ""
    width = max(len(roi) for roi in bundle.rois)
    names = [subject.name for subject in bundle.subjects]
    yield f"{'voxels':<{width}}  {'  '.join(f'{name:>6}' for name in names)}"
    for roi in bundle.rois:
        counts = [
            f"{subject.rois[roi].n_voxels if roi in subject.rois else '-':>{max(6, len(name))}}"
            for subject, name in zip(bundle.subjects, names, strict=True)
        ]
        yield f"{roi:<{width}}  {'  '.join(counts)}"

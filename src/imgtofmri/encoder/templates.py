"""An encoder in another template space than its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imgtofmri.bundle import Bundle
from imgtofmri.exceptions import DataError
from imgtofmri.files import sha256_of
from imgtofmri.spaces import map_through, map_to_template
from imgtofmri.spaces.names import transform_ends
from imgtofmri.spaces.templates import find_transform, template_grid


def move_bundle(bundle: Bundle, space: str, transform: str | Path | None = None) -> Bundle:
    """Bring an encoder to another template; see `Encoder.in_space`."""
    other = template_grid(space)
    file = find_transform(space, bundle.space) if transform is None else Path(transform)
    ends = transform_ends(file.name)
    if ends is not None and ends != (bundle.space, space):
        message = (
            f"space {space}: {file} must bring images of {bundle.space} to {space}; got one that "
            f"brings those of {ends[0]} to {ends[1]}, by its name. Give the one that "
            "antsApplyTransforms takes for that, or correct the name."
        )
        raise DataError(message)
    move = map_to_template("itk", [file], bundle.template, other, where=f"space {space}")
    subjects = tuple(
        replace(subject, to_template=map_through(subject.to_template, move, bundle.template, other))
        for subject in bundle.subjects
    )
    brought = f"brought to {space} by {file.name} (SHA-256 {sha256_of(file)})"
    source = "; ".join(filter(None, (str(bundle.card.get("source", "")), brought)))
    card = bundle.card | {"source": source, "template": {**bundle.card["template"], "space": space}}
    return replace(bundle, card=card, template=other, subjects=subjects)

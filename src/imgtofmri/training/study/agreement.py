"""Whether the names of spaces in a study, and in the names of its files, agree.

BIDS writes the space of an image into its name (``space-T1w``), and where a transform leads
(``from-T1w_to-MNI152NLin6Asym``). Spaces that are called alike and differ by millimetres must not
be taken for each other, nor images in a person's own space for ones in the template's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imgtofmri.spaces.names import entities, transform_ends
from imgtofmri.training.study.settings import SubjectSettings, TemplateSettings


def template_problem(template: TemplateSettings) -> str:
    """Return what is wrong with the name of the template's grid, if anything."""
    if template.grid is None:
        return ""
    named = entities(template.grid.name)
    found = named.get("tpl", named.get("space", template.space))
    if found == template.space:
        return ""
    return (
        f"must be an image in {template.space}, as template.space says; got {template.grid.name}, "
        f"in {found} by its name. Correct one of them."
    )


def space_problem(subject: SubjectSettings, template: TemplateSettings) -> tuple[str, str] | None:
    """Return the key and the problem where a subject's spaces do not agree; None where they do.

    Parameters
    ----------
    subject : SubjectSettings
        Names images, masks and transforms.
    template : TemplateSettings
        Names the template's space.
    """
    found = dict(_spaces(subject))
    if (transform := subject.transform) is None:
        return _mixed(found, ())  # Of a geometry the grid is compared.
    if transform.kind == "same":
        for what, space in found.items():
            if space not in (template.space, *transform.spaces):
                problem = (
                    f'kind = "same" needs images in {template.space}, the template\'s space; got '
                    f"{what} in {space}. Give the transform, or images in {template.space}, or "
                    f'say that both are one: {{ kind = "same", space = "{space}" }}.'
                )
                return "transform", problem
        return None
    if mixed := _mixed(found, transform.spaces):
        return mixed
    for what, space in found.items():
        if space == template.space and space not in transform.spaces:
            problem = (
                f"leads to {space}, where {what} is already by its name. Use "
                'kind = "same", or images in their own space.'
            )
            return "transform", problem
    return _wrong_way(transform.files, found, template.space, transform.spaces)


def _spaces(subject: SubjectSettings) -> Iterator[tuple[str, str]]:
    """Yield what names a space, and the space."""
    if subject.derivatives is not None:
        yield "derivatives.space", subject.derivatives.space
    sources = [subject.responses, subject.mask]
    files = [source.file for source in sources if source is not None]
    for roi in subject.rois:
        files += roi.masks.values()
        files += [roi.responses.file] if roi.responses is not None else []
    for file in files:
        if space := entities(file.name).get("space"):
            yield file.name, space


def _mixed(found: dict[str, str], one: tuple[str, ...]) -> tuple[str, str] | None:
    """Refuse images of several spaces, but those that are said to be one."""
    if len(set(found.values())) < 2 or set(found.values()) <= set(one):
        return None
    listed = ", ".join(f"{what} in {space}" for what, space in found.items())
    problem = (
        f"must have images and masks in one space; got {listed}. Give them in one, or name those "
        "that are one in transform.space."
    )
    return "name", problem


def _wrong_way(
    files: tuple[Path, ...], found: dict[str, str], template: str, one: tuple[str, ...]
) -> tuple[str, str] | None:
    """Compare what transforms' names say of their ends; the first one is the template's."""
    wanted = {template}
    for number, file in enumerate(files):
        ends = transform_ends(file.name)
        if ends is None:
            return None
        start, end = ends
        if end not in wanted:
            problem = (
                f"{file.name} must lead to {' or '.join(sorted(wanted))}; got one that leads to "
                f"{end} by its name. Give the transform from the images to the template."
            )
            return "transform", problem
        wanted = {start}
        last = number == len(files) - 1
        if last and found and start not in {*found.values(), *one}:
            what, space = next(iter(found.items()))
            problem = (
                f"{file.name} must start from the images' space, {space} ({what}); got one that "
                f"starts from {start}. Give another, or say that both are one with "
                f'space = "{start}".'
            )
            return "transform", problem
    return None

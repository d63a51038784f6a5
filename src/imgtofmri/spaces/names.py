"""What the names of files say of spaces: in which an image lies, where a transform leads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from imgtofmri.exceptions import DataError


def entities(name: str) -> dict[str, str]:
    """Return the entities of a BIDS file name, in its order.

    Examples
    --------
    >>> entities("sub-01_task-view_run-1_bold.nii.gz")
    {'sub': '01', 'task': 'view', 'run': '1'}
    """
    pairs = (part.partition("-") for part in name.partition(".")[0].split("_"))
    return {key: label for key, dash, label in pairs if dash and key and label}


def check_space(files: Iterable[Path], space: str | None = None) -> None:
    """Refuse images that lie, by their names, in another space than a template or each other.

    Parameters
    ----------
    files : iterable of Path
        Images; of those without ``space-`` in their names nothing is known, but that fMRIPrep calls
        a run in its own space so.
    space : str, optional
        The template's. Those of MNI152 count as one, though they differ by a millimetre or two.

    Raises
    ------
    DataError
        Naming the first such file.
    """
    first = space
    for file in files:
        named = entities(file.name)
        is_native = named.get("desc") == "preproc" and file.name.partition(".")[0][-5:] == "_bold"
        found = named.get("space", "its own space, without one in its name" if is_native else "")
        if not found or found == first or (first and _are_mni(found, first)):
            continue
        if first is not None:
            message = (
                f"{file} must lie in {first}, as what it is compared with does; got {found}, by "
                "its name. Give images in one template space, such as fMRIPrep's "
                "space-MNI152NLin6Asym, or correct the name."
            )
            raise DataError(message)
        first = found


def _are_mni(*spaces: str) -> bool:
    return all(space.startswith("MNI152") for space in spaces)


def check_points_space(file: Path, space: str) -> None:
    """Refuse a table of points that lie, by its name, in another space than a template.

    Raises
    ------
    DataError
    """
    found = entities(file.name).get("space", space)
    if found != space and not _are_mni(found, space):
        message = (
            f"{file} must hold points in {space}, as the predictions are; got {found}, by its "
            "name. Bring the points there, or correct the name."
        )
        raise DataError(message)


def transform_ends(name: str) -> tuple[str, str] | None:
    """Return the spaces that a transform brings images from and to, by its file's name.

    Returns
    -------
    tuple of str or None
        None where the name does not say both.

    Examples
    --------
    >>> transform_ends("from-T1w_to-MNI152NLin6Asym_mode-image_xfm.h5")
    ('T1w', 'MNI152NLin6Asym')
    >>> transform_ends("tpl-MNI152NLin6Asym_from-MNI152NLin2009cAsym_mode-image_xfm.h5")
    ('MNI152NLin2009cAsym', 'MNI152NLin6Asym')
    """
    named = entities(name)
    start, end = named.get("from"), named.get("to", named.get("tpl"))
    if start is None or end is None:
        return None
    # Images go against the way of points: what takes points to a space brings images from it.
    return (end, start) if named.get("mode") == "points" else (start, end)

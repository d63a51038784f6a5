"""Other template spaces: their grids, and the transforms that join them, as TemplateFlow has them.

TemplateFlow (Ciric et al. 2022, doi:10.1038/s41592-022-01681-2) publishes templates and the
transforms between them. Nothing is fetched here: its cache is looked into.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from imgtofmri.documents import parse_json, read_text
from imgtofmri.exceptions import OptionError
from imgtofmri.limits import check_limit
from imgtofmri.spaces.grids import MOST_MM, Grid

HOME_VARIABLE = "TEMPLATEFLOW_HOME"

_ORIGINS = {"MNI152NLin2009cAsym": ((97, 115, 97), (-96.5, -132.5, -78.5))}
"""Shape and first voxel's centre at 2 mm, of the usual template besides FSL's."""

_VOXEL_MM = 2.0


def templateflow_home() -> Path:
    """Return where TemplateFlow keeps its files."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "templateflow"


def template_grid(space: str) -> Grid:
    """Return a template's grid of 2 mm.

    Raises
    ------
    OptionError
        If it is not known, and TemplateFlow's description of the template is not in its cache.
    DataError
        If that says more voxels than the limit.
    """
    described = templateflow_home() / f"tpl-{space}" / "template_description.json"
    known = _ORIGINS.get(space) or _described(described)
    if known is None:
        message = (
            f"space {space} needs the template's grid of 2 mm; {described} does not say it. Fetch "
            f"the template with TemplateFlow ({HOME_VARIABLE} names its folder), or use "
            f"{', '.join(_ORIGINS)}."
        )
        raise OptionError(message, "space")
    shape, origin = known
    check_limit("voxels", math.prod(shape), str(described), "voxels in a template")
    affine = np.diag([_VOXEL_MM] * 3 + [1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def find_transform(space: str, source: str) -> Path:
    """Return TemplateFlow's transform of images from one template to another.

    Raises
    ------
    OptionError
        If it is not in the cache.
    """
    name = f"tpl-{space}_from-{source}_mode-image_xfm.h5"
    path = templateflow_home() / f"tpl-{space}" / name
    if not path.is_file():
        message = (
            f"space {space} needs the published transform from {source}; {path} is not there. Name "
            f'the file with `transform`, or fetch it: python -c "import templateflow.api as t; '
            f"t.get('{space}', suffix='xfm', extension='.h5')\"."
        )
        raise OptionError(message, "space")
    return path


def _described(path: Path) -> tuple[tuple[int, int, int], tuple[float, float, float]] | None:
    """Return shape and origin of the grid that a description says, if it says one that can be."""
    try:
        grids = parse_json(read_text(path))["res"].values()
        for grid in grids:
            if [float(side) for side in grid["zooms"]] == [_VOXEL_MM] * 3:
                (i, j, k), origin = grid["shape"], tuple(map(float, grid["origin"]))
                if not all(isinstance(n, int) and n > 0 for n in (i, j, k)):
                    return None
                x, y, z = origin
                if not all(abs(mm) < MOST_MM for mm in origin):
                    return None
                return (i, j, k), (x, y, z)
    except (OSError, ValueError, OverflowError, LookupError, TypeError, AttributeError):
        return None
    return None

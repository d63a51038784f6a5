"""Values at the points of a table, out of the volumes that a run has written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgtofmri.encoder import Predictor
from imgtofmri.encoder.points import AXES, COLUMNS, points_table
from imgtofmri.encoder.regions import GROUP, MODEL_UNIT, columns_at
from imgtofmri.outputs import Layout, OutputFolder
from imgtofmri.tables import write_described

if TYPE_CHECKING:
    import pandas as pd

TABLE = "points.tsv"


def write_points(
    points: pd.DataFrame,
    predictor: Predictor,
    folder: OutputFolder,
    layout: Layout,
    subjects: Sequence[str] = (),
) -> tuple[Path, Path]:
    """Write the values at points of all that a folder holds, kept from earlier runs or new.

    Parameters
    ----------
    points : pandas.DataFrame
        Of `imgtofmri.encoder.points.read_points`.
    predictor : Predictor
        What made the volumes.
    folder : OutputFolder
    layout : Layout
    subjects : sequence of str
        Whose volumes there are, besides the group's.

    Returns
    -------
    table, sidecar : Path
    """
    import nibabel as nib
    import pandas as pd

    mask = predictor.spatial.mask
    column = columns_at(points[[*AXES]].to_numpy(), mask, predictor.readout.bundle.template.affine)
    voxels = np.argwhere(mask)[column].T
    parts = []
    for name in folder.names:
        for subject in (None, *subjects):
            path = folder.path / layout.volume(name, subject, movie=True)
            is_movie = path.is_file()
            if not is_movie:
                path = folder.path / layout.volume(name, subject)
            image = nib.Nifti1Image.from_filename(path)
            volumes = np.asarray(image.dataobj, dtype=np.float32)
            values = np.where(column >= 0, np.atleast_2d(volumes[tuple(voxels)].T), np.nan)
            stimuli: dict[str, Any] = {"stimulus": [name] * len(values)}
            # In a layout that names both alike an image's volume has three axes.
            if is_movie and volumes.ndim == 4:
                stimuli["onset"] = np.arange(len(values)) * float(image.header.get_zooms()[3])
            unit = predictor.provenance.unit if subject is None else MODEL_UNIT
            parts.append(points_table(points, values, stimuli, subject or GROUP, unit))
    # Images have no onset: the column is there where a movie is.
    table = pd.concat(parts, ignore_index=True)
    if "onset" in table:
        table.insert(1, "onset", table.pop("onset"))
    said = {name: COLUMNS.get(name, "as in the table of points") for name in table.columns}
    return write_described(table, folder.path / TABLE, said)

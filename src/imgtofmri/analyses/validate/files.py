"""A validation to files: tables, maps, and each figure as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgtofmri.analyses.validate import EncodingAccuracy, MatchedPatterns, Study
from imgtofmri.analyses.validate.accuracy_figures import plot_accuracy
from imgtofmri.analyses.validate.figures import plot_correlations, plot_matched_patterns
from imgtofmri.figures.style import save_figure
from imgtofmri.files import atomic_path
from imgtofmri.measured.patterns import bare_name
from imgtofmri.tables import write_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["accuracy_by_voxel", "write_accuracy", "write_matched"]


def write_matched(
    result: MatchedPatterns, controls: Sequence[pd.DataFrame], study: Study, folder: Path
) -> None:
    """Write matched_patterns.tsv with its figure, and the correlations with theirs.

    Parameters
    ----------
    result : MatchedPatterns
    controls : sequence of pandas.DataFrame
        Tables of controls, appended to the result's.
    study : Study
        Whose categories frame the correlations.
    folder : Path

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    import pandas as pd

    write_table(pd.concat([result.table, *controls]), folder / "matched_patterns.tsv")
    save_figure(plot_matched_patterns(result, controls), folder / "matched_patterns")
    labels = None
    if study.categories is not None:
        known = {bare_name(name): label for name, label in study.categories.items()}
        labels = [known[bare_name(name)] for name in result.names]
    save_figure(plot_correlations(result, labels), folder / "correlations")
    with atomic_path(folder / "correlations.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, correlations=result.correlations, names=np.array(result.names))


def write_accuracy(
    result: EncodingAccuracy, controls: Sequence[pd.DataFrame], folder: Path
) -> None:
    """Write accuracy.tsv, its figure with the voxels behind it, and a map of each statistic.

    Parameters
    ----------
    result : EncodingAccuracy
    controls : sequence of pandas.DataFrame
        Tables of controls, appended to the result's.
    folder : Path

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    import nibabel as nib
    import pandas as pd

    write_table(pd.concat([result.table, *controls]), folder / "accuracy.tsv")
    write_table(accuracy_by_voxel(result), folder / "accuracy_voxels.tsv")
    save_figure(plot_accuracy(result, controls), folder / "accuracy")
    if result.mask is None:
        return
    for name in result.maps:
        with atomic_path(folder / f"accuracy_{name}.nii.gz") as temporary:
            # nibabel tells the format by the name's ending.
            named = temporary.with_name(f"{temporary.name}.nii.gz")
            nib.save(result.to_img(name), named)
            named.replace(temporary)


def accuracy_by_voxel(result: EncodingAccuracy) -> pd.DataFrame:
    """Make the table behind the figure of accuracy.

    Returns
    -------
    pandas.DataFrame
        One row for each voxel with an r and each of its ROIs (and "all"): roi, voxel (its number
        in the mask, in C order), r, p_fdr, and with repeats r_max.
    """
    import pandas as pd

    shown = [name for name in ("r", "p_fdr", "r_max") if name in result.maps]
    parts = []
    for roi, region in result.regions.items():
        voxels = np.flatnonzero(region & ~np.isnan(result.maps["r"]))
        columns = {name: result.maps[name][voxels] for name in shown}
        parts.append(pd.DataFrame({"roi": roi, "voxel": voxels, **columns}))
    return pd.concat(parts, ignore_index=True)

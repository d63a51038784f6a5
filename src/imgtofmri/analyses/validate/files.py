"""A validation to files: tables, maps, each figure as PNG and SVG, and the record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgtofmri.analyses.validate import columns
from imgtofmri.analyses.validate.accuracy import EncodingAccuracy
from imgtofmri.analyses.validate.figures import (
    plot_accuracy,
    plot_correlations,
    plot_matched_patterns,
    plot_roi_means,
)
from imgtofmri.analyses.validate.levels import image_categories
from imgtofmri.analyses.validate.maps import statistic_of
from imgtofmri.analyses.validate.matched import MatchedPatterns
from imgtofmri.analyses.validate.roi_means import RoiMeansAccuracy
from imgtofmri.encoder.controls import describe_controls
from imgtofmri.figures.style import save_figure
from imgtofmri.files import atomic_path, sha256_of
from imgtofmri.outputs import OutputFolder, VolumeWriter
from imgtofmri.tables import write_described

if TYPE_CHECKING:
    import pandas as pd

RECORD = "validation.json"


def save_validation(
    matched: MatchedPatterns,
    folder: OutputFolder | str | Path,
    accuracy: EncodingAccuracy | None = None,
    roi_means: RoiMeansAccuracy | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write all of a validation: tables, figures, maps, and the record of what made them.

    Parameters
    ----------
    matched : MatchedPatterns
    folder : OutputFolder or path
        Where to.
    accuracy : EncodingAccuracy, optional
        Of the same comparison.
    roi_means : RoiMeansAccuracy, optional
        Of the same comparison.
    overwrite : bool
        Replace what an earlier run made.

    Returns
    -------
    list of Path
        The files: matched_patterns and correlations with figures; accuracy and accuracy_voxels
        with their figure, and a map of each statistic; roi_means and roi_means_images with theirs;
        beside each table a JSON file that says what its columns mean; validation.json.

    Raises
    ------
    OptionError
        If the folder holds an earlier run.
    OutputError
        If the folder cannot be written to.
    """
    target = OutputFolder.of(folder, "validate", RECORD, overwrite=overwrite)
    comparison, prediction = matched.comparison, matched.comparison.prediction
    settings = {
        "matched_patterns": dict(matched.settings),
        **({} if accuracy is None else {"encoding_accuracy": dict(accuracy.settings)}),
        **({} if roi_means is None else {"roi_means": dict(roi_means.settings)}),
        "images": list(matched.names),
        "left_out": list(comparison.leave_out),
        "participants": list(comparison.participants),
        "rois": list(comparison.rois),
        "n_repeats": len(comparison.repeats),
        "n_voxels": comparison.predicted.n_voxels,
        "resampled": comparison.resampled,
    }
    with target.begin(
        settings,
        None if prediction is None else prediction.provenance.to_dict(),
        describe_controls(matched.controls),
        comparison.measured_files,
    ):
        if prediction is not None:
            target.used(prediction.names, prediction.sha256, prediction.sources)
        else:
            read = comparison.predicted_files
            target.used([str(path) for path in read], [sha256_of(path) for path in read], read)
        note = "" if prediction is None else prediction.provenance.note
        files = _write_matched(matched, target.path, note)
        if accuracy is not None:
            files += _write_accuracy(accuracy, target.path, note)
        if roi_means is not None:
            files += _write_roi_means(roi_means, target.path, note)
        target.wrote(*files)
    return [*files, target.record]


def _write(
    result: MatchedPatterns | EncodingAccuracy | RoiMeansAccuracy,
    path: Path,
    meanings: Mapping[str, str],
) -> tuple[Path, Path]:
    """Write a result's table, saying the coverage that its intervals have."""
    return write_described(
        result.table, path, columns.at_level(meanings, result.settings.get("level", 0.95))
    )


def _write_matched(result: MatchedPatterns, folder: Path, note: str) -> list[Path]:
    """Write matched_patterns.tsv with its figure, and the correlations with theirs."""
    known = result.comparison.categories
    labels = None if known is None else image_categories(result.names, known)
    correlations = folder / "correlations.npz"
    with atomic_path(correlations) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, correlations=result.correlations, names=np.array(result.names))
    return [
        *_write(result, folder / "matched_patterns.tsv", columns.MATCHED),
        *save_figure(plot_matched_patterns(result), folder / "matched_patterns", note=note),
        correlations,
        *save_figure(plot_correlations(result, labels), folder / "correlations", note=note),
    ]


def _write_accuracy(result: EncodingAccuracy, folder: Path, note: str) -> list[Path]:
    """Write accuracy.tsv, its figure with the voxels behind it, and a map of each statistic."""
    files = [
        *_write(result, folder / "accuracy.tsv", columns.ACCURACY),
        *write_described(accuracy_by_voxel(result), folder / "accuracy_voxels.tsv", columns.VOXELS),
        *save_figure(plot_accuracy(result), folder / "accuracy", note=note),
    ]
    predicted = result.comparison.predicted
    if predicted.mask is not None and predicted.affine is not None:
        writer = VolumeWriter(predicted.mask, predicted.affine, outside=np.nan)
        for name, values in result.maps.items():
            files.append(folder / f"accuracy_{name}.nii.gz")
            writer.write(files[-1], values, statistic_of(name, len(result.names)))
    return files


def _write_roi_means(result: RoiMeansAccuracy, folder: Path, note: str) -> list[Path]:
    """Write roi_means.tsv, the means themselves, and their figure."""
    means = folder / "roi_means_images.tsv"
    return [
        *_write(result, folder / "roi_means.tsv", columns.ROI_MEANS),
        *write_described(result.images, means, columns.ROI_MEANS_IMAGES),
        *save_figure(plot_roi_means(result), folder / "roi_means", note=note),
    ]


def accuracy_by_voxel(result: EncodingAccuracy) -> pd.DataFrame:
    """Make the table behind the figure of accuracy.

    Returns
    -------
    pandas.DataFrame
        One row for each voxel with an r and each of its ROIs (and "all"): roi, voxel (its number
        in the mask, in C order), r, p_fdr, and with repeats explainable.
    """
    import pandas as pd

    shown = [name for name in ("r", "p_fdr", "explainable") if name in result.maps]
    parts = []
    for roi, region in result.regions.items():
        voxels = np.flatnonzero(region & ~np.isnan(result.maps["r"]))
        columns = {name: result.maps[name][voxels] for name in shown}
        parts.append(pd.DataFrame({"roi": roi, "voxel": voxels, **columns}))
    return pd.concat(parts, ignore_index=True)

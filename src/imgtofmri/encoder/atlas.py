"""An encoder's ROIs as an atlas: an image of integer labels, and a table of what each is."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgtofmri import spaces
from imgtofmri.bundle import Bundle
from imgtofmri.encoder.spatial import SpatialModel, moved_masks
from imgtofmri.exceptions import OptionError
from imgtofmri.files import write_whole
from imgtofmri.outputs.volumes import set_template_header

if TYPE_CHECKING:
    import nibabel as nib
    import pandas as pd

SUFFIX = ".nii.gz"


@dataclass(frozen=True, slots=True, eq=False)
class Atlas:
    """Labels of ROIs on the template's grid.

    Where masks of ROIs overlap, a voxel has one label: of the ROI whose mask, moved to the template
    and smoothed by 1 mm, comes nearest to its maximum there, in whichever subject; of equal ones
    the encoder's first.

    Attributes
    ----------
    image : nibabel.Nifti1Image
        int16; 0 is no ROI.
    table : pandas.DataFrame
        A row for each label: ``index``, ``name`` (``"LOC_L"``), ``roi``, ``hemi`` ("L", "R", or
        "B" where hemispheres are not told apart), ``n_voxels`` with that label, and ``n_lost``,
        voxels of the ROI's mask that have another label. A place without voxels has no row.

    Examples
    --------
    >>> from nilearn.maskers import NiftiLabelsMasker  # doctest: +SKIP
    >>> masker = NiftiLabelsMasker(atlas.image, lut=atlas.table)  # doctest: +SKIP
    """

    image: nib.Nifti1Image
    table: pd.DataFrame

    def save(self, path: str | Path) -> tuple[Path, Path]:
        """Write the image, and the table beside it under the same name with ``.tsv``.

        Parameters
        ----------
        path : str or Path
            Ends in ``.nii.gz``.

        Returns
        -------
        tuple of Path
            The image and the table.

        Raises
        ------
        OptionError
            If the name ends otherwise.
        OutputError
            If a file cannot be written.
        """
        target = Path(path)
        if not target.name.endswith(SUFFIX):
            message = f"{target}: expected the name of an image, {SUFFIX} at its end. Rename it."
            raise OptionError(message)
        table = target.with_name(target.name.removesuffix(SUFFIX) + ".tsv")
        text = self.table.to_csv(None, sep="\t", index=False, lineterminator="\n")
        write_whole(table, text.encode())
        write_whole(target, gzip.compress(self.image.to_bytes(), mtime=0))
        return target, table


def make_atlas(bundle: Bundle, spatial: SpatialModel) -> Atlas:
    """Give each voxel of a group mask the label of one ROI.

    Parameters
    ----------
    bundle : Bundle
    spatial : SpatialModel
        Of the bundle, with the mask "overlap".
    """
    import nibabel as nib
    import pandas as pd

    inside = spatial.mask.ravel()
    places = {key: np.where(mask, 0.0, -1.0) for key, mask in spatial.roi_masks.items()}
    for key, moved in moved_masks(bundle, list(dict.fromkeys(roi for roi, _ in places))):
        smoothed = spaces.smoothed_mask(moved, bundle.template)
        share = smoothed[inside] / (smoothed.max() or 1.0)
        places[key] = np.where(spatial.roi_masks[key], np.maximum(places[key], share), -1.0)
    winner = np.argmax(np.stack(list(places.values())), axis=0)
    rows: list[tuple[int, str, str, str, int, int]] = []
    labels = np.zeros(len(winner), np.int16)
    for number, (roi, hemi) in enumerate(places):
        mine = winner == number
        n_mask, n_voxels = int(spatial.roi_masks[roi, hemi].sum()), int(mine.sum())
        if n_mask:
            name = roi if hemi == "B" else f"{roi}_{hemi}"
            rows.append((len(rows) + 1, name, roi, hemi, n_voxels, n_mask - n_voxels))
            labels[mine] = len(rows)
    volume = np.zeros(spatial.mask.shape, np.int16)
    volume[spatial.mask] = labels
    image = nib.Nifti1Image(volume, bundle.template.affine)
    set_template_header(image.header, bundle.template.affine)
    columns = ["index", "name", "roi", "hemi", "n_voxels", "n_lost"]
    return Atlas(image, pd.DataFrame(rows, columns=columns))

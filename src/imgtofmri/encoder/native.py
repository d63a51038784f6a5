"""Where a person's native responses lie, and images of them on the person's own grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse

from imgtofmri.outputs import to_img
from imgtofmri.spaces import Grid, IntArray

if TYPE_CHECKING:
    import nibabel as nib


@dataclass(frozen=True, slots=True, eq=False)
class NativeSpace:
    """Where the outputs of a person's models lie.

    Attributes
    ----------
    grid : Grid
        The person's own.
    voxels : array of shape (n_voxels,), int
        Flat indices into it, C order, ascending: all that some model predicts.
    merge : sparse array of shape (n_voxels, n_outputs)
        From the models' outputs to these voxels; where ROIs overlap, a voxel has several.
    """

    grid: Grid
    voxels: IntArray
    merge: scipy.sparse.csr_array

    def to_img(
        self,
        responses: npt.NDArray[np.float32],
        columns: npt.NDArray[np.intp] | None = None,
        step_s: float | None = None,
    ) -> nib.Nifti1Image:
        """Put responses into an image on the person's grid, 0 where nothing is predicted.

        Parameters
        ----------
        responses : array of shape (n_stimuli, n_outputs)
        columns : array of int, optional
            The outputs of one ROI, to be shown alone and as they are; by default all, merged as on
            the way to the template.
        step_s : float, optional
            Time between stimuli in seconds, for the header.
        """
        if columns is None:
            voxels, maps = self.voxels, (self.merge @ np.ascontiguousarray(responses.T)).T
        else:
            # Each output is one voxel's.
            own = self.voxels[self.merge.tocsc().indices[columns]]
            order = np.argsort(own)
            voxels, maps = own[order], responses[:, columns[order]]
        mask = np.zeros(self.grid.n_voxels, dtype=bool)
        mask[voxels] = True
        image = to_img(maps, mask.reshape(self.grid.shape), self.grid.affine, step_s)
        image.header.set_qform(self.grid.affine, code="aligned")
        image.header.set_sform(self.grid.affine, code="aligned")
        return image

"""What each column of an encoder's tables means; the reference of tables is made of it."""

from __future__ import annotations

ROIS = {
    "stimulus": "the stimulus' name",
    "roi": "the region",
    "hemi": "hemisphere: 'L', 'R' or 'both'",
    "subject": "a person, or 'group': the mean over the people who have the region",
    "mean": "mean response over the voxels of the person's own region, in native space, not "
    "smoothed",
    "unit": "of the mean",
}

TIMESERIES = {
    "onset": "when the frame is shown, in seconds from the movie's beginning",
    "OWNER_ROI_HEMI": "for each owner ('group' or a person), region and hemisphere: the mean as in "
    "rois.tsv",
}

DESCRIPTIONS = {
    "desc_id": "the BIDS label of a stimulus",
    "description": "the stimulus' name",
}

VOXELS = {
    "subject": "the person",
    "roi": "the region of the model",
    "hemi": "hemisphere: 'L', 'R', or 'B' where they are not told apart",
    "i": "first index of the voxel in the person's native grid",
    "j": "second index",
    "k": "third index",
    "x_mm": "the voxel's centre in native space, in millimetres, to the right",
    "y_mm": "in millimetres, to the front",
    "z_mm": "in millimetres, upwards",
    "cv_r": "correlation of predicted and measured responses within held-out folds, averaged over "
    "folds",
    "cv_r2": "R² of held-out folds, averaged over folds",
    "residual_variance": "mean squared error on held-out rows, in squared units of the responses",
    "alpha": "the penalty of the final fit",
    "noise_ceiling": "the highest correlation that noise allows; absent where nothing was repeated",
}

ATLAS = {
    "index": "the label in the image",
    "name": "ROI_HEMI",
    "roi": "the region",
    "hemi": "hemisphere: 'L', 'R', or 'B' where they are not told apart",
    "n_voxels": "voxels with this label",
    "n_lost": "voxels of the region's mask that have another label",
}

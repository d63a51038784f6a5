"""What each column of a contrast's tables means; the reference of tables is made of it."""

from __future__ import annotations

_TEST = {
    "difference": "weighted sum of condition means",
    "ci_low": "lower bound of its 95 % interval over images (Welch)",
    "ci_high": "upper bound of its 95 % interval over images (Welch)",
    "t": "Welch's t over images; n/a where nothing varies",
    "dof": "Welch and Satterthwaite's degrees of freedom of t",
    "p": "of t, two-sided, not corrected",
}

_MODEL = {"model": "'encoder', or the control's name"}

_PLACE = {
    "roi": "the region; a person's own, in native space",
    "hemi": "hemisphere: 'L', 'R' or 'both'",
    "subject": "a person, or 'group': the mean over people",
}

ROIS = {
    **_MODEL,
    "contrast": "the contrast as it was written",
    **_PLACE,
    "n_voxels": "voxels of the person's own region; of the group, all people's together",
    **_TEST,
    "p_fdr": "p adjusted over the rows of this subject (regions and hemispheres) by the false "
    "discovery rate (Benjamini and Hochberg)",
    "p_max": "p corrected over the same rows by the largest absolute t under exchanged images: "
    "(count + 1) / (n_permutations + 1)",
    "p_max_contrasts": "p corrected over the same rows of all contrasts of this call, too; what "
    "figures mark",
    "n_subjects": "people who have the region",
    "n_agree": "how many of them have the sign of this row's difference",
    "p_agree": "how often as many agree when images are exchanged: (count + 1) / "
    "(n_permutations + 1)",
} | {"difference": "weighted sum of condition means, in the models' units"}

CONDITIONS = {
    **_MODEL,
    **_PLACE,
    "condition": "the condition",
    "n": "its images",
    "mean": "mean response over its images, in the models' units",
    "sem": "standard error of the mean over images",
}

LUMINANCE = {
    "contrast": ROIS["contrast"],
    "property": "'luminance': mean of linear light, 0 to 1; 'contrast': its standard deviation "
    "over pixels",
    **_TEST,
    "d": "difference in standard deviations of the images within conditions",
    "p_fdr": "p adjusted over the two properties by the false discovery rate",
    "p_max": "p corrected over the two properties by the largest absolute t under exchanged images",
}

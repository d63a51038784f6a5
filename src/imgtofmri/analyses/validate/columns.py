"""What each column of a validation's tables means; written beside them, as BIDS has it."""

from __future__ import annotations

from collections.abc import Mapping

_MODEL = {"model": "'encoder', or the control's name"}

_P_FDR = "p adjusted over the {} by the false discovery rate (Benjamini and Hochberg)"

_SIGNAL = {
    "explainable": "share of one repeat's variance over images that is signal, from products "
    "across repeats; not clipped, so that pure noise lies around 0, on both sides",
    "explainable_lower": "lower bound of its 95 % interval over images",
    "explainable_upper": "upper bound of its 95 % interval over images",
    "explained": "share of the signal's variance that the prediction explains, each voxel's "
    "slope being free: 1 for a perfect model, 0 for one that knows nothing; not clipped; negative, "
    "too, where prediction and response are negatively correlated on the whole; its root is a "
    "pooled r / ceiling. n/a where the interval of 'explainable' reaches 0, as there may be "
    "nothing to explain",
    "explained_lower": "lower bound of its 95 % interval over images",
    "explained_upper": "upper bound of its 95 % interval over images",
}

_PEOPLE = {
    "r_people": "mean over participants of each one's {}, through Fisher's z",
    "lower_people": "lower bound of its 95 % interval over people (Student's t); n/a with fewer "
    "than three",
    "upper_people": "upper bound of its 95 % interval over people (Student's t); n/a with fewer "
    "than three",
}

MATCHED = _MODEL | {
    "level": "'group', 'roi', 'category' or 'participant'",
    "name": "which ROI, category or participant",
    "statistic": "mean correlation of matched pairs (an image's predicted and measured pattern) "
    "minus that of mismatched pairs",
    "lower": "lower bound of its 95 % interval, bootstrap over images; n/a of fewer than four",
    "upper": "upper bound of the same",
    "null_mean": "mean of the statistic under permutation",
    "null_sd": "standard deviation of the statistic under permutation",
    "z": "(statistic - null_mean) / null_sd",
    "p": "one-sided, by permutation of images: (count + 1) / (n_permutations + 1)",
    "p_fdr": _P_FDR.format("tests of the level"),
    "p_max": "p corrected over the tests of the level by the maximum statistic, each test "
    "standardised by its null",
    "n_images": "images compared",
    "n_voxels": "voxels compared",
}

ACCURACY = _MODEL | {
    "roi": "the ROI, or 'all' voxels",
    "n_voxels": "voxels with an r; the other columns are about them",
    "n_uncovered": "voxels of the ROI left out as too little of any person's models lies there",
    "n_significant": "voxels with p_fdr <= .05 among all voxels",
    "mean_r": "mean over voxels of the correlation of predicted and measured responses over images",
    "lower": "lower bound of its 95 % interval over images (jackknife of Fisher's z)",
    "upper": "upper bound of its 95 % interval over images (jackknife of Fisher's z)",
    "p": "of mean_r, one-sided, by permutation of images: (count + 1) / (n_permutations + 1)",
    "p_fdr": _P_FDR.format("ROIs") + "; that of 'all' is its p",
    "r_people": _PEOPLE["r_people"].format("mean r over the voxels"),
    "lower_people": _PEOPLE["lower_people"],
    "upper_people": _PEOPLE["upper_people"],
    **_SIGNAL,
    "mean_r2": "mean over voxels of R² = 1 - SS_residual / SS_total, in the units of the files; "
    "only of predictions from files, as an encoder's units are not those that were measured",
}

VOXELS = {
    "roi": ACCURACY["roi"],
    "voxel": "number of the voxel in the mask, in C order, from 0",
    "r": "correlation of predicted and measured responses over images",
    "p_fdr": _P_FDR.format("voxels"),
    "explainable": "share of one repeat's variance over images that is signal, by the method that "
    "the record names; not clipped",
}

ROI_MEANS = _MODEL | {
    "roi": "the ROI, both hemispheres",
    "predicted_from": "'own ROIs': mean over people of the prediction's mean over each one's own "
    "ROI; 'map': mean of the predicted group map over the ROI's voxels; 'luminance': fitted on the "
    "measured means of the other images",
    "n_images": "images compared",
    "n_voxels": "voxels of the ROI's mask that the measured mean is over",
    "r": "correlation of predicted and measured ROI means over images",
    "lower": "lower bound of its 95 % interval over images (jackknife of Fisher's z)",
    "upper": "upper bound of its 95 % interval over images (jackknife of Fisher's z)",
    "p": "of r, one-sided, by permutation of images; below 10 / (n_permutations + 1) that of a "
    "fitted tail",
    "p_fdr": _P_FDR.format("ROIs"),
    "p_max": "p corrected over the ROIs by the maximum statistic",
    "n_people": "participants",
    "r_people": _PEOPLE["r_people"].format("r with the same prediction"),
    "lower_people": _PEOPLE["lower_people"],
    "upper_people": _PEOPLE["upper_people"],
    **_SIGNAL,
}

ROI_MEANS_IMAGES = {
    "roi": ROI_MEANS["roi"],
    "image": "the image",
    "source": "'predicted', in the prediction's units; 'measured', the group, in measured units; "
    "or a participant's name, in measured units",
    "mean": "mean response of the ROI",
}


def at_level(meanings: Mapping[str, str], level: float) -> dict[str, str]:
    """Return what columns mean where intervals have another coverage than .95.

    Examples
    --------
    >>> at_level({"lower": "lower bound of its 95 % interval"}, 0.9)
    {'lower': 'lower bound of its 90 % interval'}
    """
    return {name: text.replace("95 %", percent(level)) for name, text in meanings.items()}


def percent(level: float) -> str:
    """Write a coverage.

    Examples
    --------
    >>> percent(0.95), percent(0.999)
    ('95 %', '99.9 %')
    """
    return f"{100 * level:g} %"

"""What each column of a selection's tables means; the reference of tables is made of it."""

from __future__ import annotations

SELECTION = {
    "set": "the goal, or 'reference'",
    "rank": "place in the set, from 1, the best first",
    "stimulus": "the stimulus' name",
    "z_ROI": "for each region: mean response of each person's own, z-scored over the pool, "
    "averaged over people",
    "luminance": "mean luminance of the picture, of linear light, 0 to 1",
    "contrast": "RMS contrast: standard deviation of luminance over pixels",
    "size": "decimal logarithm of how many pixels the picture has",
}

CHECKS = {
    "model": "'encoder', or the control's name",
    "set": "the set; 'A - B' for the difference of two, of properties of images",
    "check": "'in-sample'; 'other subject': chosen on all people but the one that is tested; "
    "'other subject, half 1' and 'half 2': also chosen from one half of the pool, and measured "
    "against the other",
    "selected_on": "the people that the set was chosen on",
    "tested_on": "the person that it is tested on, 'all', or 'images'",
    "effect": "the set's mean score in standard deviations of the pool; for 'alike' goals the "
    "difference of mean correlations, above the pool's",
    "p": "share of random sets of the same pool and size that do as well or better, one-sided "
    "(two-sided for properties of images): (count + 1) / (n_random + 1); n/a in-sample; of a "
    "difference of two sets, by exchanged images",
}

MATCHING = {
    "set": "the set",
    "property": "'luminance', 'contrast' or 'size', or a measure of one's own",
    "mean": "the set's mean of it",
    "difference": "from the pool's mean, in the pool's standard deviations",
    "matched": "whether matching on it was asked for",
}

EVENTS = {
    "onset": "seconds from the start of the first volume",
    "duration": "seconds",
    "trial_type": "the set",
    "stim_file": "the stimulus, relative to the folder that the record names",
}

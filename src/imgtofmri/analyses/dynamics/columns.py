"""What each column of the tables of dynamics means; the reference of tables is made of it."""

from __future__ import annotations

_MODEL = {
    "roi": "the region; 'all' is the union of the ROIs",
    "model": "'predicted', a baseline, or 'predicted - BASELINE', the difference of the two",
}

_VOLUME = {
    "volume": "volume, counted from 0 after trimming",
    "time_s": "its time from there, in seconds",
}

_P = {
    "p": "share of surrogates, the film itself counted as one, that agree as well or better; the "
    "larger of phase-randomised and of shifted ones, of these with allowance for how few are "
    "independent; one-sided; n/a where nothing is tested",
    "p_max": "the same, corrected by the largest statistic {}, for each model by itself",
}

SUMMARY = {
    **_MODEL,
    "agreement": "mean over volumes of Pearson's r of a row of the model's similarities with the "
    "measured row",
    "ci_lower": "lower bound of its 95 % interval over people; n/a of fewer than eight, or of "
    "fewer than 39 draws of them",
    "ci_upper": "upper bound of the same",
    "null_mean": "mean of the phase-randomised surrogates' agreement: what chance gives",
    "null_sd": "its standard deviation over surrogates",
    "p": _P["p"],
    "p_max": _P["p_max"].format("over regions"),
    "n_volumes": "volumes compared",
    "n_subjects": "people measured",
    "n_voxels": "voxels measured in the region",
}

AGREEMENT = {
    **_MODEL,
    **_VOLUME,
    "agreement": "Pearson's r of this volume's similarities in the model with the measured ones",
    "ci_lower": SUMMARY["ci_lower"],
    "ci_upper": SUMMARY["ci_upper"],
    "boundary": "whether an event begins at the volume",
} | {"model": "'predicted', or a baseline"}

BOUNDARIES = {
    **_MODEL,
    "lag": "volumes from the boundary",
    "lag_s": "seconds from the boundary",
    "agreement": "mean agreement over the boundaries at this lag",
    "ci_lower": "lower bound of its 95 % interval over people and boundaries; n/a of fewer than "
    "eight people or four boundaries",
    "ci_upper": "upper bound of the same",
    "p": _P["p"],
    "p_max": _P["p_max"].format("over lags"),
    "n_boundaries": "boundaries with a volume that counts at this lag",
}

TIMECOURSES = {
    "roi": "the region, each person's own in native space",
    "hemi": "hemisphere: 'L', 'R' or 'both'",
    "subject": "a person, or 'group': the mean over people",
    **_VOLUME,
    "response": "mean over the region's voxels after haemodynamics, without mean and slow cosines, "
    "in the models' units",
}

SIMILARITY = {
    "row": "one volume, counted from 0 after trimming",
    "column": "another, later one",
    "measured": "Pearson's r over voxels of the two volumes' patterns in the brains, the group's "
    "mean; absent where nothing was measured",
    "MODEL": "the same in each model, in a column of its name",
}

EVENTS = {
    "roi": _MODEL["roi"],
    "event": "number of the event that begins there, from 1; the first begins at 0 and has no row",
    "volume": "volume at which it begins, counted from 0 after trimming, haemodynamics included",
    "time_s": "its time from there, in seconds",
}

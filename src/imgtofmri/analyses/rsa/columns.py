"""What each column of the tables of geometry means; the reference of tables is made of it."""

from __future__ import annotations

_WHOSE = {
    "measured": "the set of measured matrices",
    "model": "'encoder', a further model, or a control",
    "roi": "the region of the model; n/a for what belongs to none",
}

_PEOPLE_AND_IMAGES = "for other people and other images (bootstrap of both, Student's t)"

RSA = {
    **_WHOSE,
    "method": "how matrices are compared: 'spearman', 'kendall', 'pearson' or 'cosine'",
    "n_conditions": "images compared; of three there are no intervals and no p for other images, "
    "as their resamples are they themselves",
    "n_subjects": "people measured",
    "score": "mean over people of the similarity of the model's matrix to each one's",
    "ci_low": "lower bound of its 95 % interval over what 'interval_over' says",
    "ci_high": "upper bound of its 95 % interval over what 'interval_over' says",
    "interval_over": "'people and images', or 'images' with one person",
    "se": "standard error of the score over the same",
    "p_people_and_images": f"of the score being no higher than chance, one-sided, "
    f"{_PEOPLE_AND_IMAGES}; n/a with one person",
    "p_people_and_images_fdr": "the same, adjusted over the rows of a model by the false discovery "
    "rate; what figures mark",
    "null_mean": "mean of the score when the model's images are relabelled",
    "null_sd": "standard deviation of the score when the model's images are relabelled",
    "p_same_people": "of the score, one-sided, for these people and images like these, by "
    "relabelling the model's images: (count + 1) / (n_permutations + 1)",
    "p_same_people_fdr": "the same, adjusted over the rows of a model by the false discovery rate",
    "p_same_people_max": "the same, corrected over the rows of a model by the maximum; what "
    "figures mark with one person",
    "ceiling_lower": "noise ceiling: mean similarity of each person to the others' pooled matrix",
    "ceiling_ci_low": "lower bound of its 95 % interval over people and images",
    "ceiling_ci_high": "upper bound of its 95 % interval over people and images",
    "ceiling_upper": "mean similarity of each person to everybody's pooled matrix",
    "ceiling": "'reliable' where the interval of the lower ceiling lies above chance, else "
    "'unreliable'; n/a with one person",
    "share_of_ceiling": "score over lower ceiling (for the cosine, both less chance); n/a where "
    "the ceiling is not reliable",
    "p_below_ceiling": f"of the score reaching the lower ceiling, one-sided, {_PEOPLE_AND_IMAGES}",
    "best_control": "the control with the highest score; n/a without controls",
    "best_control_score": "its score",
    "p_best_control": f"of no difference to it, two-sided, {_PEOPLE_AND_IMAGES}",
}

PAIRS = {
    "measured": _WHOSE["measured"],
    "model_a": "whose the first score is, as 'model'",
    "model_b": "whose the second score is",
    "roi_a": "the region of the first; n/a for none",
    "roi_b": "the region of the second",
    "difference": "score of the first less that of the second",
    "ci_low": "lower bound of its 95 % interval over people and images; with one person over "
    "images",
    "ci_high": "upper bound of the same",
    "p_people_and_images": f"of no difference, two-sided, {_PEOPLE_AND_IMAGES}; n/a with one "
    "person",
    "p_people_and_images_fdr": "the same, adjusted over the pairs of regions, and over the regions "
    "of each control, by the false discovery rate",
}

SUBJECTS = {
    **_WHOSE,
    "subject": "a person of the set",
    "similarity": "of the model's matrix to this person's",
}

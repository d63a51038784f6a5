"""What a page says in words: network and licence in a line, methods, citations, what to trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgtofmri.report.records import Run

SOFTWARE = "imgtofmri"

DID = {
    "predict": "Responses to {n} were predicted",
    "export": "Responses to {n} were predicted",
    "demo": "Responses to {n} were predicted",
    "contrast": "Predicted responses to {n} were contrasted between conditions",
    "rsa": "Dissimilarity matrices of predicted patterns were computed for {n}",
    "select": "Images were selected from a pool of {n}, by their predicted responses",
    "validate": "Predicted responses to {n} were compared with measured ones",
    "dynamics": "The predicted dynamics of a film were computed",
    "power": "Expected t values and power were computed from predicted responses to {n}",
    "simulate": "BOLD runs were simulated from predicted responses to {n}",
    "explain": "Predicted responses to {n} were attributed to places of each picture",
    "render": "A film was shown beside its predicted response",
}

OF_OTHERS = ("validate", "dynamics", "power", "simulate")
"""Commands whose inputs need not be images or films; those of all others are."""

OF_OWN_ROIS = ("rsa", "select", "power", "explain")
"""Commands that read each person's own regions, before anything is moved to the template."""

AVERAGES = {
    "zscore": "each person's map was z-scored over the mask, and the sum over people again",
    "mean": "maps were averaged over the people who stand behind each voxel, keeping amplitude",
}

SURFACES = (
    "Surfaces: Wu et al. (2018). Accurate nonlinear mapping between MNI volumetric and "
    "FreeSurfer surface coordinate systems. Human Brain Mapping 39. doi 10.1002/hbm.24213"
)
"""What to cite where maps are shown on surfaces."""

SAID = ("citation", "validity", "note")
"""What of a record's predictions pages say elsewhere than among the settings."""

TRUST = (
    "A prediction is not a measurement. Outside the coloured voxels the model knows nothing: no "
    "value there is not a value of zero. Coverage says how many people stand behind a voxel; "
    "agreement is the correlation over stimuli between people's maps. ROI means are of each "
    "person's own ROI in native space, not smoothed."
)


def counted(run: Run) -> str:
    """Return how many stimuli, and of what kind, a run was of."""
    films = [int(entry["n_volumes"]) for entry in run.inputs if "n_volumes" in entry]
    n_images = len(run.inputs) - len(films)
    said = []
    if films:
        frames = f" ({sum(films)} frame{'' if sum(films) == 1 else 's'})"
        said.append(("a film" if len(films) == 1 else f"{len(films)} films") + frames)
    if n_images or not films:
        kind = "input" if run.command in OF_OTHERS else "image"
        said.insert(0, f"{n_images} {kind}{'' if n_images == 1 else 's'}")
    return " and ".join(said)


def network_line(made: Mapping[str, Any]) -> str:
    """Return which encoder and network made predictions, whether they emulate, and the licence."""
    if not made:
        return "Nothing was predicted."
    parts = [f"Encoder {made['encoder']}" if made.get("encoder") else "No encoder's features"]
    if made.get("backbone"):
        verified = "" if made.get("weights_verified") else ", not the published weights"
        parts.append(f"network {made['backbone']} ({made.get('weights')}{verified})")
    if made.get("emulated") and not made.get("note"):
        parts.append("features are estimated, so that predictions are approximate")
    if made.get("note"):
        parts.append(str(made["note"]))
    if made.get("licence"):
        parts.append(f"licence of the encoder: {made['licence']}")
    return "; ".join(parts) + "."


def methods(run: Run) -> str:
    """Return a paragraph for a paper's methods."""
    made, settings = run.prediction, run.settings
    version = run.content["GeneratedBy"][0]["Version"]
    did = DID.get(run.command, "Results were computed").format(n=counted(run))
    text = f"{did} with {SOFTWARE} {version}"
    if not made:
        return f"{text}."
    if made.get("encoder"):
        text += f" and the encoding model {made['encoder']}"
    text += "."
    if made.get("backbone"):
        layers = made.get("layers") or []
        layer = f", layer {layers[0]}" if len(layers) == 1 else ""
        text += f" Stimuli were shown to the network {made['backbone']}{layer}"
        crop = made.get("center_crop")
        if crop is not None:
            text += ", " + ("their centre cropped" if crop else "squeezed to a square")
        text += f" (weights {made.get('weights')})."
        if made.get("emulated"):
            text += " Its features stand in for those that the models were fitted on."
    rois = made.get("rois") or []
    text += (
        f" Linear models of the voxels of {', '.join(rois)} predicted each person's response in "
        "native space; "
    )
    # A voxel of the template, which `explain` may be asked for, is none of the regions.
    if run.command in OF_OWN_ROIS and set(settings.get("targets", rois)) <= set(rois):
        text += "each person's own regions were read there, and nothing was smoothed."
    else:
        text += (
            f"responses were brought to {made.get('space')} and smoothed with a Gaussian of "
            f"standard deviation {made.get('sigma_mm'):g} mm "
            f"(FWHM {2.3548 * made.get('sigma_mm', 0):.2g} mm)"
        )
        text += f"; {AVERAGES.get(str(made.get('average')), '')}." if made.get("average") else "."
    if settings.get("rate_hz"):
        text += f" Films were sampled at {settings['rate_hz']:g} frames a second."
    if settings.get("n_permutations"):
        text += f" Tests used {settings['n_permutations']} permutations."
    if settings.get("seed") is not None:
        text += f" The seed was {settings['seed']}."
    return text


def citations(run: Run) -> list[str]:
    """Return what to cite: the software and the encoder's papers."""
    version = run.content["GeneratedBy"][0]["Version"]
    cited = run.prediction.get("citation") or []
    papers = [cited] if isinstance(cited, str) else [str(text) for text in cited]
    return [f"{SOFTWARE}, version {version}.", *papers]


def setting_rows(run: Run) -> list[tuple[str, str]]:
    """Return the settings as rows of a table."""
    rows = [*run.settings.items(), *run.prediction.items()]
    rows += [(f"version of {name}", said) for name, said in run.content["versions"].items()]
    return [(name.replace("_", " "), _said(value)) for name, value in rows if name not in SAID]


def _said(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        shown = ", ".join(_said(each) for each in value[:12])
        return f"{shown}, and {len(value) - 12} more" if len(value) > 12 else shown or "none"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_said(each)}" for name, each in value.items()) or "none"
    return str(value)

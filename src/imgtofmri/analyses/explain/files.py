"""Files of an attribution: what each place contributes, as tables and as figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from imgtofmri.analyses.explain.figures import plot_attribution
from imgtofmri.encoder.attribution import METHODS, Attribution
from imgtofmri.figures.style import save_figure
from imgtofmri.outputs import OutputFolder
from imgtofmri.stimuli import Failure
from imgtofmri.tables import write_described

COMMAND, RECORD = "explain", "explanation.json"

CONTRIBUTIONS = {
    "image": "the picture's file name",
    "roi": "the region, each person's own; or the voxel explained, in millimetres",
    "subject": "whose response; group is the mean over the people who have the region",
    "row": "row of the place, 0 at the picture's upper edge, in the square that the network sees",
    "column": "column of the place, 0 at the picture's left edge",
    "contribution": "what the place contributes to the predicted response",
    "unit": "of the contribution",
    "method": "; ".join(f"{name}: {meaning}" for name, meaning in METHODS.items()),
}

RESPONSES = {
    **{column: CONTRIBUTIONS[column] for column in ("image", "roi", "subject")},
    "response": "the predicted response: mean of the region, or value of the voxel",
    "intercept": "the part of the response that no picture changes",
    "places": "the sum of the contributions of all places",
    "unit": "of the response, the intercept and the sum",
}


def save_attribution(
    attribution: Attribution,
    folder: OutputFolder | str | Path,
    *,
    figures: bool = True,
    failures: Iterable[Failure] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Write the tables, a figure for each picture and region, and the record.

    Parameters
    ----------
    attribution : Attribution
    folder : OutputFolder, str or Path
    figures : bool
        Whether to draw.
    failures : iterable of Failure
        Images that could not be used, for the record.
    overwrite : bool
        Replace what an earlier run wrote there.

    Returns
    -------
    list of Path
        ``contributions.tsv`` and ``responses.tsv``, each with a ``.json`` that says what its
        columns are, ``figures/IMAGE_ROI.png``, without the record, ``explanation.json``.

    Raises
    ------
    OptionError
        If the folder holds results of an earlier run.
    OutputError
        If the folder cannot be written to.
    """
    out = OutputFolder.of(folder, COMMAND, RECORD, overwrite=overwrite)
    rows, columns = attribution.contributions.shape[-2:]
    settings = {
        "targets": list(attribution.targets),
        "method": attribution.method,
        "grid": [rows, columns],
    }
    out.begin(settings, attribution.provenance.to_dict())
    out.used(attribution.names, attribution.sha256, attribution.sources)
    for failure in failures:
        out.fail(failure.name, str(failure.error))
    files = [
        *write_described(attribution.table(), out.path / "contributions.tsv", CONTRIBUTIONS),
        *write_described(attribution.responses_table(), out.path / "responses.tsv", RESPONSES),
    ]
    if figures:
        for name in attribution.names:
            for target in attribution.targets:
                figure = plot_attribution(attribution, name, target)
                stem = out.path / "figures" / f"{name}_{target}"
                files += save_figure(figure, stem, ("png",), dpi=200)
    out.wrote(*files)
    out.close()
    return files

"""Files of an attribution: what each place contributes, as tables and as figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
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
    attribution: Attribution | Iterable[Attribution],
    folder: OutputFolder | str | Path,
    *,
    figures: bool = True,
    failures: Iterable[Failure] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Write the tables, a figure for each picture and region, and the record.

    Parameters
    ----------
    attribution : Attribution, or iterable of these
        Parts, as `Attributor.stream` gives them, are drawn as they come.
    folder : OutputFolder, str or Path
    figures : bool
        Whether to draw.
    failures : iterable of Failure
        Images that could not be used, for the record; looked at when all parts are through.
    overwrite : bool
        Replace what an earlier run wrote there.

    Returns
    -------
    list of Path
        ``contributions.tsv`` and ``responses.tsv``, each with a ``.json`` that says what its
        columns are, ``figures/IMAGE_ROI.png``, without the record, ``explanation.json``. None
        where there are no parts: nothing is written then.

    Raises
    ------
    OptionError
        If the folder holds results of an earlier run.
    OutputError
        If the folder cannot be written to.
    """
    import pandas as pd

    out = OutputFolder.of(folder, COMMAND, RECORD, overwrite=overwrite)
    parts = iter([attribution] if isinstance(attribution, Attribution) else attribution)
    first = next(parts, None)
    if first is None:
        return []
    settings = {
        "targets": list(first.targets),
        "method": first.method,
        "grid": list(first.contributions.shape[-2:]),
    }
    places, responses = [], []
    files: list[Path] = []
    with out.begin(settings, first.provenance.to_dict()):
        for part in chain([first], parts):
            out.used(part.names, part.sha256, part.sources)
            places.append(part.table())
            responses.append(part.responses_table())
            if figures:
                files += _draw(part, out.path / "figures")
        for failure in failures:
            out.fail(failure.name, str(failure.error))
        for name, tables, meanings in (
            ("contributions", places, CONTRIBUTIONS),
            ("responses", responses, RESPONSES),
        ):
            table = pd.concat(tables, ignore_index=True)
            files += write_described(table, out.path / f"{name}.tsv", meanings)
        out.wrote(*files)
    return files


def _draw(attribution: Attribution, folder: Path) -> Iterator[Path]:
    for name in attribution.names:
        for target in attribution.targets:
            figure = plot_attribution(attribution, name, target)
            yield from save_figure(figure, folder / f"{name}_{target}", ("png",), dpi=200)

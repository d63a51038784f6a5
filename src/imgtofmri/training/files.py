"""Write a layer search to a folder: table, figure and record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imgtofmri.figures.style import save_figure
from imgtofmri.outputs import OutputFolder
from imgtofmri.tables import write_table
from imgtofmri.training.card import study_files
from imgtofmri.training.figures import plot_layers
from imgtofmri.training.study import Study, read_study

if TYPE_CHECKING:
    import pandas as pd


def save_layers(
    table: pd.DataFrame,
    study: Study | Path | str,
    folder: OutputFolder | str | Path,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write a layer search as ``layers.tsv``, ``layers.png`` and ``.svg``, and ``layers.json``.

    Parameters
    ----------
    table : pandas.DataFrame
        As `layer_search` returns it.
    study : Study or path
        What was searched; the record has the digest of each of its files.
    folder : path or OutputFolder
        Where to write.
    overwrite : bool
        Whether to replace an earlier search.

    Returns
    -------
    list of Path
        The files, without the record.

    Raises
    ------
    OptionError
        If the folder holds an earlier search.
    OutputError
        If it cannot be written to.
    """
    described = study if isinstance(study, Study) else read_study(study)
    out = OutputFolder.of(folder, "layers", overwrite=overwrite)
    layers = list(dict.fromkeys(table["layer"]))
    settings = {"study": str(described.path), "layers": layers}
    with out.begin(settings, measured=study_files(described)):
        files = [
            write_table(table, out.path / "layers.tsv"),
            *save_figure(plot_layers(table), out.path / "layers", footnote=""),
        ]
        out.wrote(*files)
    return files

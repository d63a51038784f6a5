"""Tables that the package itself knows, so that no page can say otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from commands import command_of, command_paths
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from table_columns import TABLES, tables_of

CARDS = Path(__file__).parents[1] / "reference" / "cards"
ENCODER = "bold5000-resnet18"


def exit_codes() -> Iterator[str]:
    """Yield a table of how commands end."""
    from imgtofmri.cli.app import EXIT_CODES

    yield from ("| code | meaning |", "| --- | --- |")
    yield from (f"| `{code}` | {meaning} |" for code, meaning in EXIT_CODES.items())


def commands() -> Iterator[str]:
    """Yield a table of the commands, each with its first line of help."""
    yield from ("| command | what it does |", "| --- | --- |")
    for words in command_paths():
        said = inspect.cleandoc(command_of(words).help or "").partition("\n\n")[0]
        page = f"commands/{'-'.join(words)}.md"
        yield f"| [`{' '.join(words)}`]({page}) | {' '.join(said.split())} |"


def columns() -> Iterator[str]:
    """Yield a section for each command that writes tables, with each column's meaning."""
    for command in dict.fromkeys(table.command for table in TABLES):
        yield from (f"## `{command}`", "")
        for table in tables_of(command):
            yield from (f"### `{table.file}`", "", f"A row is {table.rows}.", "")
            yield from ("| column | meaning |", "| --- | --- |")
            for name, meaning in table.columns.items():
                yield f"| `{name}` | {meaning.replace('|', chr(92) + '|')} |"
            yield ""
            if table.others:
                yield from ("Columns of your own are kept.", "")


def networks() -> Iterator[str]:
    """Yield a table of the networks that are built in, with the layers of each and their widths."""
    from imgtofmri.backbones.architectures import ARCHITECTURES

    for network in ARCHITECTURES.values():
        recipe = network.preprocessing
        yield from (f"## `{network.id}`", "", f"{network.description}.", "")
        yield f"Pictures of {recipe.size} x {recipe.size} pixels. Layers, averaged over space:"
        yield from ("", "| layer | features | with its standard deviation over space |")
        yield "| --- | --- | --- |"
        for layer, width in network.layers.items():
            if not layer.endswith("/sd"):
                also = f"`{layer}/sd`" if f"{layer}/sd" in network.layers else ""
                usual = " (used unless another is named)" if layer == network.default_layer else ""
                yield f"| `{layer}`{usual} | {width} | {also} |"
        yield ""


def encoder_card() -> Iterator[str]:
    """Yield the published encoder's card, made of the bundle where it can be had."""
    yield from ("```text", *card_lines(), "```")


def card_lines() -> list[str]:
    """Return the card as `imgtofmri describe` prints it, or as it was printed when it could be."""
    from imgtofmri.encoder import load_encoder
    from imgtofmri.exceptions import ImgToFmriError

    try:
        return load_encoder(ENCODER, progress=False).describe().splitlines()
    except ImgToFmriError:  # Without a package index, or with IMGTOFMRI_OFFLINE.
        return (CARDS / f"{ENCODER}.txt").read_text("utf-8").splitlines()


SHOWN: dict[str, Callable[[], Iterator[str]]] = {
    "columns": columns,
    "commands": commands,
    "encoder-card": encoder_card,
    "exit-codes": exit_codes,
    "networks": networks,
}


class FromPackage(SphinxDirective):
    """Show one of `SHOWN`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what is shown."""
        name = directives.choice(self.arguments[0], tuple(SHOWN))
        return self.parse_text_to_nodes("\n".join(SHOWN[name]()), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive ``from-package``."""
    app.add_directive("from-package", FromPackage)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

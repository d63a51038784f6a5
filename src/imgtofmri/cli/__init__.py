"""The command line: parse, call, print.

Each command has a module of its own, with light imports only, so that help answers at once.
"""

from __future__ import annotations

from imgtofmri.cli.app import main

__all__ = ["main"]

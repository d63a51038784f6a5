"""``python -m imgtofmri``: the command line, of the Python that runs it."""

from __future__ import annotations

import sys

from imgtofmri.cli import main

if __name__ == "__main__":
    sys.exit(main())

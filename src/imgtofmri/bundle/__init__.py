"""The encoder's file format: one safetensors file, arrays plus a JSON card, no code.

``docs/reference/bundle.md`` specifies it byte by byte.
"""

from __future__ import annotations

from imgtofmri.bundle.file import FORMAT, FORMAT_VERSION, read_bundle, write_bundle
from imgtofmri.bundle.models import HEMIS, Bundle, Card, RoiModel, SubjectModel

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "HEMIS",
    "Bundle",
    "Card",
    "RoiModel",
    "SubjectModel",
    "read_bundle",
    "write_bundle",
]

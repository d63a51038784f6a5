"""Simulated runs as a BIDS dataset, written whole or not at all."""

from __future__ import annotations

from imgtofmri.outputs.simulated.dataset import (
    brain_mask,
    check_length,
    check_storage,
    write_dataset,
)
from imgtofmri.outputs.simulated.staging import check_target

__all__ = ["brain_mask", "check_length", "check_storage", "check_target", "write_dataset"]

"""How this process was asked for what it does."""

from __future__ import annotations

from contextvars import ContextVar

COMMAND_LINE: ContextVar[str] = ContextVar("COMMAND_LINE", default="")
"""The command line that is being executed, for records; empty where Python was asked."""

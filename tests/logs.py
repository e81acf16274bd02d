"""Which log lines of the project's processes are unexpected in a test."""

from collections.abc import Mapping
from typing import Any


def is_unexpected(line: Mapping[str, Any]) -> bool:
    """Whether a log line reports an error, or an exception at whatever level."""
    return line.get("level") in ("error", "critical") or "exception" in line

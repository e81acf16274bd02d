"""Bounds for text in condition messages that comes from elsewhere, so that a message stays short and valid."""

from collections.abc import Iterable

_MAX_LISTED = 10
QUOTE_LENGTH = 300
"""Characters quoted from another system, unless its message is longer by nature."""
LONG_QUOTE_LENGTH = 1000
"""Characters quoted from Kubernetes: the scheduler and admission policies answer with lists."""


def listed(names: Iterable[str]) -> str:
    """The names in alphabetical order, at most ten of them."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _MAX_LISTED} more" if len(ordered) > _MAX_LISTED else ""
    return ", ".join(ordered[:_MAX_LISTED]) + more if ordered else "none"


def quoted(text: str, max_length: int = QUOTE_LENGTH) -> str:
    """Another system's text on one line, at most `max_length` characters, without a full stop at the end."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return (line if len(line) <= max_length else f"{line[: max_length - 1]}…").rstrip(".")

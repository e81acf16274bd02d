"""What conditions quote from others, cut so that a message stays readable and within its bounds."""

from collections.abc import Iterable

_LISTED = 10
_QUOTED = 300
"""Characters."""


def listed(names: Iterable[str]) -> str:
    """The names, in order, but not a thousand of them."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return ", ".join(ordered[:_LISTED]) + more if ordered else "none"


def quoted(words: str) -> str:
    """Somebody else's words on one line, without a full stop at the end."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return (line if len(line) <= _QUOTED else f"{line[: _QUOTED - 1]}…").rstrip(".")

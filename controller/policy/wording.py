"""What conditions quote from others, cut so that a message stays readable and within its bounds."""

from collections.abc import Iterable

_LISTED = 10
QUOTED = 300
"""Characters that are quoted of somebody, unless more of what they say is needed."""
AT_LENGTH = 1000
"""Characters that are quoted of Kubernetes: what a scheduler or an admission policy says is a list."""


def listed(names: Iterable[str]) -> str:
    """The names, in order, but not a thousand of them."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return ", ".join(ordered[:_LISTED]) + more if ordered else "none"


def quoted(words: str, most: int = QUOTED) -> str:
    """Somebody else's words on one line, at most so many characters, without a full stop at the end."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return (line if len(line) <= most else f"{line[: most - 1]}…").rstrip(".")

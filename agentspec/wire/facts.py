"""Bounded facts from any JSON: a flat mapping of short texts, numbers and booleans. Pure, and never raises.

Facts go to the language model as data. Their number and size are bounded, whatever sends them.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

Fact = str | bool | int | float

MAX_TEXT_LENGTH: Final = 64 * 1024
"""Characters of a text that is parsed as JSON. A longer one is treated as text."""
MAX_FACTS: Final = 32
MAX_KEY_BYTES: Final = 256
MAX_VALUE_BYTES: Final = 1024
"""A longer text is cut."""
MAX_TOTAL_BYTES: Final = 2048
"""Keys and values together, in UTF-8."""
MAX_DEPTH: Final = 8
"""Levels of nested objects and lists."""
INTEGER_BOUND: Final = 2**53
"""JSON numbers beyond it do not survive every reader: they become text."""
_LONGEST_INTEGER: Final = 64
"""Digits of an integer that becomes text. A longer one is dropped: converting it costs time."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class _Invalid:
    """A value that JSON has no name for: NaN, Infinity, or an integer with too many digits."""


class Facts:
    """Collects facts and counts what it drops or cuts."""

    def __init__(self) -> None:
        self.values: dict[str, Fact] = {}
        self.dropped = 0
        """Facts dropped or cut. The content is never logged."""
        self._bytes = 0

    def add(self, key: str, value: object) -> None:
        """Add a decoded JSON value; nested objects and lists become one fact for each leaf, with a dotted key."""
        for path, leaf in _leaves(key, value, 0):
            self._add(path, leaf)

    def _add(self, key: str, value: object) -> None:
        if len(self.values) == MAX_FACTS or (fact := _fact(value)) is None:
            self.dropped += value is not None
            return
        key = clean(key[: MAX_KEY_BYTES + 1])
        key_size = len(key.encode())
        total = self._bytes + key_size + len(str(fact).encode())
        if 0 < key_size <= MAX_KEY_BYTES and key not in self.values and total <= MAX_TOTAL_BYTES:
            self.values[key] = fact
            self._bytes = total
            self.dropped += isinstance(value, str) and len(str(fact)) < len(value)
        else:
            self.dropped += 1


def _fact(value: object) -> Fact | None:
    """Return the value as a fact, cut to its bound; None when JSON has no such value, or it is null."""
    if isinstance(value, str):
        return clean(value[:MAX_VALUE_BYTES]).encode()[:MAX_VALUE_BYTES].decode(errors="ignore")
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= INTEGER_BOUND else str(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    return None


def decode(text: str) -> object:
    """Return the JSON value in `text`, or the text itself when it is not JSON, or too long to parse."""
    if len(text) > MAX_TEXT_LENGTH:
        return text
    try:
        return json.loads(text, parse_int=_integer, parse_constant=lambda _: _Invalid())
    except (ValueError, RecursionError):
        return text


def clean(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 cannot express, replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def _integer(digits: str) -> int | _Invalid:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else _Invalid()


def _leaves(path: str, value: Any, depth: int) -> Iterator[tuple[str, object]]:  # noqa: ANN401 - decoded JSON
    """Yield each leaf with its dotted path, in document order.

    A value that is nested too deeply, or has too long a path, is one invalid leaf.
    """
    if not isinstance(value, dict | list):
        yield path, value
        return
    if depth == MAX_DEPTH or len(path) > MAX_KEY_BYTES:
        yield path, _Invalid()
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(f"{path}.{key}" if path else str(key), inner, depth + 1)

"""Room name patterns: Python's regular expressions, limited to those that match quickly for every room name.

Python's engine backtracks: a short pattern such as ``(a+)+x`` can keep a process busy for years, and one gateway
matches the patterns of all agents.

This module counts the ways in which a pattern can match, from the engine's own parse.
It rejects a pattern with too many.

The gateway names its rooms after the pattern. The controller reports when it cannot.
"""

import re
import warnings
from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile
from re import _constants as opcodes  # type: ignore[attr-defined, unused-ignore]
from re import _parser as parser  # type: ignore[attr-defined, unused-ignore]
from typing import Any

MANY = 32
"""Ways to match of a repetition without a fixed number: about the length of a room name."""
MAX_WAYS = MANY**3
"""Limit of the product over all parts of a pattern: three open repetitions, or two and some alternatives."""

MAX_ROOM_NAME_BYTES = 256
"""LiveKit's limit: livekit-server pkg/config/config.go, MaxRoomNameLength."""

_CALL_IDS = (*(digit * 24 for digit in "0123456789abcdef"), "0123456789abcdef01234567", "fedcba9876543210fedcba98")
"""Examples of the gateway's call ids: 24 hexadecimal digits."""
_BEGINNINGS = frozenset({opcodes.AT_BEGINNING, opcodes.AT_BEGINNING_STRING})
_REPEATS = frozenset({opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT})
_ONE_CHARACTER = frozenset({opcodes.LITERAL, opcodes.NOT_LITERAL, opcodes.ANY, opcodes.IN, opcodes.RANGE})


class RoomPatternInvalid(ValueError):
    """Workers cannot use the pattern. The message says why."""


class RoomNameMismatch(RoomPatternInvalid):
    """Workers can use the pattern, but would decline the gateway's rooms. The message says what to set."""


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the compiled pattern.

    Raises:
        RoomPatternInvalid: It is not a regular expression, or matching could take too long.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about patterns whose meaning may change in a later Python
            ways = _ways(parser.parse(pattern))
            if ways <= MAX_WAYS:
                return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise RoomPatternInvalid(f"it is not a regular expression: {error}") from error
    raise RoomPatternInvalid(
        "matching could take too long: repeat single characters only, and at most three times without a fixed number"
    )


def room_name(pattern: str, call_id: str) -> str:
    """Return the name of the gateway's room for a call: the pattern's literal prefix, or `call-`, and the call id.

    Raises:
        RoomPatternInvalid: Workers cannot use the pattern.
        RoomNameMismatch: Workers would decline the room.
    """
    expression = compile_pattern(pattern)
    name = (literal_prefix(pattern) or "call-") + call_id
    if len(name.encode()) > MAX_ROOM_NAME_BYTES:
        raise RoomNameMismatch(
            f"room names would be longer than LiveKit's limit of {MAX_ROOM_NAME_BYTES} bytes: shorten the prefix"
        )
    if not expression.search(name):
        raise RoomNameMismatch(
            f"it does not match the gateway's room name {name!r}: begin the pattern with ^ and a literal prefix and "
            "leave the end open, as in '^support-'"
        )
    return name


@lru_cache(maxsize=4096)
def room_name_error(pattern: str) -> str:
    """Return why the gateway cannot make a room name for every call, or an empty text."""
    try:
        for call_id in _CALL_IDS:
            room_name(pattern, call_id)
    except RoomPatternInvalid as error:
        return str(error)
    return ""


@lru_cache(maxsize=4096)
def literal_prefix(pattern: str) -> str:
    """Return the printable text that every match of an anchored pattern begins with.

    ``^ornina-`` gives ``ornina-``, ``^a(b|c)`` gives ``a``, and a pattern without ``^`` gives an empty text. The
    pattern must be one that `compile_pattern` accepts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = list(parser.parse(pattern))
    if not parts or parts[0][0] is not opcodes.AT or parts[0][1] not in _BEGINNINGS:
        return ""
    literals = takewhile(lambda part: part[0] is opcodes.LITERAL and chr(part[1]).isprintable(), parts[1:])
    return "".join(chr(code) for _, code in literals)


def _ways(parts: Iterable[Any]) -> int:
    """Return about how many ways a sequence can match; the count stops above `MAX_WAYS`."""
    ways = 1
    for operation, argument in parts:
        ways = min(ways * _ways_of(operation, argument), MAX_WAYS + 1)
    return ways


def _ways_of(operation: object, argument: Any) -> int:  # noqa: ANN401 - depends on the operation
    if operation in _REPEATS:
        minimum, maximum, inner = argument
        return _ways_of_repeat(minimum, maximum, list(inner))
    if operation is opcodes.BRANCH:
        return sum(_ways(alternative) for alternative in argument[1])
    if operation is opcodes.SUBPATTERN:
        return _ways(argument[-1])
    if operation is opcodes.GROUPREF_EXISTS:
        return _ways(argument[1]) + _ways(argument[2] or ())
    if operation in (opcodes.ASSERT, opcodes.ASSERT_NOT):
        return _ways(argument[1])
    return _ways(argument) if operation is opcodes.ATOMIC_GROUP else 1


def _ways_of_repeat(minimum: int, maximum: int, inner: list[Any]) -> int:
    if len(inner) == 1 and inner[0][0] in _ONE_CHARACTER:
        return min(maximum - minimum + 1, MANY)
    if _ways(inner) > 1 and maximum > 1:
        return MAX_WAYS + 1
    return _ways(inner) + 1 if maximum <= 1 else max(minimum, min(maximum, MANY))

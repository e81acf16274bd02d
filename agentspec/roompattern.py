"""Room name patterns: Python's regular expressions, as far as matching one is quick whatever the room is called.

Python's engine backtracks: a short pattern such as ``(a+)+x`` can keep a process busy for years, and the gateway that
matches it serves everybody's agents. So the ways in which a pattern can match are counted before it is used, from the
engine's own parse of it, and patterns with too many are refused.

The gateway names its rooms after the pattern; whether it can is told here, to the controller too.
"""

import re
import warnings
from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile
from re import _constants as opcodes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

MANY = 32
"""Ways to match that an open repetition counts for: about the length of a room's name."""
MAX_WAYS = MANY**3
"""A pattern's parts multiply. Three open repetitions are allowed, or two and some alternatives."""

MAX_ROOM_NAME_BYTES = 256
"""LiveKit refuses longer ones: livekit-server pkg/config/config.go, MaxRoomNameLength."""

_CALL_IDS = (*(digit * 24 for digit in "0123456789abcdef"), "0123456789abcdef01234567", "fedcba9876543210fedcba98")
"""What the gateway's ids of calls look like: 24 hexadecimal digits."""
_BEGINNINGS = frozenset({opcodes.AT_BEGINNING, opcodes.AT_BEGINNING_STRING})
_REPEATS = frozenset({opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT})
_ONE_CHARACTER = frozenset({opcodes.LITERAL, opcodes.NOT_LITERAL, opcodes.ANY, opcodes.IN, opcodes.RANGE})


class RoomPatternInvalid(ValueError):
    """The pattern cannot be used; the message says why."""


class RoomNameMismatch(RoomPatternInvalid):
    """Workers can use the pattern, but would decline the gateway's rooms; the message says what to write."""


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern ready for use. Raises RoomPatternInvalid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of patterns whose meaning may change in a later Python
            ways = _ways(parser.parse(pattern))
            if ways <= MAX_WAYS:
                return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise RoomPatternInvalid(f"it is not a regular expression: {error}") from error
    raise RoomPatternInvalid(
        "it could match in too many ways, which may take for ever: repeat single characters only, at most three times "
        "without a fixed number"
    )


def room_name(pattern: str, call_id: str) -> str:
    """The room that the gateway makes for a call: the pattern's literal prefix, or `call-`, and the call's id.

    Raises:
        RoomPatternInvalid: no worker can use the pattern.
        RoomNameMismatch: workers would decline the room.
    """
    expression = compiled(pattern)
    name = (literal_prefix(pattern) or "call-") + call_id
    if len(name.encode()) > MAX_ROOM_NAME_BYTES:
        raise RoomNameMismatch(
            f"the names of rooms would be longer than the {MAX_ROOM_NAME_BYTES} bytes that LiveKit allows: shorten it"
        )
    if not expression.search(name):
        raise RoomNameMismatch(
            f"it does not match the room name {name!r} that the gateway makes from it: begin the pattern with ^ and a "
            "literal prefix and leave the end open, as in '^support-'"
        )
    return name


@lru_cache(maxsize=4096)
def gateway_obstacle(pattern: str) -> str:
    """Why the gateway cannot make rooms for every call; empty: it can. The words of `RoomPatternInvalid`."""
    try:
        for call_id in _CALL_IDS:
            room_name(pattern, call_id)
    except RoomPatternInvalid as problem:
        return str(problem)
    return ""


def literal_prefix(pattern: str) -> str:
    """The printable text that every match of an anchored pattern begins with.

    ``^ornina-`` gives ``ornina-``, ``^a(b|c)`` gives ``a``; a pattern without ``^`` gives nothing. The pattern has to
    be one that `compiled` takes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = list(parser.parse(pattern))
    if not parts or parts[0][0] is not opcodes.AT or parts[0][1] not in _BEGINNINGS:
        return ""
    literals = takewhile(lambda part: part[0] is opcodes.LITERAL and chr(part[1]).isprintable(), parts[1:])
    return "".join(chr(code) for _, code in literals)


def _ways(parts: Iterable[Any]) -> int:
    """In how many ways a sequence can match, about, and not counted beyond MAX_WAYS."""
    ways = 1
    for operation, argument in parts:
        ways = min(ways * _ways_of(operation, argument), MAX_WAYS + 1)
    return ways


def _ways_of(operation: object, argument: Any) -> int:  # noqa: ANN401 - the parser's own, by operation
    if operation in _REPEATS:
        least, most, inner = argument
        return _ways_of_repeat(least, most, list(inner))
    if operation is opcodes.BRANCH:
        return sum(_ways(alternative) for alternative in argument[1])
    if operation is opcodes.SUBPATTERN:
        return _ways(argument[-1])
    if operation is opcodes.GROUPREF_EXISTS:
        return _ways(argument[1]) + _ways(argument[2] or ())
    if operation in (opcodes.ASSERT, opcodes.ASSERT_NOT):
        return _ways(argument[1])
    return _ways(argument) if operation is opcodes.ATOMIC_GROUP else 1


def _ways_of_repeat(least: int, most: int, inner: list[Any]) -> int:
    if len(inner) == 1 and inner[0][0] in _ONE_CHARACTER:
        return min(most - least + 1, MANY)
    if _ways(inner) > 1 and most > 1:
        return MAX_WAYS + 1
    return _ways(inner) + 1 if most <= 1 else max(least, min(most, MANY))

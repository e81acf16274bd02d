"""Room name patterns match quickly, or are rejected."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec.roompattern import RoomPatternInvalid, compile_pattern

COMMON = [
    ".*",
    "",
    "^ornina-",
    "^support-.*$",
    "^(sales|support)-[a-z0-9]+-\\d+$",
    "^[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$",
    "^\\d{4}-\\d{2}-\\d{2}-.+",
    "^desk(-vip)?-",
    "^(ab){3}x*",
    "(?i)^Front-Desk-",
    "^(?!test-)",
    "^غرفة-",
]


@pytest.mark.parametrize("pattern", COMMON)
def test_common_pattern_is_accepted(pattern: str) -> None:
    assert compile_pattern(pattern).pattern == pattern


@pytest.mark.parametrize(
    "pattern",
    ["(", "[a", "*", "a{2,1}", "(?P<a>x)(?P<a>y)", "(?<=a+)b", "a{99999999999}", "\\8", "(?P<>x)", "\\"],
)
def test_invalid_regular_expression_is_rejected(pattern: str) -> None:
    with pytest.raises(RoomPatternInvalid, match="it is not a regular expression: "):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+x",
        "(([0-9a-f]+)+)+!",
        "(a|aa)+x",
        "(?:..|.)*!",
        ".*.*.*.*!",
        "(?:){4294967290}x",
        "(?:(?:){60000}){60000}x",
        "(?=(a+)+x)",
        "(?:.|..)" * 30 + "!",
        "(?:a?){30}a{30}",
    ],
)
def test_slow_pattern_is_rejected_with_what_to_set(pattern: str) -> None:
    with pytest.raises(RoomPatternInvalid, match="repeat single characters only"):
        compile_pattern(pattern)


def test_pattern_whose_meaning_may_change_gives_no_warning() -> None:
    assert compile_pattern("[[a]").search("[")


PIECES = [
    "a",
    "b",
    ".",
    "[0-9a-f]",
    "(",
    "(?:",
    "(?=",
    ")",
    "|",
    "*",
    "+",
    "?",
    "{2}",
    "{0,9}",
    "{3,}",
    "$",
    "\\b",
    "x",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.sampled_from(["call-", "", "aaaa"]))
def test_accepted_pattern_matches_quickly(pattern: str, prefix: str) -> None:
    try:
        expression: re.Pattern[str] = compile_pattern(pattern)
    except RoomPatternInvalid:
        return
    started = time.process_time()
    expression.search(f"{prefix}0123456789abaaaaaaaaaaaa")
    assert time.process_time() - started < 1

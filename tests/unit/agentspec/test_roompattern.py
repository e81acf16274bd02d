"""Patterns of room names: quick whatever they are, or refused."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec.roompattern import RoomPatternInvalid, compiled

USED = [
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


@pytest.mark.parametrize("pattern", USED)
def test_patterns_that_people_write_are_used(pattern: str) -> None:
    assert compiled(pattern).pattern == pattern


@pytest.mark.parametrize(
    "pattern",
    ["(", "[a", "*", "a{2,1}", "(?P<a>x)(?P<a>y)", "(?<=a+)b", "a{99999999999}", "\\8", "(?P<>x)", "\\"],
)
def test_what_is_no_regular_expression_is_told_as_such(pattern: str) -> None:
    with pytest.raises(RoomPatternInvalid, match="it is not a regular expression: "):
        compiled(pattern)


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
def test_what_could_take_for_ever_is_refused_with_what_to_write(pattern: str) -> None:
    with pytest.raises(RoomPatternInvalid, match="repeat single characters only"):
        compiled(pattern)


def test_a_pattern_whose_meaning_may_change_gives_no_warning() -> None:
    assert compiled("[[a]").search("[")


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
def test_whatever_is_used_is_quick(pattern: str, prefix: str) -> None:
    try:
        expression: re.Pattern[str] = compiled(pattern)
    except RoomPatternInvalid:
        return
    started = time.process_time()
    expression.search(f"{prefix}0123456789abaaaaaaaaaaaa")
    assert time.process_time() - started < 1

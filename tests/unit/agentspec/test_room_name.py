"""Room names follow the agent's pattern, or an error says why they cannot."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec.roompattern import RoomNameMismatch, RoomPatternInvalid, literal_prefix, room_name, room_name_error

CALL_ID = st.from_regex(r"[0-9a-f]{24}", fullmatch=True)


@pytest.mark.parametrize(
    ("pattern", "prefix", "why"),
    [
        ("^ornina-", "ornina-", "an anchored literal"),
        ("^ornina-.*$", "ornina-", "up to the first operator"),
        (r"\Aornina-", "ornina-", "the other anchor"),
        ("(?i)^Front-", "Front-", "flags do not change the prefix"),
        ("^غرفة-", "غرفة-", "letters of any script"),
        (r"^shop\.eu-", "shop.eu-", "an escaped character is itself"),
        (r"^room\d+", "room", "an escaped letter is a class"),
        (r"^room\n", "room", "only printable characters"),
        ("^ab*c", "a", "a repeated character may be missing"),
        ("^ab?c", "a", "an optional character may be missing"),
        ("^ab{2}", "a", "a counted character"),
        ("^(a|b)-", "", "a group"),
        ("^[ab]-", "", "a class"),
        ("^a-|^b-", "", "an alternative at the top level"),
        ("^a-|b-", "", "an alternative that is not anchored"),
        ("^a(b|c)", "a", "an alternative in a group"),
        (r"^a\|b", "a|b", "an escaped bar"),
        ("^a[|]b", "a|b", "a class of one character"),
        ("ornina-", "", "not anchored"),
        ("[[a]", "", "an expression whose meaning may change"),
        (".*", "", "anything"),
        ("", "", "nothing"),
    ],
)
def test_literal_prefix(pattern: str, prefix: str, why: str) -> None:
    assert literal_prefix(pattern) == prefix, why


def test_room_is_named_after_the_prefix_and_the_call() -> None:
    assert room_name("^ornina-", "c1") == "ornina-c1"
    assert room_name(".*", "c1") == "call-c1"


MISMATCHED = ["^ornina-$", "^desk$", "ornina-", "ornina-*", "^[0-9]+$", "^a-|^b-", "^ornina-[a-z]+-.*", "(?i)x^"]


@pytest.mark.parametrize("pattern", MISMATCHED)
def test_pattern_that_matches_no_room_name_is_explained(pattern: str) -> None:
    with pytest.raises(RoomNameMismatch, match="begin the pattern with"):
        room_name(pattern, "0123456789abcdef01234567")
    assert "begin the pattern with" in room_name_error(pattern)


@pytest.mark.parametrize("pattern", [r"^room-\d+", "^room-[a-z]", "^room-(?!7)"])
def test_pattern_that_matches_only_some_room_names_is_explained(pattern: str) -> None:
    assert "begin the pattern with" in room_name_error(pattern)


@pytest.mark.parametrize("pattern", [".*", "", "^ornina-", "(?i)^ornina-", "^ornina-[0-9a-f]{24}$", r"^[^\s]+$", "-"])
def test_pattern_that_matches_all_room_names_has_no_error(pattern: str) -> None:
    assert room_name_error(pattern) == ""


def test_name_longer_than_livekit_allows_is_explained() -> None:
    assert room_name_error("^" + "a" * 232) == ""
    assert "shorten the prefix" in room_name_error("^" + "a" * 233)
    assert "shorten the prefix" in room_name_error("^" + "غ" * 117), "LiveKit counts bytes"


def test_invalid_regular_expression_is_explained() -> None:
    with pytest.raises(RoomPatternInvalid, match="not a regular expression"):
        room_name("^(", "c1")
    assert "not a regular expression" in room_name_error("^(")


@given(st.text(max_size=40), CALL_ID)
def test_room_name_matches_its_pattern_or_raises(pattern: str, call_id: str) -> None:
    try:
        name = room_name(pattern, call_id)
    except RoomPatternInvalid:
        return
    assert re.search(pattern, name)
    assert name.endswith(call_id)


@given(st.lists(st.sampled_from("^ab-[](){}|*+?.$1"), max_size=10).map("".join), CALL_ID)
def test_pattern_without_an_error_matches_its_room_name(pattern: str, call_id: str) -> None:
    if not room_name_error(pattern):
        assert re.search(pattern, room_name(pattern, call_id))

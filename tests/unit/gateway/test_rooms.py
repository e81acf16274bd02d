"""Room names follow the agent's pattern; records in rooms are read back, and nothing else is taken for one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rooms import (
    RoomPatternError,
    RoomRecord,
    call_id_for,
    literal_prefix,
    new_call_id,
    parse_record,
    render_record,
    room_name,
)


@pytest.mark.parametrize(
    ("pattern", "prefix", "why"),
    [
        ("^ornina-", "ornina-", "an anchored literal"),
        ("^ornina-.*$", "ornina-", "up to the first operator"),
        (r"^shop\.eu-", "shop.eu-", "an escaped character is itself"),
        (r"^room\d+", "room", "an escaped letter is a class"),
        ("^ab*c", "a", "a repeated character may be missing"),
        ("^ab?c", "a", "an optional character may be missing"),
        ("^ab{2}", "a", "a counted character"),
        ("^(a|b)-", "", "a group"),
        ("^[ab]-", "", "a class"),
        ("^a-|^b-", "", "an alternative at the top level"),
        ("^a(b|c)", "a", "an alternative in a group"),
        (r"^a\|b", "a|b", "an escaped bar"),
        ("^a[|]b", "a", "a bar in a class"),
        ("ornina-", "", "not anchored"),
        (".*", "", "anything"),
        ("", "", "nothing"),
    ],
)
def test_literal_prefix(pattern: str, prefix: str, why: str) -> None:
    assert literal_prefix(pattern) == prefix, why


def test_a_room_is_named_after_the_prefix_and_the_call() -> None:
    assert room_name("^ornina-", "c1") == "ornina-c1"
    assert room_name(".*", "c1") == "call-c1"


@pytest.mark.parametrize("pattern", ["^ornina-$", "ornina-", "^[0-9]+$", "^a-|^b-"])
def test_a_pattern_that_no_name_can_be_made_for_is_explained(pattern: str) -> None:
    with pytest.raises(RoomPatternError, match="begin the pattern with"):
        room_name(pattern, "c1")


def test_a_pattern_that_is_no_expression_is_explained() -> None:
    with pytest.raises(RoomPatternError, match="not a regular expression"):
        room_name("^(", "c1")


@given(st.text(max_size=40), st.from_regex(r"[0-9a-f]{24}", fullmatch=True))
def test_a_room_name_matches_its_pattern_or_there_is_none(pattern: str, call_id: str) -> None:
    try:
        name = room_name(pattern, call_id)
    except RoomPatternError:
        return
    assert re.search(pattern, name)
    assert name.endswith(call_id)


def test_ids_are_the_same_for_the_same_request_only() -> None:
    ids = {
        call_id_for("a/x", "public", "key"),
        call_id_for("a/y", "public", "key"),
        call_id_for("a/x", "key/site", "key"),
        call_id_for("a/x", "public", "other"),
        new_call_id(),
        new_call_id(),
    }
    assert len(ids) == 6
    assert call_id_for("a/x", "public", "key") in ids


def test_a_record_is_read_back() -> None:
    record = RoomRecord(
        call_id="c1", agent="a/x", identity="caller-c1", created_at=12.5, request_hash="h", agent_name="x"
    )
    assert parse_record(render_record(record)) == record


@pytest.mark.parametrize("metadata", ["", "{}", "null", "[1]", '{"callID": "c1"}', '{"version": 2}', "\ud800"])
def test_other_rooms_are_not_taken_for_ours(metadata: str) -> None:
    assert parse_record(metadata) is None

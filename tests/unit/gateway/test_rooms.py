"""Ids are one for a request; records in rooms are read back, and nothing else is taken for one."""

import pytest

from gateway.rooms import RoomRecord, call_id_for, new_call_id, parse_record, render_record


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

"""Room records: read back, extended by the worker, and never mistaken."""

import json

import pytest

from agentspec.wire import CallOutcome, RoomRecord, read_room_record, render, with_outcome

RECORD = RoomRecord(call_id="c1", agent="a/x", identity="caller-c1", created_at=12.5, request_hash="h", agent_name="x")


def test_record_is_read_back() -> None:
    assert read_room_record(render(RECORD)) == RECORD


@pytest.mark.parametrize("metadata", ["", "{}", "null", "[1]", '{"callID": "c1"}', '{"version": 2}', "\ud800"])
def test_other_metadata_is_not_a_record(metadata: str) -> None:
    assert read_room_record(metadata) is None


def test_version_of_a_newer_record_is_accepted() -> None:
    newer = json.dumps(json.loads(render(RECORD)) | {"version": 2})
    assert read_room_record(newer) == RECORD.model_copy(update={"version": 2})


@pytest.mark.parametrize("outcome", list(CallOutcome))
def test_gateway_reads_the_outcome_that_the_worker_adds(outcome: CallOutcome) -> None:
    record = read_room_record(with_outcome(render(RECORD), outcome))
    assert record is not None
    assert record.outcome is outcome
    assert record.model_copy(update={"outcome": ""}) == RECORD


def test_unknown_outcome_stays_as_text() -> None:
    newer = json.dumps(json.loads(render(RECORD)) | {"outcome": "transferred"})
    record = read_room_record(newer)
    assert record is not None
    assert record.outcome == "transferred"
    assert not isinstance(record.outcome, CallOutcome)


def test_worker_keeps_fields_of_a_newer_gateway() -> None:
    newer = json.loads(render(RECORD)) | {"history": ["مرحباً"]}
    assert json.loads(with_outcome(json.dumps(newer), CallOutcome.MAX_LENGTH)) == newer | {"outcome": "max_length"}


@pytest.mark.parametrize("metadata", ["", "null", "[]", "{}"])
def test_outcome_is_not_added_to_other_metadata(metadata: str) -> None:
    with pytest.raises(ValueError, match="not a room record"):
        with_outcome(metadata, CallOutcome.MAX_LENGTH)

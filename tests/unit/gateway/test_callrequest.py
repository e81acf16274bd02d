"""Request bodies: valid ones are parsed, and all others are rejected with 400 and the name of the field."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec.wire import DispatchMetadata, read_dispatch_metadata
from gateway.calls.request import AgentRef, CallRequest, parse_request
from gateway.errors import ErrorReason, RequestError

MINIMAL: dict[str, Any] = {"agent": "ornina", "name": "Layla"}
FULL: dict[str, Any] = {
    "agent": {"namespace": "agents", "name": "ornina"},
    "name": "  ليلى   الحسن ",
    "language": "ar-SY",
    "userId": "user-7",
    "capabilities": ["video"],
    "metadata": {"plan": "gold", "visits": 3, "vip": True, "score": 1.5},
}
BODY = json.dumps(FULL, ensure_ascii=False).encode()
WORKER_READS_BYTES = 4096


def body_with(**changes: object) -> bytes:
    """A minimal body with changed fields."""
    return json.dumps(MINIMAL | changes).encode()


def outcome(body: bytes) -> CallRequest | RequestError:
    """Parse a body; a rejection must have a stable reason and say what to do. Other exceptions fail the test."""
    try:
        return parse_request(body)
    except RequestError as error:
        assert error.status == 400
        assert error.reason in (ErrorReason.BAD_JSON, ErrorReason.INVALID_REQUEST)
        if error.reason is ErrorReason.BAD_JSON:
            assert error.field == ""
        assert error.message.endswith(".")
        assert error.field in error.message
        json.dumps(error.document(), allow_nan=False)
        return error


def rejection(body: bytes) -> RequestError:
    """The rejection of a body."""
    error = outcome(body)
    assert isinstance(error, RequestError)
    return error


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_minimal_and_full_requests_are_parsed() -> None:
    assert parse_request(body_with()).agent == "ornina"
    full = parse_request(BODY)
    assert full.agent == AgentRef(namespace="agents", name="ornina")
    assert full.name == "ليلى الحسن"
    assert read_dispatch_metadata(full.dispatch_metadata("c1", "caller-c1", "en"))[0] == DispatchMetadata(
        call_id="c1",
        caller_identity="caller-c1",
        user_id="user-7",
        language="ar-SY",
        capabilities=["video"],
        metadata={"plan": "gold", "visits": 3, "vip": True, "score": 1.5},
    )


def test_language_defaults_to_the_agents_language() -> None:
    assert json.loads(parse_request(body_with()).dispatch_metadata("c1", "caller-c1", "ar"))["language"] == "ar"


def test_trace_context_is_part_of_the_metadata_if_there_is_one() -> None:
    request = parse_request(body_with())
    assert "traceparent" not in json.loads(request.dispatch_metadata("c1", "caller-c1", "ar"))
    metadata = request.dispatch_metadata("c1", "caller-c1", "ar", TRACEPARENT)
    assert read_dispatch_metadata(metadata)[0].traceparent == TRACEPARENT


def test_largest_request_fits_the_metadata_that_a_worker_reads() -> None:
    largest = body_with(
        userId="\u0001" * 128,
        language="abc" + "-abcdefgh" * 3 + "-abcd",
        capabilities=["c" * 64] * 16,
        metadata={f"{n:02}": "ع" * 40 for n in range(16)},
    )
    metadata = parse_request(largest).dispatch_metadata("c" * 24, "caller-" + "c" * 24, "ar", TRACEPARENT)
    assert len(metadata.encode()) <= WORKER_READS_BYTES


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " \t "}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": 7}, "name"),
        ({"name": None}, "name"),
        ({"agent": ""}, "agent"),
        ({"agent": "Not A Name"}, "agent"),
        ({"agent": {"name": "ornina"}}, "agent.namespace"),
        ({"agent": ["ornina"]}, "agent"),
        ({"language": "arabic!"}, "language"),
        ({"userId": ""}, "userId"),
        ({"capabilities": "video"}, "capabilities"),
        ({"capabilities": ["v"] * 17}, "capabilities"),
        ({"capabilities": ["a b"]}, "capabilities.0"),
        ({"metadata": {"a": {"b": 1}}}, "metadata.a"),
        ({"metadata": {"a": None}}, "metadata.a"),
        ({"metadata": {"a": "x" * 257}}, "metadata.a"),
        ({"metadata": {"a": 2**60}}, "metadata"),
        ({"metadata": {str(n): 1 for n in range(17)}}, "metadata"),
        ({"metadata": {str(n): "x" * 250 for n in range(16)}}, "metadata"),
        ({"room": "mine"}, "room"),
        ({"roomConfig": {"agents": []}}, "roomConfig"),
        ({"identity": "admin"}, "identity"),
        ({"user_id": "x"}, "user_id"),
    ],
)
def test_rejection_names_the_wrong_field(changes: dict[str, object], field: str) -> None:
    error = rejection(body_with(**changes))
    assert (error.reason, error.field) == (ErrorReason.INVALID_REQUEST, field)


def test_rejection_names_the_missing_field() -> None:
    error = rejection(b'{"agent": "ornina"}')
    assert (error.reason, error.field) == (ErrorReason.INVALID_REQUEST, "name")
    assert error.message == "The field name is missing. Add it."


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", ErrorReason.BAD_JSON),
        (b"{", ErrorReason.BAD_JSON),
        (b"nope", ErrorReason.BAD_JSON),
        (b"\xff\xfe", ErrorReason.BAD_JSON),
        (b"[" * 5000, ErrorReason.BAD_JSON),
        (b'{"agent": "\\ud800"}', ErrorReason.BAD_JSON),
        (b"{'agent': 1}", ErrorReason.BAD_JSON),
        (b'{"agent": NaN}', ErrorReason.INVALID_REQUEST),
        (b"[]", ErrorReason.INVALID_REQUEST),
    ],
)
def test_body_that_is_not_a_json_object_is_rejected(body: bytes, reason: ErrorReason) -> None:
    assert rejection(body).reason is reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["agent", "name", "language", "userId", "capabilities", "metadata", "room"])


@given(st.dictionaries(FIELDS, JSON, max_size=7) | JSON)
def test_any_json_is_a_request_or_a_rejection(document: object) -> None:
    request = outcome(json.dumps(document).encode())
    if isinstance(request, RequestError):
        assert request.reason in (ErrorReason.INVALID_REQUEST, ErrorReason.BAD_JSON)
        return
    assert isinstance(document, dict)
    assert document.keys() <= FULL.keys(), "no unknown field is accepted"
    metadata, dropped = read_dispatch_metadata(request.dispatch_metadata("c1", "caller-c1", "ar"))
    assert dropped == 0
    assert metadata == DispatchMetadata(
        call_id="c1",
        caller_identity="caller-c1",
        user_id=request.user_id or "",
        language=request.language or "ar",
        capabilities=request.capabilities,
        metadata=request.metadata,
    )


SPACE = st.text(alphabet=" \t\r\n", max_size=3)


@given(data=st.data())
def test_same_json_in_other_bytes_is_the_same_request(data: st.DataObject) -> None:
    fields = data.draw(st.permutations(list(FULL.items())))
    separators = (data.draw(SPACE) + "," + data.draw(SPACE), data.draw(SPACE) + ":" + data.draw(SPACE))
    text = json.dumps(dict(fields), ensure_ascii=data.draw(st.booleans()), separators=separators)
    request = outcome((data.draw(SPACE) + text + data.draw(SPACE)).encode())
    assert request == parse_request(BODY)
    assert isinstance(request, CallRequest)
    assert request.digest() == parse_request(BODY).digest()


@pytest.mark.parametrize("length", range(len(BODY)))
def test_truncated_body_is_not_json(length: int) -> None:
    error = rejection(BODY[:length])
    assert (error.reason, error.field) == (ErrorReason.BAD_JSON, "")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid body in which some bytes are replaced, removed or added."""
    start = draw(st.integers(0, len(BODY)))
    removed = draw(st.integers(0, 4))
    return BODY[:start] + draw(st.binary(max_size=4)) + BODY[start + removed :]


@given(damaged() | st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_rejection(body: bytes) -> None:
    request = outcome(body)
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and document == FULL:
        assert request == parse_request(BODY)
    if isinstance(request, CallRequest):
        assert isinstance(document, dict)
        assert request.name == " ".join(document["name"].split())
        assert document.keys() <= FULL.keys()

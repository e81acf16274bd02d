"""Bodies: the good ones mean what they say, and every other one is a 400 that names the field."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec.wire import DispatchMetadata, read_dispatch_metadata
from gateway.callrequest import AgentRef, CallRequest, parse_request
from gateway.errors import ErrorReason, RequestError

GOOD: dict[str, Any] = {"agent": "ornina", "name": "Layla"}
WORKER_READS_BYTES = 4096


def parse(**changes: object) -> CallRequest:
    return parse_request(json.dumps(GOOD | changes).encode())


def test_the_least_and_the_most() -> None:
    assert parse().agent == "ornina"
    full = parse(
        agent={"namespace": "agents", "name": "ornina"},
        name="  ليلى   الحسن ",
        language="ar-SY",
        userId="user-7",
        capabilities=["video"],
        metadata={"plan": "gold", "visits": 3, "vip": True, "score": 1.5},
    )
    assert full.agent == AgentRef(namespace="agents", name="ornina")
    assert full.name == "ليلى الحسن"
    told = read_dispatch_metadata(full.dispatch_metadata("c1", "caller-c1", "en"))[0]
    assert told == DispatchMetadata(
        call_id="c1",
        caller_identity="caller-c1",
        user_id="user-7",
        language="ar-SY",
        capabilities=["video"],
        metadata={"plan": "gold", "visits": 3, "vip": True, "score": 1.5},
    )


def test_the_agents_language_is_the_default() -> None:
    assert json.loads(parse().dispatch_metadata("c1", "caller-c1", "ar"))["language"] == "ar"


def test_the_largest_request_is_read_by_the_worker() -> None:
    full = parse(
        userId="\u0001" * 128,
        language="abc" + "-abcdefgh" * 3 + "-abcd",
        capabilities=["c" * 64] * 16,
        metadata={f"{n:02}": "ع" * 40 for n in range(16)},
    )
    assert len(full.dispatch_metadata("c" * 24, "caller-" + "c" * 24, "ar").encode()) <= WORKER_READS_BYTES


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
        ({"agent": {"name": "ornina"}}, "agent"),
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
def test_a_wrong_field_is_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse(**changes)
    assert refused.value.status == 400
    assert refused.value.reason is ErrorReason.INVALID_REQUEST
    assert refused.value.field.startswith(field)
    assert field.split(".")[0] in refused.value.message


def test_a_missing_field_is_named() -> None:
    with pytest.raises(RequestError, match="The field name is missing"):
        parse_request(b'{"agent": "ornina"}')


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nope", b"\xff\xfe", b'{"agent": NaN}', b"[" * 5000, b'{"agent": "\\ud800"}', b"{'agent': 1}"]
)
def test_what_is_no_json_is_said_so(body: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        parse_request(body)
    assert refused.value.status == 400
    assert refused.value.reason in (ErrorReason.BAD_JSON, ErrorReason.INVALID_REQUEST)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["agent", "name", "language", "userId", "capabilities", "metadata", "room"])


@given(st.dictionaries(FIELDS, JSON, max_size=7) | JSON)
def test_any_json_is_understood_or_refused_in_words(document: object) -> None:
    try:
        request = parse_request(json.dumps(document).encode())
    except RequestError as refused:
        assert refused.status == 400
        assert refused.message
        json.dumps(refused.document(), allow_nan=False)
        return
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


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_request(body)

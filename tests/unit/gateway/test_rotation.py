"""LiveKit keys are rotated under calls: those who hold a call token keep their call, and new calls come through."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway import adoption
from gateway.adoption import adopt_calls
from gateway.app import create_app
from gateway.connections import SecretError
from gateway.livekit import LiveKitRefused
from gateway.tokens import Credentials
from tests.unit.gateway.conftest import BASE
from tests.unit.gateway.fakes import World, world

BODY = {"agent": "ornina", "name": "Layla"}
KEYED = {"Idempotency-Key": "one-and-the-same"}
ROTATED = Credentials("devkey", "another-secret-of-at-least-thirty-two-characters")


async def opened(http: httpx.AsyncClient) -> dict[str, Any]:
    answer = await http.post("/v1/calls", json=BODY, headers=KEYED)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def asked(http: httpx.AsyncClient, call: dict[str, Any]) -> int:
    headers = {"Authorization": f"Bearer {call['callToken']}"}
    return (await http.get(f"/v1/calls/{call['callId']}", headers=headers)).status_code


@pytest.fixture
async def next_gateway(there: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """The gateway that comes after a restart, once it is asked anything; it reads the rotated key."""
    monkeypatch.setattr(adoption, "MIN_ROOM_AGE_SECONDS", -1.0)
    after = world()
    after.connections.livekit, after.connections.credentials = there.livekit, ROTATED

    async def search(_: httpx.Request) -> None:
        await there.gateway.dispatcher.stop()
        await adopt_calls(after.agents, after.connections, after.gateway.opener)

    transport = httpx.ASGITransport(create_app(after.gateway))
    hooks: dict[str, list[Callable[..., Awaitable[None]]]] = {"request": [search]}
    async with httpx.AsyncClient(
        transport=transport, base_url=BASE, headers={"Origin": BASE}, event_hooks=hooks
    ) as client:
        yield client
    await after.gateway.dispatcher.stop()


async def test_a_call_token_outlives_its_key(http: httpx.AsyncClient, there: World) -> None:
    call = await opened(http)
    there.connections.credentials = ROTATED
    assert await asked(http, call) == 200
    assert await asked(http, call | {"callToken": call["callToken"][:-1] + "x"}) == 404
    headers = {"Authorization": f"Bearer {call['callToken']}"}
    over = await http.delete(f"/v1/calls/{call['callId']}", headers=headers)
    assert (over.status_code, over.json()["reason"]) == (200, "HungUp")
    assert await asked(http, call) == 200, "its end can be read too"


async def test_a_request_repeated_after_a_rotation_gets_a_token_that_counts(
    http: httpx.AsyncClient, there: World
) -> None:
    call = await opened(http)
    there.connections.credentials = ROTATED
    again = await opened(http)
    assert again["callId"] == call["callId"]
    assert again["callToken"] != call["callToken"]
    assert [await asked(http, found) for found in (call, again)] == [200, 200]


async def test_a_call_token_outlives_its_secret(http: httpx.AsyncClient, there: World) -> None:
    call = await opened(http)
    there.connections.problem = SecretError("deleted")
    assert await asked(http, call) == 200


async def test_a_call_token_outlives_its_key_and_its_gateway(
    http: httpx.AsyncClient, next_gateway: httpx.AsyncClient, there: World
) -> None:
    call = await opened(http)
    assert await asked(next_gateway, call) == 200
    assert await asked(next_gateway, call | {"callToken": "x" * 64}) == 404


async def test_nobody_in_the_room_can_read_the_call_token(http: httpx.AsyncClient, there: World) -> None:
    call = await opened(http)
    (room,) = there.livekit.rooms_by_name.values()
    told = room.metadata + "".join(dispatch.metadata for dispatch in room.dispatches)
    assert call["callToken"] not in told
    assert await asked(http, call | {"callToken": next(iter(there.gateway.ledger)).call_token_hash}) == 404


async def test_a_call_comes_through_with_the_key_that_replaces_a_refused_one(
    http: httpx.AsyncClient, there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = there.livekit.create_room

    async def create_room(*arguments: str) -> None:
        if there.connections.credentials is not ROTATED:
            there.connections.credentials = ROTATED  # what a refusal brings about, in `gateway.connections`
            raise LiveKitRefused("401")
        await create(*arguments)

    monkeypatch.setattr(there.livekit, "create_room", create_room)
    call = await opened(http)
    assert await asked(http, call) == 200
    assert len(there.livekit.launched) == 1
    (kept,) = there.gateway.ledger
    there.gateway.ledger.put(replace(kept, call_token_hash=""))
    assert await asked(http, call) == 200, "the token handed out is of the new key"


async def test_a_key_that_stays_refused_is_told(http: httpx.AsyncClient, there: World) -> None:
    there.livekit.error = LiveKitRefused("401")
    answer = await http.post("/v1/calls", json=BODY, headers=KEYED)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (502, "LiveKitRefused")
    assert list(there.gateway.ledger) == []

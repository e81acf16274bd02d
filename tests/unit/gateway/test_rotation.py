"""LiveKit keys are rotated during calls: call tokens stay valid, and new calls use the new key."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.api.app import create_app
from gateway.livekit.connections import SecretError
from gateway.livekit.server import LiveKitRefused
from gateway.livekit.tokens import Credentials
from tests.unit.gateway.conftest import BASE
from tests.unit.gateway.fakes import World, create_world
from tests.unit.gateway.scenes import BODY, KEYED, adopt, call_token_of, post_call

ROTATED = Credentials("devkey", "another-secret-of-at-least-thirty-two-characters")


async def read_status(http: httpx.AsyncClient, call: dict[str, Any]) -> int:
    """HTTP status of a request for a call with its call token."""
    return (await http.get(f"/v1/calls/{call['callId']}", headers=call_token_of(call))).status_code


@pytest.fixture
async def successor(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the next gateway, which has the rotated key and adopts the calls before its first request."""
    created = create_world(livekit=world.livekit)
    created.connections.credentials = ROTATED

    async def restart(_: httpx.Request) -> None:
        await world.gateway.dispatcher.stop()
        await adopt(created)

    transport = httpx.ASGITransport(create_app(created.gateway))
    async with httpx.AsyncClient(
        transport=transport, base_url=BASE, headers={"Origin": BASE}, event_hooks={"request": [restart]}
    ) as client:
        yield client
    await created.gateway.dispatcher.stop()


async def test_call_token_stays_valid_after_a_rotation(http: httpx.AsyncClient, world: World) -> None:
    call = await post_call(http, KEYED)
    world.connections.credentials = ROTATED
    assert await read_status(http, call) == 200
    assert await read_status(http, call | {"callToken": call["callToken"][:-1] + "x"}) == 404
    ended = await http.delete(f"/v1/calls/{call['callId']}", headers=call_token_of(call))
    assert (ended.status_code, ended.json()["reason"]) == (200, "HungUp")
    assert await read_status(http, call) == 200, "the token also reads the ended call"


async def test_repeated_request_after_a_rotation_gets_a_valid_token(http: httpx.AsyncClient, world: World) -> None:
    call = await post_call(http, KEYED)
    world.connections.credentials = ROTATED
    again = await post_call(http, KEYED, status=200)
    assert again["callId"] == call["callId"]
    assert again["callToken"] != call["callToken"]
    assert [await read_status(http, found) for found in (call, again)] == [200, 200]


async def test_call_token_stays_valid_without_the_secret(http: httpx.AsyncClient, world: World) -> None:
    call = await post_call(http, KEYED)
    world.connections.error = SecretError("deleted")
    assert await read_status(http, call) == 200


async def test_call_token_stays_valid_at_the_next_gateway(
    http: httpx.AsyncClient, successor: httpx.AsyncClient
) -> None:
    call = await post_call(http, KEYED)
    assert await read_status(successor, call) == 200
    assert await read_status(successor, call | {"callToken": "x" * 64}) == 404


async def test_room_does_not_reveal_the_call_token(http: httpx.AsyncClient, world: World) -> None:
    call = await post_call(http, KEYED)
    (room,) = world.livekit.rooms_by_name.values()
    assert call["callToken"] not in room.metadata + "".join(dispatch.metadata for dispatch in room.dispatches)
    (opened,) = world.gateway.ledger
    assert opened.call_token_hash in room.metadata
    assert await read_status(http, call | {"callToken": opened.call_token_hash}) == 404


async def test_call_is_opened_with_the_new_key_after_a_rejection(
    http: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = world.livekit.create_room

    async def create_room(*arguments: str) -> None:
        if world.connections.credentials is not ROTATED:
            world.connections.credentials = ROTATED  # `SecretConnections` reads the Secret again after a rejection
            raise LiveKitRefused("401")
        await create(*arguments)

    monkeypatch.setattr(world.livekit, "create_room", create_room)
    call = await post_call(http, KEYED)
    assert await read_status(http, call) == 200
    assert len(world.livekit.launches) == 1
    (opened,) = world.gateway.ledger
    world.gateway.ledger.put(replace(opened, call_token_hash=""))
    assert await read_status(http, call) == 200, "the token is made with the new key"


async def test_key_that_stays_rejected_is_an_error(http: httpx.AsyncClient, world: World) -> None:
    world.livekit.error = LiveKitRefused("401")
    response = await http.post("/v1/calls", json=BODY, headers=KEYED)
    assert (response.status_code, response.json()["reason"]) == (502, "LiveKitRefused")
    assert list(world.gateway.ledger) == []

"""LiveKit's own token endpoint: a token opens nothing, and its use becomes a call."""

import json
import time
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest

from agentspec.wire import TURNS_ATTRIBUTE, read_dispatch_metadata, read_room_record
from gateway.calls.call import CallState
from gateway.livekit.server import (
    DEPARTURE_SECONDS,
    EMPTY_ROOM_SECONDS,
    MAX_PARTICIPANTS,
    WAITING_AGENT_NAME,
    LiveKitUnreachable,
)
from tests.unit.gateway.conftest import API_KEY
from tests.unit.gateway.fakes import CREDENTIALS, World, example_agent
from tests.unit.gateway.scenes import adopt, becomes_true, open_call
from tests.unit.gateway.test_http import rejected

KEY = {"Authorization": f"Bearer {API_KEY}"}
OTHER_ORIGIN = "https://www.example.com"


async def issue(
    http: httpx.AsyncClient,
    body: dict[str, Any] | None = None,
    query: str = "",
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Request a token and return its claims."""
    response = await http.post(f"/v1/token{query}", json=body or {}, headers=headers)
    assert response.status_code == 201, response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json().keys() == {"server_url", "participant_token"}
    assert response.json()["server_url"] == "wss://livekit.example"
    claims: dict[str, Any] = jwt.decode(
        response.json()["participant_token"], CREDENTIALS.api_secret, algorithms=["HS256"]
    )
    return claims


async def join(world: World, claims: dict[str, Any]) -> str:
    """Let a caller join with a token, as LiveKit does it; returns the room."""
    room: str = claims["video"]["room"]
    configuration = claims["roomConfig"]
    (agent,) = configuration["agents"]
    if room not in world.livekit.rooms_by_name:
        await world.livekit.create_room(room, configuration["metadata"], agent["agentName"], agent["metadata"])
    world.livekit.connect_caller(room, claims["sub"])
    return room


def with_seats(world: World, seats: int) -> None:
    """Declare the agent with a limit of avatar sessions."""
    agent = example_agent()
    avatar = agent.spec.avatar.model_copy(update={"max_sessions": seats})
    world.agents.listed = [replace(agent, spec=agent.spec.model_copy(update={"avatar": avatar}))]
    world.supply.seats = seats


async def test_token_makes_the_room_and_the_dispatch_when_its_caller_joins(http: httpx.AsyncClient) -> None:
    facts = {"user_id": "u-17", "language": "en", "capabilities": ["video"], "order": {"plan": "gold"}}
    agent = {"agent_name": "ornina-agent", "metadata": json.dumps(facts)}
    claims = await issue(http, {"participant_name": "Layla", "room_config": {"agents": [agent]}})
    assert claims["name"] == "Layla"
    grants = claims["video"]
    assert grants["roomJoin"] and grants["canPublishSources"] == ["microphone"]
    assert not grants["canPublishData"]
    configuration = claims["roomConfig"]
    limits = (configuration["emptyTimeout"], configuration["departureTimeout"], configuration["maxParticipants"])
    assert limits == (EMPTY_ROOM_SECONDS, DEPARTURE_SECONDS, MAX_PARTICIPANTS)
    record = read_room_record(configuration["metadata"])
    assert record is not None
    assert (record.agent, record.agent_name, record.from_token) == ("agents/ornina", "ornina-agent", True)
    assert (record.identity, grants["room"]) == (claims["sub"], f"ornina-{record.call_id}")
    (dispatch,) = configuration["agents"]
    assert dispatch["agentName"] == "ornina-agent"
    metadata, dropped = read_dispatch_metadata(dispatch["metadata"])
    assert (metadata.call_id, metadata.caller_identity, dropped) == (record.call_id, claims["sub"], 0)
    assert (metadata.user_id, metadata.language, metadata.capabilities) == ("u-17", "en", ["video"])
    assert metadata.metadata == {"order.plan": "gold"}
    assert 590 < claims["exp"] - time.time() < 610


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"room_config": {}},
        {"room_config": {"agents": []}},
        {"room_config": {"agents": [{}]}},
        {"room_config": None, "room_name": None, "participant_attributes": None},
        {"room_name": "", "participant_name": "", "a_field_of_a_newer_client": 1, "room_config": {"tags": {}}},
    ],
    ids=["no field", "empty room_config", "no agent", "unnamed agent", "null", "empty text and unknown fields"],
)
async def test_every_field_is_optional(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    claims = await issue(http, body)
    assert claims["roomConfig"]["agents"][0]["agentName"] == "ornina-agent"
    assert claims["sub"].startswith("caller-")


async def test_ten_tokens_open_nothing(http: httpx.AsyncClient, world: World) -> None:
    world.livekit.error = LiveKitUnreachable("a token without a room name needs no request to LiveKit")
    tokens = [await issue(http) for _ in range(10)]
    assert len({token["video"]["room"] for token in tokens}) == 10
    assert world.livekit.rooms_by_name == {}
    assert list(world.gateway.ledger) == []
    assert world.supply.exchanges == 0


async def test_call_begins_when_the_caller_joins(http: httpx.AsyncClient, world: World) -> None:
    room = await join(world, await issue(http))
    await adopt(world)
    (call,) = world.gateway.ledger
    await becomes_true(lambda: [one.state for one in world.gateway.ledger] == [CallState.JOINED])
    assert (call.room, call.agent.key) == (room, "agents/ornina")
    assert len(world.livekit.agents_in(room)) == 1


async def test_call_of_a_token_waits_while_all_slots_are_taken(http: httpx.AsyncClient, world: World) -> None:
    claims = await issue(http)
    world.supply.free, world.livekit.slots = 0, 0
    room = await join(world, claims)
    await adopt(world)
    await becomes_true(lambda: [call.state for call in world.gateway.ledger] == [CallState.WAITING])
    assert world.gateway.ledger.pending() == {"agents/ornina": 1}
    world.supply.free, world.livekit.slots = 1, 1
    await becomes_true(lambda: [call.state for call in world.gateway.ledger] == [CallState.JOINED])
    assert len(world.livekit.agents_in(room)) == 1


async def test_token_that_is_issued_while_calls_wait_joins_their_line(http: httpx.AsyncClient, world: World) -> None:
    world.supply.free = world.livekit.slots = 0
    waiting = await open_call(world)
    claims = await issue(http)
    assert claims["roomConfig"]["agents"][0]["agentName"] == WAITING_AGENT_NAME
    await join(world, claims)
    await adopt(world)
    line = world.gateway.ledger.waiting("agents/ornina")
    assert (line[0].id, [call.room for call in line[1:]]) == (waiting.id, [claims["video"]["room"]])
    world.supply.free = None
    claims = await issue(http)
    assert claims["roomConfig"]["agents"][0]["agentName"] == "ornina-agent", "nobody knows the free slots"


async def test_agent_with_a_limit_of_avatars_waits_for_a_seat_from_the_gateway(
    http: httpx.AsyncClient, world: World
) -> None:
    with_seats(world, 1)
    claims = await issue(http)
    assert claims["roomConfig"]["agents"][0]["agentName"] == WAITING_AGENT_NAME
    world.supply.seats = 0
    room = await join(world, claims)
    await adopt(world)
    await becomes_true(lambda: [call.state for call in world.gateway.ledger] == [CallState.JOINED])
    (dispatch,) = world.livekit.rooms_by_name[room].dispatches
    assert not read_dispatch_metadata(dispatch.metadata)[0].avatar


async def test_agent_whose_name_is_not_checked_waits_for_the_gateway(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [replace(example_agent(), name_checked=False)]
    assert (await issue(http))["roomConfig"]["agents"][0]["agentName"] == WAITING_AGENT_NAME


async def test_one_identity_in_one_room_is_one_call(http: httpx.AsyncClient, world: World) -> None:
    body = {"room_name": "ornina-4711", "participant_identity": "layla"}
    first, second = await issue(http, body, headers=KEY), await issue(http, body, headers=KEY)
    assert first["sub"] == second["sub"] == "layla"
    assert await join(world, first) == "ornina-4711"
    await adopt(world)
    third = await issue(http, body, headers=KEY)
    for again in (second, third):
        world.livekit.disconnect("ornina-4711", "layla")
        await join(world, again)
        await adopt(world)
    assert len(list(world.gateway.ledger)) == 1
    assert len(world.livekit.agents_in("ornina-4711")) == 1


async def test_token_that_is_used_again_after_its_call_opens_the_next_one(
    http: httpx.AsyncClient, world: World
) -> None:
    """LiveKit's clients use a token again until it expires, for example when the caller hangs up and calls again."""
    claims = await issue(http)
    for _ in range(2):
        room = await join(world, claims)
        await adopt(world)
        await becomes_true(lambda: [call.state for call in world.gateway.ledger] == [CallState.JOINED])
        assert len(world.livekit.agents_in(room)) == 1
        (call,) = world.gateway.ledger
        await world.gateway.dispatcher.hang_up(call)
        assert list(world.gateway.ledger) == []
        await adopt(world)
        assert list(world.gateway.ledger) == [], "a closed room is no new call"


async def test_room_of_another_agent_is_refused(http: httpx.AsyncClient, world: World) -> None:
    await world.livekit.create_room("ornina-of-others", "no record", "another-agent", "")
    response = await http.post("/v1/token", json={"room_name": "ornina-of-others"}, headers=KEY)
    rejected(response, 409, "RoomTaken")
    world.livekit.error = LiveKitUnreachable("unreachable")
    response = await http.post("/v1/token", json={"room_name": "ornina-of-others"}, headers=KEY)
    rejected(response, 503, "LiveKitUnreachable")


async def test_page_cannot_name_the_room_of_another_caller(http: httpx.AsyncClient) -> None:
    body = {"room_name": "ornina-4711"}
    rooms = {(await issue(http, body))["video"]["room"] for _ in range(2)}
    assert len(rooms) == 2
    assert all(room.startswith("ornina-4711-") for room in rooms)


@pytest.mark.parametrize("headers", [{}, KEY], ids=["page", "back end"])
async def test_room_that_the_agent_does_not_serve_is_refused(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await http.post("/v1/token", json={"room_name": "support-1"}, headers=headers)
    message = rejected(response, 400, "RoomNameMismatch")
    assert response.json()["field"] == "room_name"
    assert "support-1" in message and "^ornina-" in message


async def test_agent_is_chosen_by_its_name_or_the_query(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed.append(example_agent("other", namespace="team"))
    rejected(await http.post("/v1/token", json={}), 400, "InvalidRequest")
    named = await issue(http, {"room_config": {"agents": [{"agent_name": "other-agent"}]}})
    assert named["roomConfig"]["agents"][0]["agentName"] == "other-agent"
    for query, expected in (("?agent=ornina", "ornina-agent"), ("?agent=team/other", "other-agent")):
        claims = await issue(http, query=query)
        assert claims["roomConfig"]["agents"][0]["agentName"] == expected


async def test_only_agent_that_the_page_may_call_needs_no_name(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [
        example_agent("private", access="Authenticated"),
        example_agent("shop", allowed_origins=[OTHER_ORIGIN]),
        example_agent("desk", allowed_origins=["https://desk.example"]),
    ]
    claims = await issue(http, headers={"Origin": OTHER_ORIGIN})
    assert claims["roomConfig"]["agents"][0]["agentName"] == "shop-agent"


@pytest.mark.parametrize("name", ["private-agent", "unknown-agent"])
async def test_agent_that_the_page_may_not_call_looks_like_no_agent(
    http: httpx.AsyncClient, world: World, name: str
) -> None:
    world.agents.listed.append(example_agent("private", access="Authenticated"))
    body = {"room_config": {"agents": [{"agent_name": name}]}}
    answers = [
        rejected(await http.post(f"/v1/token{query}", json=body), 401, "Unauthorized")
        for query in ("", "?agent=ornina", f"?agent={name.removesuffix('-agent')}")
    ]
    assert len(set(answers)) == 1
    assert name not in answers[0]


async def test_key_of_one_agent_gets_a_token_for_no_other(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed.append(example_agent("desk", namespace="team"))
    assert (await issue(http, headers=KEY))["roomConfig"]["agents"][0]["agentName"] == "ornina-agent"
    body = {"room_config": {"agents": [{"agent_name": "desk-agent"}]}}
    rejected(await http.post("/v1/token", json=body, headers=KEY), 401, "Unauthorized")
    rejected(await http.post("/v1/token?agent=team/desk", json=body, headers=KEY), 401, "Unauthorized")


async def test_token_for_an_agent_that_takes_no_calls_is_refused(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [example_agent(suspend=True)]
    rejected(await http.post("/v1/token", json={}), 409, "Suspended")
    world.agents.listed = [example_agent(mode="Automatic")]
    rejected(await http.post("/v1/token", json={}), 409, "AgentAutomatic")
    world.agents.listed = [example_agent(room_name_pattern="^odd$")]
    rejected(await http.post("/v1/token", json={}), 409, "RoomNameMismatch")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"participant_attributes": {"sip.callStatus": "active"}}, "participant_attributes"),
        ({"participant_attributes": {"lk.publish_on_behalf": "x"}}, "participant_attributes"),
        ({"participant_attributes": {TURNS_ATTRIBUTE: "{}"}}, "participant_attributes"),
        ({"participant_name": "\x00"}, "participant_name"),
        ({"participant_identity": 7}, "participant_identity"),
        ({"room_config": {"agents": [{}, {}]}}, "room_config.agents"),
        ({"room_config": {"agents": "ornina"}}, "room_config.agents"),
    ],
    ids=["SIP attribute", "LiveKit attribute", "turns", "control character", "number", "two agents", "no list"],
)
async def test_invalid_field_is_refused_by_name(http: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    response = await http.post("/v1/token", json=body)
    rejected(response, 400, "InvalidRequest")
    assert response.json()["field"] == field


async def test_dispatch_metadata_of_a_page_is_never_taken_for_the_gateways(http: httpx.AsyncClient) -> None:
    forged = json.dumps({"callID": "forged", "callerIdentity": "another", "avatar": False, "userID": "u"})
    claims = await issue(http, {"room_config": {"agents": [{"metadata": forged}]}})
    metadata, _ = read_dispatch_metadata(claims["roomConfig"]["agents"][0]["metadata"])
    assert metadata.call_id != "forged"
    assert (metadata.caller_identity, metadata.avatar, metadata.user_id) == (claims["sub"], True, "u")


async def test_token_that_no_url_can_hold_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/token", json={"participant_metadata": "م" * 1500})
    assert "less metadata" in rejected(response, 400, "InvalidRequest")
    facts = json.dumps({f"fact-{number}": "f" * 90 for number in range(20)})
    response = await http.post(
        "/v1/token", json={"participant_metadata": "m" * 1024, "room_config": {"agents": [{"metadata": facts}]}}
    )
    assert response.status_code == 201, response.text

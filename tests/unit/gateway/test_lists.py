"""Lists of calls and of agents: what the sender of a request may know."""

import httpx

from gateway.agents import InvalidAgent
from tests.unit.gateway.conftest import API_KEY
from tests.unit.gateway.fakes import World, example_agent
from tests.unit.gateway.scenes import call_token_of, post_call
from tests.unit.gateway.test_http import rejected

KEY = {"Authorization": f"Bearer {API_KEY}"}
"""The key of the namespace `agents`."""
OTHER_ORIGIN = "https://www.example.com"


async def names(http: httpx.AsyncClient, **headers: str) -> list[str]:
    """Return the agents that a request sees."""
    response = await http.get("/v1/agents", headers=headers)
    assert response.status_code == 200, response.text
    return [f"{agent['namespace']}/{agent['name']}" for agent in response.json()["agents"]]


async def test_key_lists_the_calls_of_its_agents_only(http: httpx.AsyncClient, world: World) -> None:
    world.livekit.slots = world.supply.free = 3
    world.agents.listed += [example_agent("private", access="Authenticated"), example_agent("desk", namespace="team")]
    own = [await post_call(http), await post_call(http, KEY, agent="private")]
    await post_call(http, agent={"namespace": "team", "name": "desk"})
    response = await http.get("/v1/calls", headers=KEY)
    assert response.headers["Cache-Control"] == "no-store"
    listed = response.json()["calls"]
    assert [call["callId"] for call in listed] == [call["callId"] for call in own]
    assert not {"token", "callToken", "url"} & listed[0].keys()
    await http.delete(f"/v1/calls/{own[0]['callId']}", headers=call_token_of(own[0]))
    assert [call["callId"] for call in (await http.get("/v1/calls", headers=KEY)).json()["calls"]] == [own[1]["callId"]]


async def test_calls_are_listed_for_keys_only(http: httpx.AsyncClient) -> None:
    call = await post_call(http)
    rejected(await http.get("/v1/calls"), 401, "Unauthorized")
    rejected(await http.get("/v1/calls", headers=call_token_of(call)), 401, "Unauthorized")


async def test_agents_are_those_that_the_sender_may_call(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [
        example_agent("shop", allowed_origins=[OTHER_ORIGIN]),
        example_agent("private", access="Authenticated"),
        example_agent("desk", namespace="team"),
        InvalidAgent("agents", "broken", "spec.language: no"),
    ]
    assert await names(http) == ["agents/shop", "team/desk"]
    assert await names(http, Origin=OTHER_ORIGIN) == ["agents/shop"]
    assert await names(http, Origin="https://evil.example") == []
    assert await names(http, **KEY) == ["agents/private", "agents/shop"]
    rejected(await http.get("/v1/agents", headers={"Authorization": "Bearer unknown"}), 401, "Unauthorized")


async def test_lists_wait_for_the_agents_to_be_loaded(http: httpx.AsyncClient, world: World) -> None:
    world.agents.is_synced = False
    rejected(await http.get("/v1/agents"), 503, "NotReady")
    rejected(await http.get("/v1/calls", headers=KEY), 503, "NotReady")

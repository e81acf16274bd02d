"""A back end creates a room with LiveKit's SDK. It asks the gateway for the agent, or LiveKit reports the room."""

import asyncio
from typing import Any

import aiohttp
import pytest
import yaml
from livekit import api
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from agentspec.names import COMPONENT_LABEL
from devkit.demo.caller import PAGE_HEADERS, Caller, Moments
from devkit.demo.product import RELEASE, SYSTEM_NAMESPACE
from tests.e2e import agents
from tests.e2e.callers import answered, says
from tests.e2e.conftest import Platform
from tests.e2e.test_dispatch import open_room
from tests.e2e.test_metrics import PORTS, scraped
from tests.fences import fence
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

ROOM = "rooms-of-the-back-end"
METADATA = {"user_id": "user-17", "language": "en", "capabilities": ["voice"]}


async def dispatch(platform: Platform, room: str) -> tuple[int, dict[str, Any]]:
    """Ask the gateway for the agent in a room; returns status and answer."""
    body = {"room": room, "agent": "rooms", "metadata": METADATA}
    async with (
        aiohttp.ClientSession(headers=PAGE_HEADERS) as session,
        session.post(f"{platform.gateway}/api/dispatch-agent", json=body) as answer,
    ):
        found: dict[str, Any] = await answer.json()
        return answer.status, found


def caller(platform: Platform, room: str = ROOM) -> Caller:
    """Return a caller with a token that the back end created."""
    targets = platform.targets
    token = api.AccessToken(targets.livekit_key, targets.livekit_secret).with_identity("user-17")
    grants = api.VideoGrants(room_join=True, room=room)
    return Caller("Layla", targets.livekit_url, token.with_grants(grants).to_jwt(), Moments())


def test_agent_joins_the_room_of_a_back_end_and_answers(platform: Platform) -> None:
    agent = agents.manifest(platform.targets, "rooms")
    targets = platform.targets

    async def one_call() -> None:
        status, answer = await dispatch(platform, ROOM)
        assert (status, answer["success"], answer["reason"]) == (404, False, "RoomNotFound")
        async with api.LiveKitAPI(targets.livekit_url, targets.livekit_key, targets.livekit_secret) as livekit:
            await livekit.room.create_room(api.CreateRoomRequest(name=ROOM, metadata="ours", empty_timeout=60))
            async with caller(platform) as talking:
                status, answer = await dispatch(platform, ROOM)
                assert (status, answer["success"]) == (200, True), answer
                assert (await dispatch(platform, ROOM))[1] == answer, "a repeated request finds the agent"
                await talking.first_word(30)
                await talking.hear(30)
                await says(talking, agent["spec"]["persona"]["greeting"])
                await answered(talking)
                assert len(talking.agents) == 1
                named = [one.id for one in await livekit.agent_dispatch.list_dispatch(ROOM) if one.agent_name]
                assert named == [answer["dispatchId"]]
            (room,) = (await livekit.room.list_rooms(api.ListRoomsRequest(names=[ROOM]))).rooms
            assert room.metadata == "ours"
            await livekit.room.delete_room(api.DeleteRoomRequest(room=ROOM))

    with agents.declared(platform.product, agent):
        asyncio.run(one_call())


def webhook_settings(platform: Platform) -> dict[str, Any]:
    """Return the documented settings of LiveKit, with this cluster's key and the address of one gateway.

    LiveKit runs on the node here, which reaches pods, but neither Services nor their names.
    """
    text = fence("docs/guides/calls.md", "webhook:").text.replace("<API key>", platform.targets.livekit_key)
    documented: dict[str, Any] = yaml.safe_load(text)
    (url,) = documented["webhook"]["urls"]
    service, _, path = url.removeprefix("http://").partition("/")
    assert service == f"{RELEASE}-gateway.{SYSTEM_NAMESPACE}.svc"
    documented["webhook"]["urls"] = [f"http://{gateways(platform)[0]['status']['podIP']}:8080/{path}"]
    return documented


def gateways(platform: Platform) -> list[dict[str, Any]]:
    """Return the pods of all gateways."""
    return platform.product.items("pods", f"{COMPONENT_LABEL}=gateway", SYSTEM_NAMESPACE)


def gateway_samples(platform: Platform, series: str, **labels: str) -> list[Sample]:
    """Return the samples of a series with these labels, of all gateways."""
    urls = [f"http://{pod['status']['podIP']}:{PORTS['gateway']}/metrics" for pod in gateways(platform)]
    families = (family for url in urls for family in text_string_to_metric_families(scraped(url, "text/plain")[1]))
    samples = (sample for family in families for sample in family.samples)
    name = f"avatar_agent_gateway_{series}"
    return [one for one in samples if one.name == name and labels.items() <= one.labels.items()]


def opened(platform: Platform, room: str) -> bool:
    """Whether a gateway made a call of a room."""
    names = [pod["metadata"]["name"] for pod in gateways(platform)]
    logs = [platform.product.kubectl_run("-n", SYSTEM_NAMESPACE, "logs", name) for name in names]
    return any('"call opened"' in line and f'"{room}"' in line for log in logs for line in log.splitlines())


def test_documented_webhook_reports_the_room_of_another_program(platform: Platform) -> None:
    agent, room = agents.manifest(platform.targets, "hooked"), "hooked-room"

    def events(event: str) -> float:
        return sum(one.value for one in gateway_samples(platform, "webhooks_total", event=event))

    async def one_call() -> None:
        await open_room(platform, room, api.RoomAgentDispatch(agent_name="hooked-agent"))
        async with caller(platform, room) as talking:
            await talking.first_word(30)
            await talking.hear(30)
            await answered(talking)

    with platform.cluster.livekit_configured(webhook_settings(platform)), agents.declared(platform.product, agent):
        asyncio.run(one_call())
        assert opened(platform, room)
        eventually_blocking(lambda: events("participant_left"), "LiveKit reported that the caller left", 20)
        assert events("room_started") >= 1
        assert events("participant_joined") >= 2, "caller and agent"
        answers = {"route": "/v1/webhook", "method": "POST"}
        received = gateway_samples(platform, "http_request_duration_seconds_count", **answers)
        assert {one.labels["code"] for one in received if one.value} == {"204"}

"""A back end that dispatches the agent itself, with LiveKit's SDK for Node.js, reaches it without the gateway."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from livekit import api

from devkit import nodejs
from devkit.demo.caller import Caller, Moments
from devkit.providers.speech import Recogniser
from tests.e2e import agents
from tests.e2e.callers import ARABIC, answered, says
from tests.e2e.conftest import Platform
from tests.e2e.simulators import last_chat

pytestmark = pytest.mark.timeout(400)

PACKAGE = Path(__file__).with_name("npm")
AGENT_NAME = "ornina-avatar-agent"
ROOM = "backend-dispatch-4711"
METADATA = {
    "user_id": "user-4711",
    "language": "en",
    "capabilities": ["voice", "video"],
    "order": {"plan": "ذهبي", "seats": 3},
}
"""What a back end in Node.js sends for a user: flat fields, and some of its own."""


def dispatch(platform: Platform) -> dict[str, Any]:
    """Dispatch the agent with the official SDK."""
    environment = {
        "LIVEKIT_URL": platform.targets.livekit_url,
        "LIVEKIT_API_KEY": platform.targets.livekit_key,
        "LIVEKIT_API_SECRET": platform.targets.livekit_secret,
    }
    folder = nodejs.install(PACKAGE)
    arguments = (ROOM, AGENT_NAME, json.dumps(METADATA, ensure_ascii=False))
    made: dict[str, Any] = json.loads(nodejs.run(folder, "dispatch.mjs", *arguments, environment=environment))
    return made


def caller(platform: Platform) -> Caller:
    """Return a caller with a token that the back end created."""
    targets = platform.targets
    token = api.AccessToken(targets.livekit_key, targets.livekit_secret).with_identity("backend-caller")
    grants = api.VideoGrants(room_join=True, room=ROOM)
    return Caller("Backend caller", targets.livekit_url, token.with_grants(grants).to_jwt(), Moments())


def test_agent_dispatched_by_the_npm_sdk_answers_and_knows_the_metadata(
    platform: Platform, recogniser: Recogniser
) -> None:
    agent = agents.manifest(platform.targets, "backend", arabic=True, agentName=AGENT_NAME)

    async def one_call() -> None:
        made = await asyncio.to_thread(dispatch, platform)
        assert (made["room"], made["agentName"]) == (ROOM, AGENT_NAME)
        async with caller(platform) as talking:
            await talking.first_word(30)
            greeting = await talking.hear(30)
            await says(talking, agent["spec"]["persona"]["greeting"])
            heard = await asyncio.to_thread(recogniser.transcribe, greeting.samples, greeting.rate, "ar")
            assert any("\u0600" <= character <= "\u06ff" for character in heard.text), heard.text
            await answered(talking, *ARABIC)
            assert len(talking.agents) == 1

    with agents.declared(platform.product, agent) as name:
        asyncio.run(one_call())
        (worker,) = agents.worker_names(platform.product, name)
        log = agents.log(platform.product, worker)
    facts = [message for message in last_chat(platform.targets.openai_url) if "<call>" in message["content"]]
    assert [message["role"] for message in facts] == ["user"], "data of the lowest rank, not instructions"
    assert json.loads(facts[0]["content"].splitlines()[2]) == {
        "userID": "user-4711",
        "language": "en",
        "capabilities": ["voice", "video"],
        "metadata": {"order.plan": "ذهبي", "order.seats": 3},
    }
    assert any(line.get("room") == ROOM for line in log)
    assert "user-4711" not in json.dumps(log), "the worker logs no metadata"

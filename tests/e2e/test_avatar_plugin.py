"""The example with an avatar plugin in an image of its own: checked at the start, visible in a call, and replaceable.

The plugin's provider is the simulated Tavus, which only renders the avatar here.
"""

import asyncio
import copy
import json
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest

from devkit.demo import manifests
from devkit.demo.caller import Caller
from devkit.demo.conversation import check_video
from devkit.paths import REPOSITORY
from tests.e2e import agents
from tests.e2e.callers import answered, becomes, greeted
from tests.e2e.conftest import Platform
from tests.waiting import eventually_in_thread

pytestmark = pytest.mark.timeout(600)  # it is the first test, so it waits for the node as well

FOLDER = REPOSITORY / "examples" / "avatar-plugin"
AVATAR = "puppet-avatar"
"""Identity of the plugin's avatar in the room."""
NAME = "avatar-plugin"


def has_avatar(caller: Caller) -> bool:
    return AVATAR in [participant.identity for participant in caller.room.remote_participants.values()]


def active(platform: Platform) -> list[str]:
    """Return the ids of the conversations of this plugin's avatars that are in a room."""
    address = f"{platform.targets.tavus_url.removesuffix('/v2')}/_simulator"
    with urllib.request.urlopen(address, timeout=30) as answer:
        known = json.load(answer)["conversations"]
    return [one["conversation_id"] for one in known if one["identity"] == AVATAR and one["status"] == "active"]


def end(platform: Platform, conversation: str) -> None:
    """Let the provider end an avatar, as when it fails."""
    address = f"{platform.targets.tavus_url}/conversations/{conversation}/end"
    headers = {"x-api-key": platform.targets.tavus_key}
    with urllib.request.urlopen(urllib.request.Request(address, method="POST", headers=headers), timeout=30) as answer:
        assert answer.status == 200


def example(platform: Platform) -> dict[str, Any]:
    """Return the example's agent with the platform's addresses and image, after its Secrets were applied.

    It takes calls and speaks as the agents of the other tests, so that callers can ask it the same question.
    """
    targets = platform.targets
    (*secrets, agent), _ = manifests.retarget(manifests.load(FOLDER), targets)
    secrets[-1]["stringData"] = {"apiKey": targets.tavus_key}
    platform.product.apply(secrets)
    spec, speaker = agent["spec"], agents.manifest(targets, NAME)["spec"]
    spec |= {field: speaker[field] for field in ("agentName", "dispatch", "language", "persona", "knowledge")}
    spec["scaling"] = agents.ONE_WORKER
    spec["avatar"]["plugin"]["options"]["api_url"] = targets.tavus_url
    spec["worker"]["image"] = platform.cluster.load_example(FOLDER, platform.product.worker_image)
    checked: dict[str, Any] = agent
    return checked


@contextmanager
def wrong(agent: dict[str, Any], platform: Platform) -> Iterator[None]:
    """Apply the agent with a misspelt option until the block ends."""
    changed = copy.deepcopy(agent)
    options = changed["spec"]["avatar"]["plugin"]["options"]
    options["avatarID"] = options.pop("avatar_id")
    platform.product.apply([changed])
    yield
    platform.product.apply([agent])


@pytest.mark.allows_errors("avatar plugin cannot be used, calls continue without it")
def test_avatar_of_a_plugin_is_shown_and_lost_without_the_voice(platform: Platform) -> None:
    product = platform.product

    async def one_call() -> None:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, NAME, "Caller", hangs_up=True)
            await eventually_in_thread(lambda: has_avatar(caller), "the avatar is in the room", 30)
            check_video(await caller.see(6, 30))
            await answered(caller)
            (conversation,) = await asyncio.to_thread(active, platform)
            await asyncio.to_thread(end, platform, conversation)
            await eventually_in_thread(lambda: not has_avatar(caller), "the avatar has left", 15)
            await answered(caller)

    async def corrected() -> None:
        with wrong(agent, platform):
            await becomes(product, NAME, "AvatarAvailable", "False", "AvatarPluginFailed", seconds=60)
            message = agents.condition(product, NAME, "AvatarAvailable")[2]
            assert "avatarID is no option of livekit.plugins.puppet.AvatarSession, which takes avatar_id" in message
            assert agents.condition(product, NAME, "Ready")[0] == "True", "calls continue by voice"
            # Until then, a worker with the right option may take the call.
            await becomes(product, NAME, "Progressing", "False", "RolledOut", seconds=60)
            async with AsyncExitStack() as stack:
                caller = await greeted(stack, platform, NAME, "Caller")
                await answered(caller)
                assert not has_avatar(caller)
        await becomes(product, NAME, "AvatarAvailable", "True", "AvatarSeatsFree", seconds=60)

    agent = example(platform)
    with agents.declared(product, agent):
        asyncio.run(one_call())
        asyncio.run(corrected())
        assert active(platform) == []

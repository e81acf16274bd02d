"""Secrets, texts and names change while workers run: conditions, one rollout, and no cut call."""

import asyncio
from typing import Any

import pytest

from agentspec import ConditionType
from kube.kinds import AVATAR_AGENT, CONFIG_MAP, SECRET
from tests.cluster import manifests
from tests.cluster.burst import burst
from tests.cluster.standin import Worker
from tests.cluster.world import GONE_SECONDS, World
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("controller")

READ_SECONDS = 30.0
"""Time in which the controller has read every Secret and ConfigMap again."""
NOTICED_SECONDS = 45.0
"""Limit until a changed one has an effect, on a busy machine."""
FOUND_SECONDS = 30.0
"""Limit until a corrected one has an effect, and the workers have started, on a busy machine."""


async def replaced(world: World, worker: Worker, rollouts: int) -> Worker:
    """Wait until the controller has noticed a change, and only another worker takes calls; return that worker.

    `rollouts` is the expected number of rollouts with this one.
    """

    async def noticed() -> bool:
        progress = await world.condition("ava", ConditionType.PROGRESSING)
        return progress["reason"] == "RolloutPending" or await world.rollouts("ava") >= rollouts

    async def other() -> Worker | None:
        staying = world.standin.of("ava")
        return staying[0] if len(staying) == 1 and staying[0] is not worker else None

    await eventually(noticed, "the change is noticed", NOTICED_SECONDS)
    found = await eventually(other, "another worker takes calls")
    assert found is not None
    assert await world.rollouts("ava") == rollouts
    return found


async def running(world: World, **spec: Any) -> Worker:
    """Declare an agent, wait until it is Ready, and return its worker."""
    (worker,) = await world.running("ava", **spec)
    return worker


async def test_rotated_secret_is_one_rollout_and_cuts_no_call(world: World) -> None:
    worker = await running(world)
    worker.calls = 1
    world.openai.keys.add("rotated")
    await world.put(SECRET, manifests.secret(world.namespace, "openai", apiKey="rotated"))
    await replaced(world, worker, 2)
    assert worker.draining and world.standin.is_in_call(worker), "the old worker keeps its call"

    async def reported() -> bool:
        progress = await world.condition("ava", ConditionType.PROGRESSING)
        return progress["status"] == "True" and "1 old worker is finishing 1 call" in progress["message"]

    await eventually(reported, "the status reports the old worker's call")
    worker.calls = 0
    await world.becomes("ava", "False", "RolledOut", ConditionType.PROGRESSING)
    await _nothing_changes(world)


async def _nothing_changes(world: World) -> None:
    """Check that a new version of the Secret with equal values changes nothing."""
    await world.settles("ava")
    before = (await world.agent("ava"))["metadata"]["resourceVersion"]
    same = manifests.secret(world.namespace, "openai", apiKey="rotated\n", unused="by workers")
    await world.put(SECRET, same)
    await asyncio.sleep(READ_SECONDS)
    assert (await world.agent("ava"))["metadata"]["resourceVersion"] == before
    assert await world.rollouts("ava") == 2, "one for the first configuration, one for the rotation"


BAD = {
    "two-lines": ("a-key\nand-a-line", "SecretKeyMissing", "contains a line break"),
    "letters": ("ключ", "SecretKeyMissing", "non-ASCII letters"),
    "blank": (" \n", "SecretKeyMissing", "no value for apiKey"),
    "revoked": ("sk-no-longer-good", "CredentialsRejected", "OpenAI at "),
    "deleted": (None, "SecretNotFound", "kubectl -n"),
}
"""New value of the key (none: deleted), expected reason and part of the message, by agent; each has its own Secret."""


async def test_invalid_secret_is_reported_and_workers_stay(world: World) -> None:
    async def put(agent: str, value: str | None) -> None:
        if value is None:
            await world.remove(SECRET, agent)
        else:
            await world.put(SECRET, manifests.secret(world.namespace, agent, apiKey=value))

    async def becomes_invalid_and_valid(agent: str, value: str | None, reason: str, message: str) -> None:
        await put(agent, "key")
        openai = {"baseURL": world.openai.url, "credentialsSecretRef": {"name": agent}}
        workers = await world.running(agent, voice={"openai": openai})
        await put(agent, value)
        seen = await world.becomes(agent, "False", reason, ConditionType.CREDENTIALS_VALID, seconds=NOTICED_SECONDS)
        assert message in seen["message"]
        assert not (value or "").strip() or f"{value}" not in str((await world.agent(agent))["status"]["conditions"])
        await world.becomes(agent, "False", "RolloutBlocked", ConditionType.PROGRESSING)
        registered = await world.condition(agent, ConditionType.WORKERS_REGISTERED)
        assert registered["status"] == "True", "the worker still takes calls"
        await put(agent, "key")
        await world.becomes(agent, "True", seconds=FOUND_SECONDS)
        assert world.standin.of(agent) == workers
        assert await world.rollouts(agent) == 1

    async with asyncio.TaskGroup() as group:
        for agent, bad in BAD.items():
            group.create_task(becomes_invalid_and_valid(agent, *bad))


async def test_secret_that_is_not_text_is_reported(world: World) -> None:
    secret = {"metadata": {"namespace": world.namespace, "name": "openai"}, "data": {"apiKey": "/////w=="}}
    await world.put(SECRET, secret)
    await world.declare("ava")
    seen = await world.becomes("ava", "False", "SecretKeyMissing")
    assert "is not UTF-8 text" in seen["message"]
    await world.put_secrets()
    await world.becomes("ava", "True", seconds=FOUND_SECONDS)


async def test_burst_of_config_map_changes_is_one_rollout(world: World) -> None:
    async def put(**texts: str) -> None:
        await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "texts", **texts))

    persona = {
        "instructionsRef": {"name": "texts", "key": "task"},
        "greetingRef": {"name": "texts", "key": "hello"},
    }
    await put(task="Guide visitors.", hello="Welcome.")
    worker = await running(world, persona=persona)
    assert "Guide visitors." in await world.configuration(worker.pod)

    async def change(number: int) -> None:
        await put(task="Sell tickets.", hello=f"Good evening {number}.")
        await world.declare("ava", persona=persona, language="ar", voice=_voice(world, f"voice-{number}"))

    bursts = await burst(4, change)

    async def arrived() -> bool:
        staying = world.standin.of("ava")
        texts = [await world.configuration(worker.pod) for worker in staying]
        return len(texts) == 1 and "Sell tickets." in texts[0] and "Good evening 3." in texts[0]

    await eventually(arrived, "the workers have the last texts", NOTICED_SECONDS)
    await world.becomes("ava", "False", "RolledOut", ConditionType.PROGRESSING)
    assert 2 <= await world.rollouts("ava") <= 1 + bursts, "one for the first configuration, one for all changes"


async def test_new_image_and_knowledge_roll_out_once_and_cut_no_call(world: World) -> None:
    knowledge = [{"configMapRef": {"name": "facts"}}]
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "facts", a="An hour is 500."))
    first = await running(world, knowledge=knowledge)
    first.calls = 1
    image = {"callsPerWorker": 1, "image": "worker.example/image:next"}
    await world.declare("ava", knowledge=knowledge, worker=image)
    second = await replaced(world, first, 2)
    assert await _images(world, second) == ["worker.example/image:next"]
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "facts", a="An hour is 600."))
    third = await replaced(world, second, 3)
    assert "An hour is 600." in await world.configuration(third.pod)
    assert world.standin.is_in_call(first), "the first worker keeps its call, two configurations later"
    first.calls = 0
    await world.becomes("ava", "False", "RolledOut", ConditionType.PROGRESSING)
    assert await world.rollouts("ava") == 3


async def _images(world: World, worker: Worker) -> list[str]:
    (spec,) = [pod["spec"] for pod in await world.pods("ava") if pod["metadata"]["name"] == worker.pod]
    return [container["image"] for container in spec["containers"]]


async def test_missing_key_of_a_config_map_is_reported(world: World) -> None:
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "texts", hello="Welcome."))
    await world.declare("ava", persona={"instructionsRef": {"name": "texts", "key": "task"}})
    seen = await world.becomes("ava", "False", "ConfigMapKeyMissing", ConditionType.KNOWLEDGE_LOADED)
    assert "no text for key 'task'. Keys with text: hello" in seen["message"]
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "texts", hello="Welcome.", task="Guide."))
    await world.becomes("ava", "True", seconds=FOUND_SECONDS)


async def test_younger_agent_starts_when_the_name_is_free(world: World) -> None:
    world.standin.registered_name.update(ava="guide", eve="guide")
    await running(world, agentName="guide")
    await asyncio.sleep(1.1)  # creation times are whole seconds
    await world.declare("eve", agentName="guide")
    seen = await world.becomes("eve", "False", "NameTaken", ConditionType.NAME_UNIQUE)
    assert f"AvatarAgent {world.namespace}/ava is older" in seen["message"]
    assert await world.deployment("eve") is None
    await world.becomes("ava", "True", kind=ConditionType.NAME_UNIQUE)
    await world.remove(AVATAR_AGENT, "ava")
    # The name is free once no worker of ava is left.
    await world.becomes("eve", "True", seconds=GONE_SECONDS)
    await world.becomes("eve", "True", kind=ConditionType.NAME_UNIQUE)


async def test_two_automatic_agents_on_one_server_conflict(world: World) -> None:
    world.standin.registered_name.update(ava="", eve="")
    await running(world, dispatch={"mode": "Automatic"})
    await asyncio.sleep(1.1)
    await world.declare("eve", dispatch={"mode": "Automatic"})
    seen = await world.becomes("eve", "False", "NameTaken", ConditionType.NAME_UNIQUE)
    assert "Set dispatch.mode: Explicit on one of the two" in seen["message"]
    del world.standin.registered_name["eve"]
    await world.declare("eve")
    await world.becomes("eve", "True")


def _voice(world: World, name: str) -> dict[str, Any]:
    openai = {"baseURL": world.openai.url, "credentialsSecretRef": {"name": "openai"}}
    return {"openai": openai, "tts": {"voice": name}}

"""Invalid inputs: a condition says what is wrong and what to do, and the correction suffices."""

import pytest
from aiohttp import web

from agentspec import ConditionType
from kube.kinds import CONFIG_MAP, EVENT, SECRET, Kind
from tests.cluster import manifests
from tests.cluster.world import World
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("controller")

RESOURCE_QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
CORRECTED_SECONDS = 25.0
"""Limit on a busy machine. Up to 11.5 s of it pass until the controller reads references again."""
LOST_SECONDS = 8.0
"""Limit on a busy machine. Without the worker's report, the controller would look after 10 s."""


async def corrected(world: World, part: ConditionType) -> None:
    """Wait until a corrected input shows in its condition in time, and the agent is Ready."""
    await world.becomes("ava", "True", kind=part, seconds=CORRECTED_SECONDS)
    await world.becomes("ava", "True")


async def test_agent_with_missing_secret_is_ready_once_it_exists(world: World) -> None:
    await world.remove(SECRET, "openai")
    await world.declare("ava")
    seen = await world.becomes("ava", "False", "SecretNotFound")
    assert "'openai'" in seen["message"]
    assert f"kubectl -n {world.namespace} create secret generic openai --from-literal=apiKey=" in seen["message"]
    assert await world.deployment("ava") is None, "the controller starts no workers without credentials"
    await world.put_secrets()
    await corrected(world, ConditionType.CREDENTIALS_VALID)


async def test_missing_secret_key_is_reported_with_existing_keys(world: World) -> None:
    await world.remove(SECRET, "openai")
    await world.put(SECRET, manifests.secret(world.namespace, "openai", OPENAI_API_KEY="key"))
    await world.declare("ava")
    seen = await world.becomes("ava", "False", "SecretKeyMissing", ConditionType.CREDENTIALS_VALID)
    assert "no value for apiKey" in seen["message"]
    assert "OPENAI_API_KEY" in seen["message"]
    await world.put_secrets()
    await corrected(world, ConditionType.CREDENTIALS_VALID)


async def test_unreachable_livekit_is_reported_with_its_url(world: World) -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    await world.declare("ava", url=url)
    seen = await world.becomes("ava", "False", "LiveKitUnreachable")
    assert url in seen["message"]
    await world.declare("ava")
    await corrected(world, ConditionType.CREDENTIALS_VALID)


async def test_web_server_that_is_not_livekit_is_reported(world: World) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>Welcome</html>", content_type="text/html")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", page)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await world.declare("ava", url=f"ws://127.0.0.1:{runner.addresses[0][1]}")
        seen = await world.becomes("ava", "False", "LiveKitUnreachable")
        assert "not as LiveKit does" in seen["message"]
    finally:
        await runner.cleanup()


async def test_credentials_that_livekit_rejects_are_reported(world: World) -> None:
    key = world.cluster.livekit_api_key
    wrong = "of-some-other-server-and-long-enough"
    await world.put(SECRET, manifests.secret(world.namespace, "livekit", apiKey=key, apiSecret=wrong))
    await world.declare("ava")
    seen = await world.becomes("ava", "False", "CredentialsRejected")
    assert wrong not in str(await world.agent("ava"))
    assert "'livekit'" in seen["message"]
    await world.put_secrets()
    await corrected(world, ConditionType.CREDENTIALS_VALID)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        pytest.param(None, "ConfigMapNotFound", id="no such ConfigMap"),
        pytest.param({}, "KnowledgeEmpty", id="a ConfigMap without keys"),
        pytest.param({"a.md": " \n"}, "KnowledgeEmpty", id="a ConfigMap whose texts are blank"),
        pytest.param({"a.md": "x" * 200_000, "b.md": "y" * 100_000}, "KnowledgeTooLarge", id="more than 256 KiB"),
    ],
)
async def test_unusable_knowledge_is_reported(world: World, texts: dict[str, str] | None, reason: str) -> None:
    if texts is not None:
        await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "facts", **texts))
    await world.declare("ava", knowledge=[{"configMapRef": {"name": "facts"}}])
    seen = await world.becomes("ava", "False", reason, ConditionType.KNOWLEDGE_LOADED)
    assert "facts" in seen["message"]
    await world.remove(CONFIG_MAP, "facts")
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "facts", **{"a.md": "An hour is 500."}))
    await corrected(world, ConditionType.KNOWLEDGE_LOADED)


async def test_workers_stay_while_an_input_is_broken(world: World) -> None:
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "facts", a="An hour is 500."))
    (worker,) = await world.running("ava", knowledge=[{"configMapRef": {"name": "facts"}}])
    await world.remove(CONFIG_MAP, "facts")
    await world.declare("ava", knowledge=[{"configMapRef": {"name": "facts"}}], persona={"greeting": "Ahoy"})
    await world.becomes("ava", "False", "ConfigMapNotFound")
    held_back = await world.condition("ava", ConditionType.PROGRESSING)
    assert held_back["reason"] == "RolloutBlocked"
    assert world.standin.of("ava") == [worker]
    registered = await world.condition("ava", ConditionType.WORKERS_REGISTERED)
    assert registered["status"] == "True", "the worker still takes calls"


async def test_invalid_room_name_pattern_is_reported(world: World) -> None:
    await world.declare("ava", dispatch={"roomNamePattern": "^calls-("})
    seen = await world.becomes("ava", "False", "InvalidSpec")
    assert "spec.dispatch.roomNamePattern" in seen["message"]
    await world.running("ava", dispatch={"roomNamePattern": "^calls-"})


async def test_rejection_by_kubernetes_is_quoted(world: World) -> None:
    quota = {
        "metadata": {"namespace": world.namespace, "name": "none"},
        "spec": {"hard": {"count/deployments.apps": "0"}},
    }
    await world.client.create(RESOURCE_QUOTA, world.namespace, quota)
    await eventually(lambda: _enforced(world), "the quota is enforced")
    await world.declare("ava")
    seen = await world.becomes("ava", "False", "ApplyRejected")
    assert "exceeded quota: none" in seen["message"]
    await world.remove(RESOURCE_QUOTA, "none")
    await eventually(lambda: world.deployment("ava"), "the controller retries", CORRECTED_SECONDS)
    await world.becomes("ava", "True")


async def _enforced(world: World) -> bool:
    quota = await world.client.get(RESOURCE_QUOTA, world.namespace, "none")
    return quota is not None and "hard" in quota.get("status", {})


async def test_workers_with_another_name_do_not_count(world: World) -> None:
    world.standin.registered_name["ava"] = "other-agent"
    await world.declare("ava")
    seen = await world.becomes("ava", "False", "NameMismatch")
    assert "'other-agent'" in seen["message"]
    assert (await world.agent("ava"))["status"]["workers"]["registered"] == 0


async def test_worker_that_loses_livekit_is_reported(world: World) -> None:
    (worker,) = await world.running("ava")
    worker.registered = False
    seen = await world.becomes("ava", "False", "NotRegistered", seconds=LOST_SECONDS)
    assert f"kubectl logs {worker.pod}" in seen["message"]
    worker.registered = True
    await world.becomes("ava", "True", seconds=LOST_SECONDS)


async def test_pod_that_cannot_start_is_reported_as_by_kubernetes(world: World) -> None:
    world.standin.waiting["ava"] = "ImagePullBackOff"
    await world.declare("ava", worker={"image": "nowhere.example/none:1"})
    seen = await world.becomes("ava", "False", "ImagePullFailed", ConditionType.WORKERS_REGISTERED)
    assert "ImagePullBackOff: Back-off pulling image" in seen["message"]


async def test_transitions_are_posted_as_events(world: World) -> None:
    await world.remove(SECRET, "openai")
    await world.declare("ava")
    await world.becomes("ava", "False", "SecretNotFound")
    await world.put_secrets()
    await corrected(world, ConditionType.CREDENTIALS_VALID)

    async def posted() -> list[tuple[str, str]]:
        events = await world.client.list(EVENT, world.namespace)
        own = [event for event in events if event["involvedObject"]["kind"] == "AvatarAgent"]
        reasons = sorted((event["type"], event["reason"]) for event in own)
        return reasons if ("Normal", "AllChecksPassed") in reasons else []

    assert await eventually(posted, "the last transition is posted") == [
        ("Normal", "AllChecksPassed"),
        ("Normal", "RollingOut"),
        ("Warning", "SecretNotFound"),
    ]

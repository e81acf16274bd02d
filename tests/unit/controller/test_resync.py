"""The periodic list finds what the watch missed, and detects a watch that stays behind."""

import asyncio

import pytest

from controller.cluster import resync
from controller.cluster.agents import Agents
from controller.cluster.resync import PERIOD_SECONDS, RETRY_SECONDS, WATCH_LAG_SECONDS, Resync
from controller.desired.identity import FIELD_MANAGER
from controller.observation import Key
from kube.client import Document
from kube.kinds import AVATAR_AGENT, Kind
from tests.unit.controller.builders import SPEC
from tests.unit.fakes.apiserver import UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import VirtualLoop, use_loop_clock

ONE, TWO = Key("shop", "one"), Key("shop", "two")


class Late(FakeApiServer):
    """Responses are half a second old when they arrive."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        found = await super().get(kind, namespace, name)
        await asyncio.sleep(0.5)
        return found


READ_SECONDS = WATCH_LAG_SECONDS + 0.25
"""From the start of a comparison that found a difference until it reads the object."""


class Scene:
    """AvatarAgents in the cluster, the cache that a watch updates, and the comparison of both."""

    def __init__(self) -> None:
        self.server: FakeApiServer = Late(FIELD_MANAGER)
        self.agents = Agents()
        self.found: list[Key] = []
        self.missed: list[Key] = []
        self.resync = Resync(self.server, "shop", self.agents, self._seen, self._lost)

    def put(self, key: Key, language: str = "en", *, watched: bool = True) -> Document:
        """Write an AvatarAgent. `watched`: the watch delivers the event."""
        metadata = {"namespace": key.namespace, "name": key.name, "creationTimestamp": "2026-01-01T00:00:00Z"}
        written = self.server.put(AVATAR_AGENT, {"metadata": metadata, "spec": {**SPEC, "language": language}})
        if watched:
            self.agents.update(written)
        return written

    def remove(self, key: Key, *, watched: bool = False) -> None:
        """Delete an AvatarAgent. `watched`: the watch delivers the event."""
        found = self.server.find(AVATAR_AGENT, key.namespace, key.name)
        assert found is not None
        self.server.remove(AVATAR_AGENT, key.namespace, key.name)
        if watched:
            self.agents.remove(key, found["metadata"]["uid"])
            self.resync.agent_deleted(found["metadata"]["uid"])

    def _seen(self, document: Document) -> None:
        self.found += self.agents.update(document)

    def _lost(self, key: Key, uid: str) -> None:
        self.missed += self.agents.remove(key, uid)
        self.resync.agent_deleted(uid)


@pytest.fixture
async def scene(virtual_time: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A cluster without agents, in virtual time."""
    use_loop_clock(monkeypatch, resync)
    return Scene()


async def test_watch_that_delivered_everything_is_not_behind(scene: Scene) -> None:
    scene.put(ONE)
    scene.put(TWO)
    assert await scene.resync.compare()
    assert (scene.found, scene.missed, scene.resync.behind_since) == ([], [], None)
    assert scene.server.requests["get", "AvatarAgent"] == 0
    assert scene.resync.last_success is not None


async def test_missed_changes_are_cached(scene: Scene) -> None:
    for name in ("new", "changed", "gone", "same"):
        scene.put(Key("shop", name), watched=name != "new")
    scene.put(Key("shop", "changed"), "ar", watched=False)
    scene.remove(Key("shop", "gone"))
    assert await scene.resync.compare()
    assert sorted(key.name for key in scene.found) == ["changed", "new"]
    assert [key.name for key in scene.missed] == ["gone"]
    assert scene.server.requests["get", "AvatarAgent"] == 2, "only what was missed is read whole"
    assert {agent.key.name for agent in scene.agents.all()} == {"new", "changed", "same"}
    scene.resync.watch_progressed()
    assert await scene.resync.compare()
    assert scene.resync.behind_since is None


async def test_watch_may_lag_behind_the_list(scene: Scene) -> None:
    written = scene.put(ONE, watched=False)
    asyncio.get_running_loop().call_later(WATCH_LAG_SECONDS - 0.5, scene.agents.update, written)
    assert await scene.resync.compare()
    assert (scene.found, scene.resync.behind_since) == ([], None)


async def test_agent_recreated_during_the_list_is_kept(scene: Scene) -> None:
    scene.put(ONE)
    scene.remove(ONE)
    scene.put(TWO, watched=False)
    asyncio.get_running_loop().call_later(0.5, scene.put, ONE)
    assert await scene.resync.compare()
    assert scene.missed == []
    assert scene.agents.get(ONE) is not None


async def test_agent_deleted_during_the_read_is_not_restored(scene: Scene) -> None:
    scene.put(ONE, watched=False)
    scene.put(TWO)
    scene.put(TWO, "ar", watched=False)

    def go() -> None:
        for key in (ONE, TWO):  # one that was not known yet, and one that was
            scene.remove(key, watched=True)

    asyncio.get_running_loop().call_later(READ_SECONDS, go)
    assert await scene.resync.compare()
    assert list(scene.agents.all()) == []
    assert scene.resync.behind_since is None
    scene.put(ONE, watched=False)
    assert await scene.resync.compare()
    assert [agent.key for agent in scene.agents.all()] == [ONE], "its namesake is another one"


async def test_event_during_the_read_is_not_counted_as_missed(scene: Scene) -> None:
    written = scene.put(ONE, watched=False)

    def report() -> None:
        scene.resync.watch_progressed()
        scene.agents.update(written)

    asyncio.get_running_loop().call_later(READ_SECONDS, report)
    assert await scene.resync.compare()
    assert (scene.found, scene.resync.behind_since) == ([], None), "no event may clear it for hours"


async def test_agent_recreated_during_another_read_is_kept(scene: Scene) -> None:
    scene.put(ONE)
    scene.remove(ONE)
    scene.put(TWO, watched=False)
    asyncio.get_running_loop().call_later(READ_SECONDS, scene.put, ONE)
    assert await scene.resync.compare()
    assert scene.missed == []
    assert scene.agents.get(ONE) is not None


async def test_missed_deletion_does_not_mark_the_watch_as_behind(scene: Scene) -> None:
    scene.put(ONE)
    scene.put(TWO)
    scene.remove(ONE)  # in a gap of the watch: kopf then lists again and never reports deletions
    scene.resync.watch_progressed()
    assert await scene.resync.compare()
    assert (scene.missed, scene.resync.behind_since) == ([ONE], None)


async def test_watch_is_behind_since_the_first_missed_change(scene: Scene) -> None:
    noticed: set[float | None] = set()
    for language in ("en", "ar", "de", "fr"):
        scene.put(ONE, language, watched=False)
        assert await scene.resync.compare()
        noticed.add(scene.resync.behind_since)
        await asyncio.sleep(PERIOD_SECONDS)
    (since,) = noticed
    assert since is not None
    assert 0 < since < PERIOD_SECONDS
    assert await scene.resync.compare()
    assert scene.resync.behind_since == since, "a minute without changes does not clear it"
    scene.resync.watch_progressed()
    assert scene.resync.behind_since is None


@pytest.mark.parametrize("verb", ["list", "get"])
async def test_failed_list_says_nothing_about_the_watch(scene: Scene, verb: str) -> None:
    scene.put(ONE)
    scene.remove(ONE)
    scene.put(TWO, watched=False)
    scene.server.failures[verb, "AvatarAgent"] = UNREACHABLE
    assert not await scene.resync.compare()
    assert (scene.missed, scene.resync.behind_since) == ([], None)
    scene.server.failures.clear()
    assert await scene.resync.compare()
    assert (scene.found, scene.missed) == ([TWO], [ONE])


async def test_comparison_runs_every_minute_and_retries_sooner(scene: Scene) -> None:
    running = asyncio.create_task(scene.resync.run())
    await asyncio.sleep(PERIOD_SECONDS - 1)
    assert scene.server.requests["list", "AvatarAgent"] == 0
    await asyncio.sleep(10 * PERIOD_SECONDS)
    assert scene.server.requests["list", "AvatarAgent"] == 10
    scene.server.failures["list", "AvatarAgent"] = UNREACHABLE
    await asyncio.sleep(2 * PERIOD_SECONDS)
    scene.server.failures.clear()
    scene.put(ONE, watched=False)
    await asyncio.sleep(RETRY_SECONDS + WATCH_LAG_SECONDS + 1)
    assert scene.found == [ONE]
    running.cancel()
    await asyncio.wait([running])


async def test_list_all_waits_until_the_resource_is_served(scene: Scene) -> None:
    scene.server.failures["list", "AvatarAgent"] = UNREACHABLE
    scene.put(ONE, watched=False)
    waiting = asyncio.create_task(scene.resync.list_all())
    await asyncio.sleep(600)
    assert not waiting.done()
    scene.server.failures.clear()
    await asyncio.wait_for(waiting, RETRY_SECONDS + 1)
    assert scene.found == [ONE]


async def test_list_all_waits_until_discovery_lists_the_resource(scene: Scene) -> None:
    scene.server.undiscoverable.add(AVATAR_AGENT)
    waiting = asyncio.create_task(scene.resync.list_all())
    await asyncio.sleep(600)
    assert not waiting.done()
    scene.put(ONE, watched=False)
    scene.server.undiscoverable.clear()
    await asyncio.wait_for(waiting, RETRY_SECONDS + 1)
    assert scene.found == [ONE]

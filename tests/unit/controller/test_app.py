"""When a controller calls itself stuck, which has the kubelet start it again."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, cast

import aiohttp
import kopf
import pytest
from kopf._core.reactor import observation

from controller.cluster import resync
from controller.cluster.resync import PERIOD_SECONDS
from controller.desired.identity import FIELD_MANAGER
from controller.runtime import app
from controller.runtime.app import STALLED_SECONDS, Controller
from controller.runtime.leadership import Leadership
from controller.runtime.settings import ControllerSettings
from kube import informer
from kube.client import ApiError
from kube.kinds import AVATAR_AGENT, DEPLOYMENT, NETWORK_POLICY
from tests.unit.controller.builders import SPEC
from tests.unit.fakes.apiserver import FakeApiServer
from tests.unit.fakes.virtualtime import run, use_loop_clock

BOOKMARK_SECONDS = 60.0


class Holding:
    """Stands for the leadership."""

    held = True
    error = ""


class Scene:
    """A controller whose watches run, and the API server that it watches."""

    def __init__(self) -> None:
        self.server, self.leadership = FakeApiServer(FIELD_MANAGER), Holding()
        session = cast(aiohttp.ClientSession, None)  # nobody is connected to
        leadership = cast(Leadership, self.leadership)
        self.controller = Controller(
            ControllerSettings(worker_image="worker:1", lease_namespace="system", watch_namespace="shop"),
            self.server,
            session,
            leadership,
        )
        self.informers = self.controller._children.informers
        self.quiet = ""
        """The kind whose watch hears nothing."""
        self.versions = 0

    @property
    def stuck(self) -> str:
        return self.controller._stuck()

    async def bookmarks(self) -> None:
        while True:
            await asyncio.sleep(BOOKMARK_SECONDS)
            for one in self.informers:
                if one.kind.kind != self.quiet:
                    self.server.bookmark(one.kind)

    def change(self, *, told: bool) -> None:
        """Somebody writes an AvatarAgent; `told`: kopf's watch says so."""
        self.versions += 1
        metadata = {"namespace": "shop", "name": "ava", "creationTimestamp": "2026-01-01T00:00:00Z"}
        spec = {**SPEC, "persona": {"greeting": f"Hello {self.versions}"}}
        written = self.server.put(AVATAR_AGENT, {"metadata": metadata, "spec": spec})
        if told:
            self.controller._watch_updated(written)


def played(monkeypatch: pytest.MonkeyPatch, scenario: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    use_loop_clock(monkeypatch, app, informer, resync)

    async def play() -> None:
        scene = Scene()
        parts = (scene.bookmarks(), scene.controller._resync.run(), *(one.run() for one in scene.informers))
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await scenario(scene)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    run(play())


def test_a_controller_that_hears_bookmarks_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(scene: Scene) -> None:
        assert scene.stuck == "", "nothing is listed yet"
        for _ in range(20):
            await asyncio.sleep(BOOKMARK_SECONDS)
            assert scene.stuck == ""

    played(monkeypatch, scenario)


def test_a_watch_that_hears_nothing_for_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(scene: Scene) -> None:
        scene.quiet = DEPLOYMENT.kind
        await asyncio.sleep(STALLED_SECONDS - 1)
        assert scene.stuck == ""
        await asyncio.sleep(2)
        assert scene.stuck == "the watch of Deployment has received nothing for 181 s"
        scene.leadership.held = False
        assert scene.stuck == "", "a standby watches nothing"

    played(monkeypatch, scenario)


def test_a_watch_of_agents_that_stays_behind_is_told_until_it_says_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(scene: Scene) -> None:
        for _ in range(2):
            scene.change(told=False)
            await asyncio.sleep(PERIOD_SECONDS)
        assert scene.stuck == ""
        for _ in range(4):
            scene.change(told=False)
            await asyncio.sleep(PERIOD_SECONDS + 5)
        assert scene.stuck.startswith("the watch of AvatarAgents has been behind for ")
        scene.change(told=True)
        assert scene.stuck == ""

    played(monkeypatch, scenario)


def test_until_all_is_listed_a_leader_is_not_ready_and_a_standby_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(scene: Scene) -> None:
        assert scene.controller._not_ready().startswith("not synced yet: AvatarAgent, Pod, ")
        scene.leadership.held = False
        assert scene.controller._not_ready() == ""
        scene.leadership.held = True
        await scene.controller._resync.list_all()
        await scene.controller._children.wait_synced()
        assert scene.controller._not_ready() == ""

    played(monkeypatch, scenario)


def test_a_leader_knows_the_supply_before_it_has_looked_at_any_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    use_loop_clock(monkeypatch, app, informer, resync)

    async def scenario() -> None:
        scene = Scene()
        controller, forever = scene.controller, asyncio.Event()
        monkeypatch.setattr(controller, "_watch", lambda tasks: forever.wait())
        monkeypatch.setattr(controller._reconciler, "reconcile", lambda key: forever.wait())
        scene.change(told=False)
        scene.server.failures["list", DEPLOYMENT.kind] = ApiError(500, "InternalError", "GET", "not now")
        working = asyncio.create_task(controller._work())
        await asyncio.sleep(BOOKMARK_SECONDS)
        assert controller._server._is_leader(), "gateways are heard"
        assert not controller._server._has_synced(), "who runs is not known yet"
        scene.server.failures.clear()
        await asyncio.sleep(BOOKMARK_SECONDS)
        assert controller._server._has_synced()
        assert set(controller._fleet.supply(0.0)) == {"shop/ava"}
        working.cancel()
        await asyncio.wait([working])

    run(scenario())


def test_what_is_not_listed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.failures["list", NETWORK_POLICY.kind] = ApiError(403, "Forbidden", "GET", "no right to list them")
        await scene.controller._resync.list_all()
        await asyncio.sleep(STALLED_SECONDS)
        told = "not synced yet: NetworkPolicy (if this persists, check the log)"
        assert scene.controller._not_ready() == told
        del scene.server.failures["list", NETWORK_POLICY.kind]
        await scene.controller._children.wait_synced()
        assert scene.controller._not_ready() == ""

    played(monkeypatch, scenario)


async def kopf_run(monkeypatch: pytest.MonkeyPatch, part: Callable[..., Coroutine[Any, Any, None]]) -> None:
    """Run the controller's kopf, a part of which is replaced, as its work does: beside a task of the controller, and
    one of a connection that stays open."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(
        kopf, "login_with_kubeconfig", lambda **_: kopf.ConnectionInfo(server="https://nowhere.example")
    )
    monkeypatch.setattr(observation, "resource_observer", part)
    monkeypatch.setattr(app, "KOPF_STOP_SECONDS", 0.01)
    ours = asyncio.create_task(asyncio.Event().wait())
    watching = asyncio.create_task(Scene().controller._watch([cast("asyncio.Task[None]", ours)]))
    await asyncio.sleep(0)
    connection = asyncio.create_task(asyncio.Event().wait())  # newer than kopf, which would wait for its end
    try:
        await asyncio.wait_for(watching, 5)
    finally:
        connection.cancel()
        ours.cancel()


async def test_a_kopf_that_fails_ends_the_work_with_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(**_: Any) -> None:
        raise ValueError("a fault of kopf's")

    with pytest.raises(RuntimeError, match="kopf ended by itself"):
        await kopf_run(monkeypatch, failing)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "Resource observer has failed: a fault of kopf's"
    ]
    # kopf leaves the failed task behind. Python 3.11 tells of it with a traceback, and cannot in the midst of parsing
    # another module: "AST constructor recursion depth mismatch".
    gc.collect()


class Begun(asyncio.Event):
    """Stands for a part of kopf that goes on for ever, and tells that it runs."""

    async def __call__(self, **_: Any) -> None:
        self.set()
        await asyncio.Event().wait()


async def test_a_signal_ends_the_work_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Begun()
    running = asyncio.create_task(kopf_run(monkeypatch, part))
    await part.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await running


async def test_work_that_is_cancelled_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Begun()
    running = asyncio.create_task(kopf_run(monkeypatch, part))
    await part.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

"""When a controller calls itself stuck, which has the kubelet start it again."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import aiohttp
import pytest

from controller import app, resync
from controller.app import STALLED_SECONDS, Controller
from controller.cluster import informer
from controller.cluster.kinds import AVATAR_AGENT, DEPLOYMENT
from controller.leadership import Leadership
from controller.resync import PERIOD_SECONDS
from controller.settings import Settings
from tests.unit.controller.builders import SPEC
from tests.unit.controller.clocks import follow_the_loop
from tests.unit.controller.memory import Memory
from tests.unit.controller.virtualtime import run

BOOKMARK_SECONDS = 60.0


class Holding:
    """Stands for the leadership."""

    held = True
    trouble = ""


class Scene:
    """A controller whose watches run, and the API server that it watches."""

    def __init__(self) -> None:
        self.server, self.leadership = Memory(), Holding()
        session = cast(aiohttp.ClientSession, None)  # nobody is connected to
        leadership = cast(Leadership, self.leadership)
        self.controller = Controller(
            Settings("worker:1", "system", watch_namespace="shop"), self.server, session, leadership
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
            self.controller._told_seen(written)


def played(monkeypatch: pytest.MonkeyPatch, scenario: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    follow_the_loop(monkeypatch, app, informer, resync)

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
        assert scene.stuck == "the watch of Deployment was last heard 181 s ago"
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
        assert scene.controller._not_ready() == "AvatarAgents have not been listed yet"
        scene.leadership.held = False
        assert scene.controller._not_ready() == ""
        scene.leadership.held = True
        await scene.controller._resync.see_all()
        await scene.controller._children.wait_listed()
        assert scene.controller._not_ready() == ""

    played(monkeypatch, scenario)

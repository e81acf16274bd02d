"""Avatars that no call process ends are found and ended; those of live calls are not touched."""

import asyncio
from typing import Any

import pytest
from livekit.agents import APIConnectionError

from tests.waiting import soon
from worker.avatar_reports import Avatars
from worker.avatar_sessions import AvatarName, OpenAvatar
from worker.server import open_avatars as module
from worker.server.open_avatars import AvatarCloser, OrphanReaper

OWNER = "uid-1.0a1b2c3d"


def avatar(number: int, *, owner: str = OWNER, job_id: str = "", room: str = "ornina-c1") -> OpenAvatar:
    return OpenAvatar(f"c{number}", AvatarName(owner, job_id or f"AJ_{number}", room), "")


class FakeProvider:
    """A provider with some open avatars."""

    def __init__(self, *found: OpenAvatar) -> None:
        self.found = set(found)
        self.ended: list[str] = []
        self.searches = 0
        self.failures = 0
        """So many searches fail first."""
        self.end_errors: list[str] = []

    async def active(self) -> list[OpenAvatar]:
        self.searches += 1
        if self.searches <= self.failures:
            raise APIConnectionError("unreachable")
        return list(self.found)

    async def end(self, avatar_id: str, **_: object) -> str:
        if self.end_errors:
            return self.end_errors.pop()
        self.ended.append(avatar_id)
        self.found = {found for found in self.found if found.id != avatar_id}
        return ""


def closer_of(provider: FakeProvider, *jobs: str) -> tuple[AvatarCloser, Avatars]:
    """A closer, and the avatars of these jobs, which were abandoned."""
    avatars = Avatars()
    for job in jobs:
        avatars.expect(job)
        assert avatars.abandon(job)
    api: Any = provider
    return AvatarCloser(api, avatars), avatars


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCH_PAUSES", (0.0, 0.01, 0.01))
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 0.01)


async def test_abandoned_avatar_is_ended_and_no_other() -> None:
    provider = FakeProvider(avatar(1), avatar(2))
    closer, avatars = closer_of(provider, "AJ_1")
    assert avatars.count(()) == 1, "it may hold its seat"
    closer.close("AJ_1")
    await soon(lambda: avatars.count(()) == 0)
    assert provider.ended == ["c1"]
    assert provider.searches == 1


async def test_late_acceptance_is_found_by_a_later_search() -> None:
    provider = FakeProvider()
    closer, avatars = closer_of(provider, "AJ_1")
    closer.close("AJ_1")
    await soon(lambda: provider.searches)
    provider.found.add(avatar(1))
    await soon(lambda: provider.ended == ["c1"])
    await soon(lambda: avatars.count(()) == 0)


@pytest.mark.parametrize("trouble", ["search", "end"])
async def test_failed_attempt_is_repeated(trouble: str) -> None:
    provider = FakeProvider(avatar(1))
    if trouble == "search":
        provider.failures = 1
    else:
        provider.end_errors = ["HTTP 500"]
    closer, _ = closer_of(provider, "AJ_1")
    closer.close("AJ_1")
    await soon(lambda: provider.ended == ["c1"])


async def test_unreachable_provider_is_given_up_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    provider = FakeProvider(avatar(1))
    provider.failures = 99
    closer, avatars = closer_of(provider, "AJ_1")
    closer.close("AJ_1")
    await soon(lambda: avatars.count(()) == 0)
    assert "could not close avatar conversation" in caplog.text


async def test_search_ends_when_the_call_process_reports_the_end() -> None:
    provider = FakeProvider()
    closer, avatars = closer_of(provider, "AJ_1")
    avatars.forget("AJ_1")
    closer.close("AJ_1")
    await asyncio.wait_for(closer.finish(5), 1)
    assert provider.searches == 0


async def test_stopping_worker_waits_for_an_end_but_not_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCH_PAUSES", (0.0, 600.0))
    provider = FakeProvider(avatar(1))
    closer, _ = closer_of(provider, "AJ_1", "AJ_2")
    closer.close("AJ_1")
    closer.close("AJ_2")
    await asyncio.wait_for(closer.finish(0.05), 1)
    assert provider.ended == ["c1"]


class Reaper:
    """A reaper and LiveKit's rooms."""

    def __init__(self, provider: FakeProvider, *, held: tuple[str, ...] = (), present: tuple[str, ...] = ()) -> None:
        self.present = list(present)
        """Jobs whose agent is in its room; the first question about a job takes the first of equal entries."""
        api: Any = provider
        self.reaper = OrphanReaper(api, OWNER, held_jobs=lambda: held, is_in_room=self._is_in_room)

    async def _is_in_room(self, room: str, job_id: str) -> bool:
        assert room
        return job_id in self.present


async def test_orphan_is_ended() -> None:
    provider = FakeProvider(avatar(1))
    await Reaper(provider).reaper.reap()
    assert provider.ended == ["c1"]


@pytest.mark.parametrize(
    ("found", "held", "present"),
    [
        (avatar(1), ("AJ_1",), ()),
        (avatar(1), (), ("AJ_1",)),
        (avatar(1, owner="uid-2.0a1b2c3d"), (), ()),
        (avatar(1, owner="uid-1.ffffffff"), (), ()),
        (avatar(1, owner=""), (), ()),
        (avatar(1, room=""), (), ()),
    ],
    ids=["own call", "another worker's call", "another agent's", "on another server", "no owner", "unknown room"],
)
async def test_avatar_that_may_be_in_use_stays(
    found: OpenAvatar, held: tuple[str, ...], present: tuple[str, ...]
) -> None:
    provider = FakeProvider(found)
    await Reaper(provider, held=held, present=present).reaper.reap()
    assert provider.ended == []


async def test_agent_that_reconnects_keeps_its_avatar(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = FakeProvider(avatar(1))
    scene = Reaper(provider)
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 0.1)
    reaping = asyncio.create_task(scene.reaper.reap())
    await soon(lambda: provider.searches == 1)
    scene.present.append("AJ_1")
    await asyncio.wait_for(reaping, 5)
    assert provider.ended == []


async def test_search_is_repeated_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FIRST_REAP_SECONDS", 0.0)
    monkeypatch.setattr(module, "REAP_SECONDS", 0.01)
    provider = FakeProvider(avatar(1))
    provider.failures = 1
    running = asyncio.create_task(Reaper(provider).reaper.run())
    await soon(lambda: provider.ended == ["c1"])
    assert "search for open avatar conversations failed" in caplog.text
    running.cancel()


async def test_worker_without_a_uid_searches_nothing() -> None:
    api: Any = FakeProvider(avatar(1))
    reaper = OrphanReaper(api, "", held_jobs=lambda: (), is_in_room=Reaper(api)._is_in_room)
    await asyncio.wait_for(reaper.run(), 1)
    assert api.searches == 0

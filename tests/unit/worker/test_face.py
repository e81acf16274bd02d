"""What a call does about its avatar: the voice first, whatever the avatar does."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agentspec.wire import CallOutcome, WorkerConfig
from tests.unit.worker.fakes import FakeRoom
from worker.avatar_reports import AvatarState
from worker.call import call_avatar as module
from worker.call import metrics
from worker.call.call_avatar import Face
from worker.call.metrics import AvatarOutcome
from worker.call.tavus_avatar import AvatarError

TAVUS = {"provider": "Tavus", "tavus": {"faceID": "f", "palID": "p", "credentialsSecretRef": {"name": "tavus"}}}


class FakeAvatar:
    """Comes, or does not."""

    def __init__(self, **options: Any) -> None:
        self.on_lost = options["on_lost"]
        self.comes = asyncio.Event()
        self.error: AvatarError | None = None
        self.shown = False
        self.closed = 0

    async def bring(self) -> None:
        await self.comes.wait()
        if self.error is not None:
            raise self.error

    async def show(self) -> None:
        self.shown = True

    def hide(self) -> bool:
        was, self.shown = self.shown, False
        return was

    async def close(self) -> None:
        self.closed += 1


class Scene:
    """A call's face, and what it asks of the call."""

    def __init__(
        self, config: WorkerConfig, monkeypatch: pytest.MonkeyPatch, policy: str, *, seat: bool = True
    ) -> None:
        monkeypatch.setenv("TAVUS_API_KEY", "tavus-key")
        monkeypatch.setattr(module, "SEEN_SECONDS", 0.05)
        monkeypatch.setattr(module, "Avatar", lambda *_, **options: self._make(options))
        self.ends: list[tuple[CallOutcome, str]] = []
        self.told: list[tuple[AvatarState, str]] = []
        self.repeats = 0
        self.room = FakeRoom()
        self.session = SimpleNamespace(agent_state="listening")
        document = config.model_dump(by_alias=True) | {"avatar": TAVUS | {"onFailure": policy}}
        self.face = Face(
            cast(Any, self.session),
            self.room.as_room(),
            WorkerConfig.model_validate(document),
            seat=seat,
            end_call=lambda outcome, reason: self.ends.append((outcome, reason)),
            say_again=self._repeat,
            tell=lambda fate, problem: self.told.append((fate, problem)),
        )

    def _make(self, options: dict[str, Any]) -> FakeAvatar:
        self.avatar = FakeAvatar(**options)
        return self.avatar

    def _repeat(self) -> None:
        self.repeats += 1


@pytest.fixture
async def scene(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(config, monkeypatch, "VoiceOnly")


async def test_without_an_avatar_nothing_is_waited_for(config: WorkerConfig) -> None:
    face = Face(cast(Any, None), FakeRoom().as_room(), config, seat=True, end_call=print, say_again=print, tell=print)
    await asyncio.wait_for(asyncio.gather(face.run(), face.settled(), face.close()), 1)


async def test_an_avatar_that_comes_is_shown(scene: Scene) -> None:
    scene.avatar.comes.set()
    await scene.face.run()
    assert scene.avatar.shown
    await asyncio.wait_for(scene.face.settled(), 0.02)
    assert scene.told == [(AvatarState.CAME, "")]
    await scene.face.close()
    assert scene.told[1:] == [(AvatarState.GONE, "")], "its seat is free before the process has gone"


@pytest.mark.parametrize(("policy", "ends"), [("VoiceOnly", []), ("EndCall", [CallOutcome.NO_AVATAR_SEAT])])
async def test_without_a_seat_no_avatar_is_asked_for_and_the_policy_kept(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch, policy: str, ends: list[CallOutcome]
) -> None:
    scene = Scene(config, monkeypatch, policy, seat=False)
    counted = metrics.AVATARS.labels(AvatarOutcome.NO_SEAT)._value.get()
    await asyncio.wait_for(asyncio.gather(scene.face.run(), scene.face.settled(), scene.face.close()), 1)
    assert not hasattr(scene, "avatar")
    assert scene.told == []
    assert [outcome for outcome, _ in scene.ends] == ends
    assert all("maxSessions" in reason for _, reason in scene.ends)
    assert metrics.AVATARS.labels(AvatarOutcome.NO_SEAT)._value.get() == counted + 1


async def test_an_agent_without_an_avatar_needs_no_seat(config: WorkerConfig) -> None:
    ends: list[CallOutcome] = []
    face = Face(
        cast(Any, None),
        FakeRoom().as_room(),
        config,
        seat=False,
        end_call=lambda outcome, _: ends.append(outcome),
        say_again=print,
        tell=print,
    )
    await face.run()
    assert ends == []


async def test_the_greeting_waits_only_shortly(scene: Scene) -> None:
    running = asyncio.create_task(scene.face.run())
    await asyncio.wait_for(scene.face.settled(), 1)
    assert not scene.avatar.shown
    running.cancel()


@pytest.mark.parametrize(("policy", "ends"), [("VoiceOnly", 0), ("EndCall", 1)])
async def test_an_avatar_that_does_not_come_is_ended_and_the_policy_kept(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch, policy: str, ends: int
) -> None:
    scene = Scene(config, monkeypatch, policy)
    scene.avatar.error = AvatarError(AvatarOutcome.REFUSED, "no seat")
    scene.avatar.comes.set()
    await scene.face.run()
    await asyncio.wait_for(scene.face.settled(), 0.02)
    assert scene.avatar.closed == 1
    assert len(scene.ends) == ends
    assert all(outcome is CallOutcome.AVATAR_FAILED and "no seat" in reason for outcome, reason in scene.ends)
    assert scene.told == [(AvatarState.FAILED, "no seat"), (AvatarState.GONE, "")]


async def test_a_call_that_was_over_before_its_avatar_came_is_no_failure_of_the_avatar(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(config, monkeypatch, "EndCall")
    scene.room.connected = False
    scene.avatar.error = AvatarError(AvatarOutcome.NEVER_JOINED, "the room is gone")
    scene.avatar.comes.set()
    await scene.face.run()
    assert (scene.told, scene.ends) == ([], [])
    await scene.face.close()
    assert scene.told == [(AvatarState.GONE, "")]


async def test_an_unexpected_error_of_the_avatar_leaves_the_voice(scene: Scene) -> None:
    scene.avatar.error = cast(Any, KeyError("surprise"))
    scene.avatar.comes.set()
    await scene.face.run()
    assert scene.avatar.closed == 1
    assert scene.ends == []


@pytest.mark.parametrize(
    ("state", "shown", "repeats"),
    [("speaking", True, 1), ("listening", True, 0), ("speaking", False, 0)],
    ids=["what it swallowed is said again", "silence is not", "what the room heard is not"],
)
async def test_a_lost_avatar_gives_the_voice_back(scene: Scene, state: str, shown: bool, repeats: int) -> None:
    scene.avatar.shown = shown
    scene.session.agent_state = state
    for _ in range(2):  # it may stall and then leave: one loss
        scene.avatar.on_lost(AvatarOutcome.STALLED, "it stands still")
    await asyncio.sleep(0)
    assert scene.repeats == repeats
    assert scene.avatar.closed == 1
    assert scene.ends == []
    assert scene.told == [(AvatarState.GONE, "")], "it had come: nothing is wrong with starting one"


async def test_a_lost_avatar_ends_the_call_where_that_is_declared(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(config, monkeypatch, "EndCall")
    scene.avatar.shown = True
    scene.session.agent_state = "speaking"
    scene.avatar.on_lost(AvatarOutcome.LEFT, "it left")
    await asyncio.sleep(0)
    assert len(scene.ends) == 1
    assert scene.repeats == 0

"""The avatar of a call: the voice has priority, whatever happens to the avatar."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agentspec import OnAvatarFailure
from agentspec.wire import CallOutcome, DispatchMetadata
from tests.unit.worker.fakes import SIP, STANDARD, FakeParticipant, FakeRoom
from worker.avatar_reports import AvatarState
from worker.call import budget, metrics
from worker.call import call_avatar as module
from worker.call.call_avatar import CallAvatar, has_video
from worker.call.caller import Caller
from worker.call.metrics import AvatarOutcome
from worker.call.room_avatar import AvatarError

PROVIDER: Any = SimpleNamespace()
"""The avatar at its provider. Only `RoomAvatar` uses it."""


class FakeAvatar:
    """Joins or fails when the test says."""

    def __init__(self, on_lost: Callable[[AvatarOutcome, str], None]) -> None:
        self.on_lost = on_lost
        self.has_free_seat = True
        self.seat_error: Exception | None = None
        self.may_join = asyncio.Event()
        self.error: AvatarError | None = None
        self.attached = False
        self.closed = 0
        self.is_closed = True

    async def has_seat(self) -> bool:
        if self.seat_error is not None:
            raise self.seat_error
        return self.has_free_seat

    async def start(self) -> None:
        await self.may_join.wait()
        if self.error is not None:
            raise self.error

    async def attach(self) -> None:
        self.attached = True

    def detach(self) -> bool:
        was, self.attached = self.attached, False
        return was

    async def close(self) -> bool:
        self.closed += 1
        return self.is_closed


def answer(value: bool) -> Callable[..., Awaitable[bool]]:
    """A question with this answer."""

    async def ask(*_: object) -> bool:
        return value

    return ask


class Scene:
    """The avatar of a call, and what it requests and reports."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        policy: str,
        *,
        has_seat: bool = True,
        has_video: bool = True,
    ) -> None:
        monkeypatch.setattr(budget, "AVATAR_GREETING_SECONDS", 0.05)
        monkeypatch.setattr(module, "RoomAvatar", self._make)
        self.ends: list[tuple[CallOutcome, str]] = []
        self.reports: list[tuple[AvatarState, str]] = []
        self.repeats = 0
        self.room = FakeRoom()
        self.session = SimpleNamespace(agent_state="listening")
        self.call_avatar = CallAvatar(
            cast(Any, self.session),
            self.room.as_room(),
            PROVIDER,
            OnAvatarFailure(policy),
            has_seat=has_seat,
            has_video=answer(has_video),
            end_call=lambda outcome, reason: self.ends.append((outcome, reason)),
            repeat_speech=self._repeat,
            report=lambda state, error: self.reports.append((state, error)),
        )

    def _make(self, session: object, room: object, provider: object, *, on_lost: Callable[..., None]) -> FakeAvatar:
        assert provider is PROVIDER
        self.avatar = FakeAvatar(on_lost)
        return self.avatar

    def _repeat(self) -> None:
        self.repeats += 1


def counted() -> dict[str, float]:
    """The avatars that were requested, that joined, and that are over by outcome."""
    started, joins = metrics.AVATARS_STARTED._value.get(), metrics.AVATAR_JOIN_DURATION._sum.get()
    ended = {outcome.value: metrics.AVATARS_ENDED.labels(outcome)._value.get() for outcome in AvatarOutcome}
    return {"started": started, "joined": joins > 0, **ended}


def since(before: dict[str, float]) -> dict[str, float]:
    """What was counted since then, without zeros."""
    return {name: value - before[name] for name, value in counted().items() if value != before[name]}


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch, "VoiceOnly")


async def test_call_without_an_avatar_waits_for_nothing() -> None:
    avatar = CallAvatar(
        cast(Any, None),
        FakeRoom().as_room(),
        None,
        OnAvatarFailure.END_CALL,
        has_seat=True,
        has_video=answer(True),
        end_call=print,
        repeat_speech=print,
        report=print,
    )
    await asyncio.wait_for(asyncio.gather(avatar.run(), avatar.wait_until_decided(), avatar.close()), 1)


async def test_avatar_that_joins_is_attached(scene: Scene) -> None:
    scene.avatar.may_join.set()
    await scene.call_avatar.run()
    assert scene.avatar.attached
    await asyncio.wait_for(scene.call_avatar.wait_until_decided(), 0.02)
    assert scene.reports == [(AvatarState.JOINED, "")]
    await scene.call_avatar.close()
    assert scene.reports[1:] == [(AvatarState.RELEASED, "")], "its seat is free before the process ends"


@pytest.mark.parametrize(("policy", "ends"), [("VoiceOnly", []), ("EndCall", [CallOutcome.NO_AVATAR_SEAT])])
async def test_call_without_a_seat_requests_no_avatar(
    monkeypatch: pytest.MonkeyPatch, policy: str, ends: list[CallOutcome]
) -> None:
    scene = Scene(monkeypatch, policy, has_seat=False)
    before = counted()
    await asyncio.wait_for(
        asyncio.gather(scene.call_avatar.run(), scene.call_avatar.wait_until_decided(), scene.call_avatar.close()), 1
    )
    assert not hasattr(scene, "avatar")
    assert scene.reports == []
    assert [outcome for outcome, _ in scene.ends] == ends
    assert all("maxSessions" in reason for _, reason in scene.ends)
    assert since(before) == {}, "no avatar was requested; the gateway counts calls without a seat"


@pytest.mark.parametrize("policy", ["VoiceOnly", "EndCall"])
@pytest.mark.parametrize("has_seat", [True, False], ids=["seat", "no seat"])
async def test_caller_without_video_gets_no_avatar(
    monkeypatch: pytest.MonkeyPatch, policy: str, has_seat: bool
) -> None:
    scene = Scene(monkeypatch, policy, has_seat=has_seat, has_video=False)
    before = counted()
    await asyncio.wait_for(asyncio.gather(scene.call_avatar.run(), scene.call_avatar.wait_until_decided()), 1)
    await scene.call_avatar.close()
    assert since(before) == {}
    assert scene.ends == [], "a call by voice is what such a caller expects"
    assert scene.reports == ([(AvatarState.RELEASED, "")] if has_seat else []), "the main process counts it no longer"


@pytest.mark.parametrize(
    ("capabilities", "kind", "decided_by", "shown"),
    [
        (["video"], None, "dispatch", True),
        (["captions"], None, "dispatch", False),
        ([], STANDARD, "caller", True),
        ([], SIP, "caller", False),
    ],
    ids=["video", "no video", "browser", "telephone"],
)
async def test_video_is_known_from_the_dispatch_or_the_caller(
    capabilities: list[str], kind: int | None, decided_by: str, shown: bool
) -> None:
    room = FakeRoom()
    caller = Caller(room.as_room(), "", on_left=lambda: None)
    caller.watch()
    deciding = asyncio.create_task(has_video(DispatchMetadata(capabilities=capabilities), caller))
    await asyncio.sleep(0)
    assert deciding.done() is (decided_by == "dispatch")
    if kind is not None:
        room.join(FakeParticipant("caller", kind=kind, attributes={"sip.callStatus": "ringing"}))
    assert await asyncio.wait_for(deciding, 1) is shown


@pytest.mark.parametrize(("policy", "ends"), [("VoiceOnly", []), ("EndCall", [CallOutcome.NO_AVATAR_SEAT])])
async def test_limit_holds_for_calls_that_no_gateway_counts(
    monkeypatch: pytest.MonkeyPatch, policy: str, ends: list[CallOutcome]
) -> None:
    scene = Scene(monkeypatch, policy)
    scene.avatar.has_free_seat = False
    before = counted()
    await asyncio.wait_for(asyncio.gather(scene.call_avatar.run(), scene.call_avatar.wait_until_decided()), 1)
    assert scene.reports == [(AvatarState.RELEASED, "")]
    assert [outcome for outcome, _ in scene.ends] == ends
    assert since(before) == {}, "no avatar was requested"


@pytest.mark.parametrize(("policy", "ends"), [("VoiceOnly", []), ("EndCall", [CallOutcome.NO_AVATAR_SEAT])])
async def test_avatar_that_lost_its_seat_is_no_failed_avatar(
    monkeypatch: pytest.MonkeyPatch, policy: str, ends: list[CallOutcome]
) -> None:
    scene = Scene(monkeypatch, policy)
    scene.avatar.error = AvatarError(AvatarOutcome.REFUSED, "no seat", CallOutcome.NO_AVATAR_SEAT)
    scene.avatar.may_join.set()
    await scene.call_avatar.run()
    assert scene.reports == [(AvatarState.RELEASED, "")], "the condition AvatarAvailable counts seats itself"
    assert [outcome for outcome, _ in scene.ends] == ends


async def test_agent_without_an_avatar_needs_no_seat() -> None:
    ends: list[CallOutcome] = []
    avatar = CallAvatar(
        cast(Any, None),
        FakeRoom().as_room(),
        None,
        OnAvatarFailure.END_CALL,
        has_seat=False,
        has_video=answer(True),
        end_call=lambda outcome, _: ends.append(outcome),
        repeat_speech=print,
        report=print,
    )
    await avatar.run()
    assert ends == []


@pytest.mark.parametrize(
    ("error", "loss", "outcome"),
    [
        (None, None, AvatarOutcome.COMPLETED),
        (None, AvatarOutcome.STALLED, AvatarOutcome.STALLED),
        (None, AvatarOutcome.LEFT, AvatarOutcome.LEFT),
        (AvatarError(AvatarOutcome.REFUSED, "no"), None, AvatarOutcome.REFUSED),
        (AvatarError(AvatarOutcome.NEVER_JOINED, "no"), None, AvatarOutcome.NEVER_JOINED),
        (KeyError("surprise"), None, AvatarOutcome.REFUSED),
    ],
    ids=["until the end", "stalled", "left", "refused", "never joined", "unexpected error"],
)
async def test_each_requested_avatar_is_counted_once(
    scene: Scene, error: Exception | None, loss: AvatarOutcome | None, outcome: AvatarOutcome
) -> None:
    before = counted()
    scene.avatar.error = cast(Any, error)
    scene.avatar.may_join.set()
    await scene.call_avatar.run()
    for _ in range(2 if loss else 0):
        scene.avatar.on_lost(cast(AvatarOutcome, loss), "it is gone")
    await asyncio.sleep(0)
    await scene.call_avatar.close()
    assert {name: number for name, number in since(before).items() if name != "joined"} == {"started": 1, outcome: 1}


async def test_avatar_of_a_call_that_ends_first_is_cancelled(scene: Scene) -> None:
    before = counted()
    running = asyncio.create_task(scene.call_avatar.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await scene.call_avatar.close()
    await scene.call_avatar.close()
    assert since(before) == {"started": 1, AvatarOutcome.CANCELLED: 1}


async def test_conversation_that_may_be_open_is_reported(scene: Scene) -> None:
    scene.avatar.may_join.set()
    await scene.call_avatar.run()
    scene.avatar.is_closed = False
    await scene.call_avatar.close()
    assert scene.reports == [(AvatarState.JOINED, ""), (AvatarState.ABANDONED, "")]


async def test_greeting_waits_for_the_avatar_only_briefly(scene: Scene) -> None:
    running = asyncio.create_task(scene.call_avatar.run())
    await asyncio.wait_for(scene.call_avatar.wait_until_decided(), 1)
    assert not scene.avatar.attached
    running.cancel()


@pytest.mark.parametrize(("policy", "ends"), [("VoiceOnly", 0), ("EndCall", 1)])
async def test_failed_avatar_is_closed_and_the_policy_applies(
    monkeypatch: pytest.MonkeyPatch, policy: str, ends: int
) -> None:
    scene = Scene(monkeypatch, policy)
    scene.avatar.error = AvatarError(AvatarOutcome.REFUSED, "no seat")
    scene.avatar.may_join.set()
    await scene.call_avatar.run()
    await asyncio.wait_for(scene.call_avatar.wait_until_decided(), 0.02)
    assert scene.avatar.closed == 1
    assert len(scene.ends) == ends
    assert all(outcome is CallOutcome.AVATAR_FAILED and "no seat" in reason for outcome, reason in scene.ends)
    assert scene.reports == [(AvatarState.FAILED, "no seat"), (AvatarState.RELEASED, "")]


async def test_call_that_ends_first_is_no_avatar_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, "EndCall")
    scene.room.connected = False
    scene.avatar.error = AvatarError(AvatarOutcome.NEVER_JOINED, "the room was deleted")
    scene.avatar.may_join.set()
    await scene.call_avatar.run()
    assert (scene.reports, scene.ends) == ([], [])
    await scene.call_avatar.close()
    assert scene.reports == [(AvatarState.RELEASED, "")]


async def test_voice_survives_an_unexpected_avatar_error(scene: Scene) -> None:
    scene.avatar.error = cast(Any, KeyError("surprise"))
    scene.avatar.may_join.set()
    await scene.call_avatar.run()
    assert scene.avatar.closed == 1
    assert scene.ends == []


async def test_voice_survives_an_unexpected_error_of_the_seats(scene: Scene) -> None:
    scene.avatar.seat_error = KeyError("surprise")
    before = counted()
    await asyncio.wait_for(asyncio.gather(scene.call_avatar.run(), scene.call_avatar.wait_until_decided()), 1)
    assert scene.reports[0] == (AvatarState.FAILED, "internal error: KeyError")
    assert (scene.avatar.closed, scene.ends) == (1, [])
    assert since(before) == {}, "no avatar was requested"


@pytest.mark.parametrize(
    ("state", "attached", "repeats"),
    [("speaking", True, 1), ("listening", True, 0), ("speaking", False, 0)],
    ids=["unheard speech is repeated", "silence is not", "speech in the room is not"],
)
async def test_lost_avatar_leaves_the_voice(scene: Scene, state: str, attached: bool, repeats: int) -> None:
    scene.avatar.attached = attached
    scene.session.agent_state = state
    for _ in range(2):  # it may stall and then leave, which is one loss
        scene.avatar.on_lost(AvatarOutcome.STALLED, "it stalled")
    await asyncio.sleep(0)
    assert scene.repeats == repeats
    assert scene.avatar.closed == 1
    assert scene.ends == []
    assert scene.reports == [(AvatarState.RELEASED, "")], "it had joined, so no start failed"


async def test_lost_avatar_ends_the_call_with_end_call_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, "EndCall")
    scene.avatar.attached = True
    scene.session.agent_state = "speaking"
    scene.avatar.on_lost(AvatarOutcome.LEFT, "it left")
    await asyncio.sleep(0)
    assert len(scene.ends) == 1
    assert scene.repeats == 0

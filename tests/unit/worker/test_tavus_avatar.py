"""A Tavus avatar joins, fails or leaves: in bounded time, and the room always gets its audio back."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import APIConnectionError, APIStatusError
from livekit.agents.voice.io import AgentOutput
from livekit.plugins import tavus

from agentspec import TavusSpec
from agentspec.wire import CallOutcome
from tests.unit.worker.builders import TAVUS
from tests.unit.worker.fakes import AGENT, FakeParticipant, FakeRoom, FakeSink, FakeWrapper
from tests.waiting import soon
from worker import sdk
from worker.avatar_sessions import AvatarName
from worker.call import budget
from worker.call.avatars import tavus as module
from worker.call.avatars.tavus import TavusAvatar, refusal
from worker.call.metrics import AvatarOutcome
from worker.call.room_avatar import AvatarError, RoomAvatar

IDENTITY = "tavus-avatar-agent"
SPEC = TavusSpec.model_validate(TAVUS["tavus"])


class FakeTavus:
    """The plugin's session; it accepts and joins when the test says."""

    avatar_identity = IDENTITY

    def __init__(self) -> None:
        self.conversation_id: str | None = None
        self.accept = asyncio.Event()
        self.join = asyncio.Event()
        self.error: Exception | None = None
        self.closed = 0

    async def start(self, session: Any, room: object, livekit_url: str) -> None:  # noqa: ANN401
        await self.accept.wait()
        if self.error is not None:
            raise self.error
        self.conversation_id = "c1"
        session.output.replace_audio_tail(FakeSink())

    async def wait_for_join(self, timeout: float) -> None:  # noqa: ASYNC109 - the plugin's signature
        await asyncio.wait_for(self.join.wait(), timeout)

    async def aclose(self) -> None:
        self.closed += 1


class Scene:
    """An avatar, its call's session and room, and Tavus' API."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tavus = FakeTavus()
        self.ended: list[str] = []
        self.end_error = ""
        self.request = SimpleNamespace(may_be_open=False)
        self.keeps_seat = True
        self.lost: list[AvatarOutcome] = []
        self.room = FakeRoom()
        self.room_output = FakeSink()
        output = AgentOutput(lambda: None, lambda: None, lambda: None)
        output.audio = FakeWrapper(self.room_output)
        self.session = SimpleNamespace(output=output, current_speech=None)
        monkeypatch.setattr(tavus, "AvatarSession", lambda **_: self.tavus)
        monkeypatch.setattr(budget, "AVATAR_START_SECONDS", 0.05)
        monkeypatch.setattr(budget, "AVATAR_JOIN_SECONDS", 0.05)
        monkeypatch.setattr(budget, "AVATAR_CLOSE_SECONDS", 0.2)
        monkeypatch.setattr(module, "ConversationRequest", lambda *_, **__: self.request)
        monkeypatch.setattr(module, "ListedSeat", lambda *_: SimpleNamespace(is_kept=self._is_kept))
        provider = TavusAvatar(
            SPEC,
            cast(Any, SimpleNamespace(end=self._end)),
            AvatarName("uid-1.0a1b2c3d", "AJ_1", "ornina-c1"),
            limit=None,
            max_call_seconds=60,
            livekit_url="ws://livekit.test",
        )
        self.avatar = RoomAvatar(
            cast(Any, self.session),
            self.room.as_room(),
            provider,
            on_lost=lambda outcome, _: self.lost.append(outcome),
        )

    async def _is_kept(self, conversation_id: str) -> bool:
        assert conversation_id == "c1"
        return self.keeps_seat

    async def _end(self, conversation_id: str, *, attempts: int, seconds: float) -> str:
        assert attempts > 1 and seconds == budget.AVATAR_CLOSE_SECONDS
        self.ended.append(conversation_id)
        return self.end_error

    @property
    def output(self) -> object:
        """The output that the agent's audio ends in."""
        return sdk.last_output(cast(Any, self.session.output.audio))

    async def join(self) -> None:
        self.tavus.accept.set()
        self.tavus.join.set()
        await self.avatar.start()
        await self.avatar.attach()


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


async def test_audio_goes_to_the_avatar_only_after_it_joined(scene: Scene) -> None:
    scene.tavus.accept.set()
    starting = asyncio.create_task(scene.avatar.start())
    await soon(lambda: scene.tavus.conversation_id)
    await asyncio.sleep(0)
    assert scene.output is scene.room_output
    scene.tavus.join.set()
    await starting
    assert scene.output is scene.room_output
    await scene.avatar.attach()
    assert scene.output is not scene.room_output


async def test_late_answer_of_the_provider_ends_its_conversation(scene: Scene) -> None:
    with pytest.raises(AvatarError, match="did not answer") as caught:
        await scene.avatar.start()
    assert caught.value.outcome is AvatarOutcome.REFUSED
    closing = asyncio.create_task(scene.avatar.close())
    await asyncio.sleep(0)
    scene.tavus.accept.set()
    assert await closing is True
    assert scene.ended == ["c1"]
    assert scene.output is scene.room_output


async def test_refused_conversation_leaves_nothing_to_end(scene: Scene) -> None:
    scene.tavus.error = APIStatusError("no", status_code=401, body=None)
    scene.tavus.accept.set()
    with pytest.raises(AvatarError, match="apiKey"):
        await scene.avatar.start()
    assert await scene.avatar.close() is True
    assert scene.ended == []


@pytest.mark.parametrize("answered", [True, False], ids=["answer lost", "no answer before the end"])
async def test_conversation_that_may_be_open_is_not_called_closed(scene: Scene, answered: bool) -> None:
    scene.request.may_be_open = True
    scene.tavus.error = APIConnectionError("the answer of Tavus was lost")
    if answered:
        scene.tavus.accept.set()
    with pytest.raises(AvatarError):
        await scene.avatar.start()
    assert await scene.avatar.close() is False
    assert scene.ended == []


async def test_avatar_that_never_joins_is_ended(scene: Scene) -> None:
    scene.tavus.accept.set()
    with pytest.raises(AvatarError) as caught:
        await scene.avatar.start()
    assert caught.value.outcome is AvatarOutcome.NEVER_JOINED
    await scene.avatar.close()
    assert len(scene.ended) == 1
    assert scene.output is scene.room_output


async def test_conversation_without_a_seat_is_ended(scene: Scene) -> None:
    scene.keeps_seat = False
    scene.tavus.accept.set()
    with pytest.raises(AvatarError, match="maxSessions") as caught:
        await scene.avatar.start()
    assert caught.value.call_outcome is CallOutcome.NO_AVATAR_SEAT
    assert await scene.avatar.close() is True
    assert scene.ended == ["c1"]


async def test_session_that_closes_before_the_avatar_attaches_is_no_error(scene: Scene) -> None:
    scene.session.output.audio = None
    await scene.join()
    assert scene.session.output.audio is None
    assert scene.avatar.detach() is False


async def test_detaching_routes_audio_to_the_room_once(scene: Scene) -> None:
    await scene.join()
    assert scene.avatar.detach() is True
    assert scene.output is scene.room_output
    assert scene.avatar.detach() is False


async def test_only_the_avatars_departure_counts(scene: Scene) -> None:
    await scene.join()
    for identity in ("salma", IDENTITY):
        scene.room.join(FakeParticipant(identity, kind=AGENT))
        scene.room.leave(identity)
    assert scene.lost == []
    await asyncio.sleep(2 * budget.AVATAR_LEFT_SECONDS)
    assert scene.lost == [AvatarOutcome.LEFT]


@pytest.mark.parametrize("how", ["room closed", "call ended"])
async def test_avatar_that_leaves_with_the_call_is_not_lost(scene: Scene, how: str) -> None:
    await scene.join()
    scene.room.join(FakeParticipant(IDENTITY, kind=AGENT))
    scene.room.leave(IDENTITY)
    if how == "room closed":
        scene.room.connected = False
    else:
        await scene.avatar.close()
    await asyncio.sleep(2 * budget.AVATAR_LEFT_SECONDS)
    assert scene.lost == []


async def test_departure_after_close_is_ignored(scene: Scene) -> None:
    await scene.join()
    await scene.avatar.close()
    scene.room.join(FakeParticipant(IDENTITY, kind=AGENT))
    scene.room.leave(IDENTITY)
    assert scene.lost == []


@pytest.mark.parametrize("how", ["detached", "closed", "attached"])
async def test_avatar_is_watched_while_the_audio_goes_to_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(budget, "AVATAR_PULSE_SECONDS", 0.01)
    monkeypatch.setattr(budget, "AVATAR_PULSE_ANSWER_SECONDS", 0.01)
    await scene.join()
    await soon(lambda: scene.room.pulses > 2)
    if how == "detached":
        scene.avatar.detach()
    elif how == "closed":
        await scene.avatar.close()
    scene.room.answers_pulses = False
    if how == "attached":
        await soon(lambda: scene.lost)
        assert scene.lost == [AvatarOutcome.STALLED]
    else:
        await asyncio.sleep(0.1)
        assert scene.lost == []


async def test_closing_twice_ends_the_conversation_once(scene: Scene) -> None:
    await scene.join()
    await asyncio.gather(scene.avatar.close(), scene.avatar.close())
    assert len(scene.ended) == 1
    assert scene.tavus.closed == 1


async def test_conversation_that_did_not_end_is_not_called_closed(scene: Scene) -> None:
    await scene.join()
    scene.end_error = "HTTP 500"
    assert await scene.avatar.close() is False
    assert await scene.avatar.close() is False, "and stays so"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (APIStatusError("", status_code=400, body="User has reached maximum concurrent conversations"), "no free seat"),
        (APIStatusError("", status_code=400, body="bad"), "faceID and palID"),
        (APIStatusError("", status_code=401, body=None), "apiKey"),
        (APIStatusError("", status_code=429, body=None), "too many requests"),
        (APIStatusError("", status_code=503, body="secret"), "status page"),
        (APIConnectionError("x"), "is unreachable"),
    ],
)
def test_refusal_says_what_to_check_and_quotes_no_answer(error: Exception, words: str) -> None:
    assert words in refusal(error)
    assert "secret" not in refusal(error)

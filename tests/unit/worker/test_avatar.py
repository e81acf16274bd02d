"""The avatar comes, does not come, leaves: bounded, and the room's output is always given back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import APIConnectionError, APIStatusError, utils
from livekit.agents.voice.io import AgentOutput
from livekit.plugins import tavus

from agentspec import TavusSpec
from tests.unit.worker.fakes import AGENT, FakeParticipant, FakeRoom, FakeSink, FakeWrapper
from worker import sdk
from worker.call import tavus_avatar as module
from worker.call.metrics import AvatarOutcome
from worker.call.tavus_avatar import Avatar, AvatarError, _refusal

IDENTITY = "tavus-avatar-agent"
SPEC = TavusSpec.model_validate(
    {"faceID": "f", "palID": "p", "baseURL": "http://tavus.test/v2", "credentialsSecretRef": {"name": "tavus"}}
)


class FakeTavus:
    """The plugin's session: accepts and joins when the test says."""

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
        self.answers = [200]
        self.lost: list[AvatarOutcome] = []
        self.room = FakeRoom()
        self.room_output = FakeSink()
        output = AgentOutput(lambda: None, lambda: None, lambda: None)
        output.audio = FakeWrapper(self.room_output)
        self.session = SimpleNamespace(output=output, current_speech=None)
        monkeypatch.setattr(tavus, "AvatarSession", lambda **_: self.tavus)
        monkeypatch.setattr(utils.http_context, "http_session", lambda: self)
        monkeypatch.setattr(module, "START_SECONDS", 0.05)
        monkeypatch.setattr(module, "JOIN_SECONDS", 0.05)
        monkeypatch.setattr(module, "_CLOSE_SECONDS", 0.2)
        self.avatar = Avatar(
            cast(Any, self.session),
            self.room.as_room(),
            SPEC,
            key="tavus-key",
            livekit_url="ws://livekit.test",
            on_lost=lambda outcome, _: self.lost.append(outcome),
        )

    @asynccontextmanager
    async def post(self, url: str, *, headers: dict[str, str], **_: object) -> AsyncIterator[SimpleNamespace]:
        assert headers == {"x-api-key": "tavus-key"}
        self.ended.append(url)
        status = self.answers.pop(0)
        yield SimpleNamespace(ok=status < 400, status=status)

    @property
    def output(self) -> object:
        """Where the agent's audio goes in the end."""
        return sdk.last_output(cast(Any, self.session.output.audio))

    async def come(self) -> None:
        self.tavus.accept.set()
        self.tavus.join.set()
        await self.avatar.bring()
        await self.avatar.show()


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


async def test_audio_goes_through_the_avatar_only_once_it_has_joined(scene: Scene) -> None:
    scene.tavus.accept.set()
    bringing = asyncio.create_task(scene.avatar.bring())
    await asyncio.sleep(0.01)
    assert scene.output is scene.room_output
    scene.tavus.join.set()
    await bringing
    assert scene.output is scene.room_output
    await scene.avatar.show()
    assert scene.output is not scene.room_output


async def test_a_silent_provider_is_given_up_and_ended_when_it_answers_after_all(scene: Scene) -> None:
    with pytest.raises(AvatarError, match="did not answer") as caught:
        await scene.avatar.bring()
    assert caught.value.outcome is AvatarOutcome.REFUSED
    closing = asyncio.create_task(scene.avatar.close())
    await asyncio.sleep(0.01)
    scene.tavus.accept.set()
    await closing
    assert scene.ended == ["http://tavus.test/v2/conversations/c1/end"]
    assert scene.output is scene.room_output


async def test_a_refused_conversation_leaves_nothing_to_end(scene: Scene) -> None:
    scene.tavus.error = APIStatusError("no", status_code=401, body=None)
    scene.tavus.accept.set()
    with pytest.raises(AvatarError, match="apiKey"):
        await scene.avatar.bring()
    await scene.avatar.close()
    assert scene.ended == []


async def test_an_avatar_that_never_joins_is_ended(scene: Scene) -> None:
    scene.tavus.accept.set()
    with pytest.raises(AvatarError) as caught:
        await scene.avatar.bring()
    assert caught.value.outcome is AvatarOutcome.NEVER_JOINED
    await scene.avatar.close()
    assert len(scene.ended) == 1
    assert scene.output is scene.room_output


async def test_hiding_gives_the_room_its_output_back_once(scene: Scene) -> None:
    await scene.come()
    assert scene.avatar.hide() is True
    assert scene.output is scene.room_output
    assert scene.avatar.hide() is False


async def test_leaving_is_noticed_and_only_the_avatars(scene: Scene) -> None:
    await scene.come()
    for identity in ("salma", IDENTITY):
        scene.room.come(FakeParticipant(identity, kind=AGENT))
        scene.room.leave(identity)
    assert scene.lost == [AvatarOutcome.LEFT]


async def test_after_closing_its_leaving_is_no_news(scene: Scene) -> None:
    await scene.come()
    await scene.avatar.close()
    scene.room.come(FakeParticipant(IDENTITY, kind=AGENT))
    scene.room.leave(IDENTITY)
    assert scene.lost == []


async def test_closing_twice_ends_the_conversation_once(scene: Scene) -> None:
    await scene.come()
    await asyncio.gather(scene.avatar.close(), scene.avatar.close())
    assert len(scene.ended) == 1
    assert scene.tavus.closed == 1


@pytest.mark.parametrize(("answers", "attempts"), [([500, 200], 2), ([500, 500], 2), ([200], 1)])
async def test_ending_is_tried_again_but_not_for_ever(scene: Scene, answers: list[int], attempts: int) -> None:
    await scene.come()
    scene.answers = answers
    await scene.avatar.close()
    assert len(scene.ended) == attempts


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (APIStatusError("", status_code=400, body="User has reached maximum concurrent conversations"), "no free seat"),
        (APIStatusError("", status_code=400, body="bad"), "faceID and palID"),
        (APIStatusError("", status_code=401, body=None), "apiKey"),
        (APIStatusError("", status_code=429, body=None), "too many requests"),
        (APIStatusError("", status_code=503, body="secret"), "status page"),
        (APIConnectionError("x"), "cannot be reached"),
    ],
)
def test_refusals_say_what_to_do_without_quoting_the_answer(error: Exception, words: str) -> None:
    assert words in _refusal(error)
    assert "secret" not in _refusal(error)

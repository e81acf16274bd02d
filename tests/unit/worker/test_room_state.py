"""The state of a call in LiveKit: turns are stored soon and seldom, and a lost room record comes back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import api
from livekit.agents import JobContext

from agentspec.wire import TURNS_ATTRIBUTE, CallOutcome, RoomRecord, Speaker, Turn, read_turns, render, render_turns
from tests.unit.worker.fakes import FakeParticipant, FakeRoom
from tests.waiting import soon
from worker.call import budget
from worker.call.caller import Caller
from worker.call.room_state import RoomState

RECORD = render(
    RoomRecord(call_id="c1", agent="a/x", identity="salma", created_at=1.0, request_hash="h", agent_name="x")
)
NEWER_RECORD = json.dumps(json.loads(RECORD) | {"newer": {"field": ["مرحباً"]}}, ensure_ascii=False)
QUESTION = Turn(speaker=Speaker.CALLER, text="أين مكتبكم؟")
ANSWER = Turn(speaker=Speaker.AGENT, text="في دمشق.")


class Scene:
    """A call with its caller in a room, and LiveKit's API of that room."""

    def __init__(self, *, metadata: str = RECORD, stores_turns: bool = True, attribute: str = "") -> None:
        self.room = cast(Any, FakeRoom())
        self.room.name, self.room.metadata = "ornina-c1", metadata
        self.metadata = metadata
        """The room's metadata at the server."""
        self.requests: list[str] = []
        self.stored: list[list[Turn]] = []
        self.failures = 0
        """How many of the next requests fail."""
        self.hangs = False
        caller = Caller(self.room, "salma", on_left=lambda: None)
        caller.watch()
        self.join(attribute)
        context = SimpleNamespace(
            room=self.room,
            job=SimpleNamespace(metadata="{}"),
            api=SimpleNamespace(
                room=SimpleNamespace(
                    update_participant=self._update_participant,
                    update_room_metadata=self._update_metadata,
                    list_rooms=self._list,
                )
            ),
        )
        self.state = RoomState(cast(JobContext, context), caller, stores_turns=stores_turns)

    def join(self, attribute: str = "") -> None:
        self.room.join(FakeParticipant("salma", attributes={TURNS_ATTRIBUTE: attribute} if attribute else {}))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.state.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _request(self, name: str) -> None:
        self.requests.append(name)
        if self.hangs:
            await asyncio.Event().wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("unreachable")

    async def _update_participant(self, request: api.UpdateParticipantRequest) -> None:
        await self._request("update_participant")
        assert (request.room, request.identity) == ("ornina-c1", "salma")
        self.stored.append(read_turns(request.attributes[TURNS_ATTRIBUTE]))

    async def _update_metadata(self, request: api.UpdateRoomMetadataRequest) -> None:
        await self._request("update_room_metadata")
        self.metadata = request.metadata

    async def _list(self, request: api.ListRoomsRequest) -> object:
        await self._request("list_rooms")
        assert list(request.names) == ["ornina-c1"]
        return SimpleNamespace(rooms=[SimpleNamespace(metadata=self.metadata)])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "STORE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(budget, "STORE_RETRY_SECONDS", 0.01)


async def test_turns_of_a_lost_agent_are_loaded() -> None:
    assert Scene(attribute=render_turns([QUESTION, ANSWER])).state.load() == [QUESTION, ANSWER]


@pytest.mark.parametrize(
    "scene",
    [{}, {"attribute": "junk"}, {"metadata": ""}, {"metadata": '{"user": 1}'}, {"stores_turns": False}],
    ids=["first agent", "junk", "no metadata", "no record", "switched off"],
)
async def test_other_calls_have_nothing_to_resume(scene: dict[str, Any]) -> None:
    assert Scene(**({"attribute": render_turns([QUESTION])} | scene if scene else {})).state.load() == []


async def test_turns_are_stored_with_those_of_the_lost_agent() -> None:
    scene = Scene(attribute=render_turns([QUESTION]))
    scene.state.load()
    async with scene.running():
        scene.state.add(Speaker.AGENT, ANSWER.text)
        await soon(lambda: scene.stored)
    assert scene.stored == [[QUESTION, ANSWER]]


async def test_turns_that_come_together_are_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "STORE_PAUSE_SECONDS", 0.05)
    scene = Scene()
    async with scene.running():
        for number in range(20):
            scene.state.add(Speaker.AGENT, f"{number}")
        await soon(lambda: scene.stored)
        for number in range(20, 40):
            scene.state.add(Speaker.AGENT, f"{number}")
        await soon(lambda: len(scene.stored) == 2)
    assert scene.stored[-1][-1].text == "39"
    assert len(scene.requests) == 2


@pytest.mark.parametrize(
    "scene", [{"metadata": ""}, {"metadata": "{}"}, {"stores_turns": False}], ids=["none", "other", "switched off"]
)
async def test_nothing_is_stored_without_record_or_permission(scene: dict[str, Any]) -> None:
    without = Scene(**scene)
    async with without.running():
        without.state.add(Speaker.AGENT, "hello")
        without.join()
        for _ in range(5):
            await asyncio.sleep(0)
    assert without.requests == []


async def test_text_without_words_is_no_turn() -> None:
    scene = Scene()
    async with scene.running():
        scene.state.add(Speaker.AGENT, "")
        for _ in range(5):
            await asyncio.sleep(0)
    assert scene.requests == []


async def test_token_with_other_long_texts_has_fewer_turns() -> None:
    scene = Scene()
    scene.room.leave("salma")
    scene.room.join(FakeParticipant("salma", metadata="م" * 1000, attributes={"order": "x" * 995}))
    async with scene.running():
        for number in range(9):
            scene.state.add(Speaker.AGENT, f"{number}" * 1000)
        await soon(lambda: scene.stored)
        assert [turn.text[0] for turn in scene.stored[0]] == ["8"], "1 KiB of 4 is left"
        scene.room.leave("salma")
        scene.join()
        await soon(lambda: len(scene.stored) == 2)
    assert [turn.text[0] for turn in scene.stored[1]] == ["6", "7", "8"]


async def test_failures_are_logged_once_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.failures = 3
    async with scene.running():
        scene.state.add(Speaker.AGENT, "hello")
        await soon(lambda: scene.stored)
    assert len(scene.requests) == 4
    assert [record.message for record in caplog.records] == ["could not store the state of the call in LiveKit"]
    assert caplog.records[0].__dict__["error"] == "ConnectionError"
    assert "hello" not in caplog.text


async def test_request_without_an_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(budget, "STORE_SECONDS", 0.01)
    scene = Scene()
    scene.hangs = True
    async with scene.running():
        scene.state.add(Speaker.AGENT, "hello")
        await soon(lambda: caplog.records)
        scene.hangs = False
        await soon(lambda: scene.stored)
    assert caplog.records[0].__dict__["error"] == "TimeoutError"


async def test_caller_who_joins_again_gets_the_turns_again() -> None:
    scene = Scene()
    async with scene.running():
        scene.state.add(Speaker.AGENT, "hello")
        await soon(lambda: scene.stored)
        scene.room.leave("salma")
        scene.room.join(FakeParticipant("tavus-avatar-agent"))
        scene.join()
        await soon(lambda: len(scene.stored) == 2)
    assert scene.stored[0] == scene.stored[1]


@pytest.mark.parametrize("stores_turns", [True, False], ids=["stores turns", "stores none"])
async def test_record_that_livekit_lost_is_restored_whole(stores_turns: bool) -> None:
    scene = Scene(metadata=NEWER_RECORD, stores_turns=stores_turns)
    async with scene.running():
        scene.metadata = scene.room.metadata = ""
        scene.room.emit("reconnected")
        await soon(lambda: scene.metadata)
    assert scene.metadata == NEWER_RECORD


async def test_record_is_never_overwritten() -> None:
    scene = Scene()
    ended = json.dumps(json.loads(RECORD) | {"outcome": CallOutcome.MAX_LENGTH})
    async with scene.running():
        scene.metadata = ended
        scene.room.emit("reconnected")
        await soon(lambda: scene.requests)
        scene.state.add(Speaker.AGENT, "hello")
        await soon(lambda: scene.stored)
    assert scene.requests == ["list_rooms", "update_participant"]
    assert scene.metadata == ended


async def test_newest_record_is_the_one_that_is_known() -> None:
    scene = Scene()
    assert scene.state.record == RECORD
    scene.room.metadata = NEWER_RECORD
    assert scene.state.record == NEWER_RECORD
    scene.room.metadata = ""
    assert scene.state.record == NEWER_RECORD
    assert Scene(metadata="other").state.record == "other"

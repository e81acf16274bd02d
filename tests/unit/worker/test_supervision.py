"""Whether an agent may be in a room, by LiveKit's answer; and what the main process starts."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from livekit import api

from tests.unit.worker.builders import TAVUS, make_config, make_settings
from worker.avatar_reports import Avatars
from worker.server import supervision


@pytest.mark.parametrize(
    ("answer", "may_be"),
    [
        (None, True),
        (api.TwirpError(api.TwirpErrorCode.NOT_FOUND, "no such participant", status=404), False),
        (api.TwirpError(api.TwirpErrorCode.UNAVAILABLE, "restarting", status=503), True),
        (aiohttp.ClientConnectionError("refused"), True),
        (TimeoutError(), True),
    ],
    ids=["present", "absent", "server error", "unreachable", "timed out"],
)
async def test_only_a_clear_answer_says_that_the_agent_is_absent(answer: Exception | None, may_be: bool) -> None:
    asked: list[tuple[str, str]] = []

    async def get_participant(request: api.RoomParticipantIdentity) -> None:
        asked.append((request.room, request.identity))
        if answer is not None:
            raise answer

    livekit = SimpleNamespace(room=SimpleNamespace(get_participant=get_participant))
    assert await supervision.may_be_in_room(cast(Any, livekit), "ornina-c1", "AJ_1") is may_be
    assert asked == [("ornina-c1", "agent-AJ_1")]


async def test_livekit_that_hangs_gives_no_clear_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_REQUEST_SECONDS", 0.01)

    async def get_participant(_: api.RoomParticipantIdentity) -> None:
        await asyncio.Event().wait()

    livekit = SimpleNamespace(room=SimpleNamespace(get_participant=get_participant))
    assert await asyncio.wait_for(supervision.may_be_in_room(cast(Any, livekit), "ornina-c1", "AJ_1"), 10)


@pytest.mark.parametrize(("avatar", "closes"), [(TAVUS, True), ({"provider": "None"}, False)], ids=["avatar", "none"])
async def test_open_avatars_are_supervised_only_with_an_avatar(avatar: dict[str, object], closes: bool) -> None:
    settings = make_settings(make_config(avatar=avatar))
    async with supervision.open_avatars(settings, Avatars(), lambda: ()) as closer:
        assert (closer is not None) is closes

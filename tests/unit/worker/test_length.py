"""The end of the longest call: announced, and with a goodbye."""

import asyncio
from typing import Any

import pytest

from agentspec.wire import CallOutcome
from tests.unit.worker.builders import make_config
from worker.call import length as module
from worker.call import sentences
from worker.call.length import CallLength

WORDS = sentences.for_language("ar")


class Scene:
    """A call, and what happens in it, in order. Its clock moves when something sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, minutes: int, announce_end: bool = True) -> None:
        self.seconds = 0.0
        self.events: list[tuple[float, object]] = []
        monkeypatch.setattr(module, "_now", lambda: self.seconds)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)
        config = make_config(maxCallMinutes=minutes, conversation={"announceEnd": announce_end})
        here: Any = self
        self.length = CallLength(here, config, WORDS, here, lambda outcome, _: self._note(outcome))

    def _note(self, event: object) -> None:
        self.events.append((self.seconds, event))

    async def _sleep(self, seconds: float) -> None:
        self.seconds += max(0.0, seconds)

    async def say(self, text: str, *, allow_interruptions: bool) -> None:
        assert not allow_interruptions
        self._note(text)
        self.seconds += 3

    def interrupt(self, *, force: bool) -> "asyncio.Future[None]":
        assert force
        self._note("interrupted")
        return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("minutes", "announce_end", "events"),
    [
        (
            5,
            True,
            [
                (240, WORDS.one_minute_left),
                (300, "interrupted"),
                (300, WORDS.goodbye),
                (303, CallOutcome.MAX_LENGTH),
            ],
        ),
        (1, True, [(60, "interrupted"), (60, WORDS.goodbye), (63, CallOutcome.MAX_LENGTH)]),
        (5, False, [(300, CallOutcome.MAX_LENGTH)]),
    ],
    ids=["announced a minute before", "one minute in all", "not announced"],
)
async def test_longest_call_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, minutes: int, announce_end: bool, events: list[tuple[float, object]]
) -> None:
    scene = Scene(monkeypatch, minutes=minutes, announce_end=announce_end)
    await scene.length.enforce()
    assert scene.events == events

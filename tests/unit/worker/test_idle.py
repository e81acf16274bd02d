"""A silent caller is asked once, then the call ends."""

import asyncio
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents.voice import AgentStateChangedEvent, UserStateChangedEvent

from agentspec import ConversationSpec
from agentspec.wire import CallOutcome
from tests.waiting import soon
from worker.call import budget, sentences
from worker.call.idle import IdleCaller, Silence

WORDS = sentences.for_language("en")


def quiet() -> Silence:
    """A silence that began at 100 s."""
    return Silence(ask_after=60, hang_up_after=30, since=100)


def test_question_follows_the_silence_and_the_end_follows_the_question() -> None:
    silence = quiet()
    assert silence.ends_at() == 160
    silence.on_asked(160)
    silence.on_agent(True, 160.1)
    assert silence.ends_at() is None, "the agent asks"
    silence.on_agent(False, 162)
    assert silence.ends_at() == 192


def test_question_without_sound_counts_too() -> None:
    silence = quiet()
    silence.on_asked(160)
    assert silence.ends_at() == 190


def test_caller_who_speaks_is_asked_again_only_after_a_new_silence() -> None:
    silence = quiet()
    silence.on_asked(160)
    silence.on_caller(True, 165)
    assert silence.ends_at() is None
    silence.on_caller(False, 166)
    assert silence.ends_at() == 166 + budget.IDLE_ANSWER_SECONDS + 60


def test_pending_answer_is_no_silence() -> None:
    silence = quiet()
    silence.on_caller(True, 110)
    silence.on_caller(False, 112)
    silence.on_agent(True, 115)
    assert silence.ends_at() is None, "the agent thinks"
    silence.on_agent(False, 130)
    assert silence.ends_at() == 190, "it has answered"


def test_agent_that_speaks_of_its_own_accord_does_not_ask_twice() -> None:
    silence = quiet()
    silence.on_asked(160)
    silence.on_agent(True, 170)
    silence.on_agent(False, 172)
    assert silence.asked and silence.ends_at() == 202


@pytest.mark.parametrize("state", ["away", "listening"])
def test_caller_who_was_silent_before_changes_nothing(state: str) -> None:
    silence = quiet()
    silence.on_caller(state == "speaking", 115)
    assert silence.ends_at() == 160


class FakeSession(rtc.EventEmitter[Any]):
    """A session whose states change as the test says."""

    user_state = "listening"
    agent_state = "listening"

    def caller(self, state: str) -> None:
        self.emit("user_state_changed", UserStateChangedEvent(old_state="listening", new_state=cast(Any, state)))

    def agent(self, state: str) -> None:
        self.emit("agent_state_changed", AgentStateChangedEvent(old_state="listening", new_state=cast(Any, state)))


class Scene:
    """A call whose caller is idle after 20 ms, and lost 20 ms after the question."""

    def __init__(self, prompt_seconds: int = 1) -> None:
        self.session = FakeSession()
        self.said: list[str] = []
        self.ends: list[CallOutcome] = []
        self.speaks_during = ""
        """The caller speaks while the agent says this sentence."""
        spec = ConversationSpec(idle_prompt_seconds=prompt_seconds)
        speech: Any = self
        session: Any = self.session
        self.idle = IdleCaller(session, spec, WORDS, speech, lambda outcome, _: self.ends.append(outcome))
        self.idle._silence = Silence(ask_after=0.02, hang_up_after=0.02, since=0)

    async def say(self, text: str, *, allow_interruptions: bool) -> None:
        assert allow_interruptions, "the caller may answer at any time"
        self.said.append(text)
        if text == self.speaks_during:
            self.session.caller("speaking")


async def test_silent_caller_is_asked_once_and_then_hears_goodbye() -> None:
    scene = Scene()
    await asyncio.wait_for(scene.idle.run(), 10)
    assert scene.said == [WORDS.still_there, WORDS.goodbye]
    assert scene.ends == [CallOutcome.CALLER_IDLE]


async def test_nothing_is_asked_when_idle_prompt_seconds_is_0() -> None:
    scene = Scene(prompt_seconds=0)
    await asyncio.wait_for(scene.idle.run(), 1)
    assert (scene.said, scene.ends) == ([], [])


@pytest.mark.parametrize("sentence", [WORDS.still_there, WORDS.goodbye], ids=["question", "goodbye"])
async def test_caller_who_speaks_meanwhile_keeps_the_call(sentence: str) -> None:
    scene = Scene()
    scene.speaks_during = sentence
    running = asyncio.create_task(scene.idle.run())
    await soon(lambda: scene.said and scene.said[-1] == sentence)
    said = list(scene.said)
    await asyncio.sleep(0.1)
    assert (scene.said, scene.ends) == (said, [])
    running.cancel()


@pytest.mark.parametrize("state", ["speaking", "thinking"])
async def test_busy_agent_is_not_silent(state: str) -> None:
    scene = Scene()
    scene.session.agent_state = state
    running = asyncio.create_task(scene.idle.run())
    await asyncio.sleep(0.1)
    assert scene.said == []
    scene.session.agent("listening")
    await asyncio.wait_for(running, 10)
    assert scene.ends == [CallOutcome.CALLER_IDLE]

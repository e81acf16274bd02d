"""Turn-taking of the product's own session: with the real models, in real time, and providers that answer at once."""

import asyncio

import numpy as np
import pytest

from agentspec.wire import WorkerConfig
from tests.unit.worker.conversation import SAMPLE_RATE, Conversation, Samples, conversation, speech, tone
from worker.call import phrases, turn_taking
from worker.call.pausable_output import PausableOutput

VAD_WINDOW = 0.032
"""Seconds of audio that the speech detector judges at once."""
VAD_SILENCE = 0.25
"""Seconds of silence after which speech has ended: the SDK's default."""
NODE_SECONDS = 0.27
"""From the end of a turn to the answer in the caller's ear, with a real server and providers that answer at once."""


def noise(seconds: float) -> Samples:
    """Return the noise of a room."""
    return np.random.default_rng(1).normal(0, 900, int(seconds * SAMPLE_RATE)).astype(np.int16)


@pytest.mark.parametrize("language", ["ar", "sw"])
def test_delays_and_timeouts_keep_the_promises(language: str) -> None:
    options = turn_taking.handling(language)
    delays, interruption = options["endpointing"], options["interruption"]
    assert VAD_SILENCE < delays["min_delay"] <= delays["max_delay"] <= 1.2 - NODE_SECONDS
    assert interruption["min_duration"] + 2 * VAD_WINDOW + 0.05 < 0.3, (
        "0.05 s: the room's output stops at its next frame"
    )
    timeout = interruption["false_interruption_timeout"]
    assert timeout is not None and 0.7 + VAD_SILENCE + VAD_WINDOW + timeout < 3, "a false interruption of 0.7 s"


async def speaking_agent(talk: Conversation, seconds: float) -> None:
    """Let the caller ask, and return while the agent speaks its answer of `seconds`."""
    talk.providers.reply_seconds = seconds
    talk.microphone.play(speech(1.0))
    await talk.until(lambda: talk.speaker.times("started"), "the agent answers")
    talk.providers.reply_seconds = 0.5


async def test_complete_turn_is_answered_once(config: WorkerConfig) -> None:
    async with conversation(config) as talk:
        await speaking_agent(talk, 0.5)
        await talk.until(lambda: talk.speaker.times("finished"), "the answer ends")
        assert talk.transcripts == [talk.providers.transcript]
        assert talk.messages("user") == [talk.providers.transcript]
        assert [name for _, name in talk.speaker.events] == ["started", "finished"]
        (message,) = [item for item in talk.session.history.items if item.type == "message" and item.role == "user"]
        assert message.metrics["end_of_turn_delay"] >= turn_taking.MIN_DELAY


async def test_short_word_stops_the_agent(config: WorkerConfig) -> None:
    async with conversation(config) as talk:
        await speaking_agent(talk, 60.0)
        talk.providers.transcript = "Stop."
        # So short that it must be enough: how soon the session notices depends on the machine.
        talk.microphone.play(speech(turn_taking.INTERRUPT_SECONDS + 0.1))
        await talk.until(lambda: talk.speaker.times("cleared"), "the agent stops")
        assert talk.speaker.times("paused")[0] <= talk.speaker.times("cleared")[0]
        await talk.until(lambda: talk.speaker.times("finished"), "the agent answers the interruption")
        assert talk.messages("user") == ["What are your opening hours?", "Stop."]


@pytest.mark.parametrize("heard", ["", "Thanks for watching!"], ids=["nothing", "subtitle credit"])
async def test_sound_without_words_is_a_pause_of_the_agent(config: WorkerConfig, heard: str) -> None:
    async with conversation(config) as talk:
        await speaking_agent(talk, 6.0)
        talk.providers.transcript = heard
        talk.microphone.play(speech(0.7))
        await talk.until(lambda: talk.speaker.times("paused"), "the agent stops")
        await talk.until(lambda: talk.speaker.times("resumed"), "the agent resumes")
        await talk.until(lambda: talk.speaker.times("finished"), "the agent says all")
        assert not talk.speaker.times("cleared")
        assert talk.messages("user") == ["What are your opening hours?"]
        assert talk.transcripts == ["What are your opening hours?"], "noise has no caption"
        assert talk.providers.requests.count("completions") == 1


async def test_avatar_resumes_after_a_sound_without_words(config: WorkerConfig) -> None:
    async with conversation(config, avatar=PausableOutput) as talk:
        await speaking_agent(talk, 6.0)
        talk.providers.transcript = ""
        talk.microphone.play(speech(0.7))
        await talk.until(lambda: talk.speaker.times("cleared"), "the avatar stops")
        await talk.until(lambda: talk.speaker.times("finished"), "the avatar says the rest")
        assert [name for _, name in talk.speaker.events] == ["started", "cleared", "started", "finished"]
        assert talk.speaker.played_seconds == pytest.approx(6.0, abs=0.2)
        await talk.until(lambda: talk.messages("assistant") == [talk.providers.reply], "the reply is complete")
        assert talk.providers.requests.count("completions") == 1


async def test_noise_does_not_cut_the_agent(config: WorkerConfig) -> None:
    async with conversation(config) as talk:
        await speaking_agent(talk, 3.0)
        talk.providers.transcript = ""
        talk.microphone.play(noise(0.7))
        await talk.until(lambda: talk.speaker.times("finished"), "the agent says all")
        assert not talk.speaker.times("cleared")


async def test_answer_that_has_not_begun_waits_for_the_caller(config: WorkerConfig) -> None:
    """The reason why an early end of turn is no cut-in: tests/bench/endpointing.py counts on it."""
    async with conversation(config) as talk:
        talk.providers.may_answer.clear()
        talk.microphone.play(speech(1.0))
        await talk.until(lambda: talk.session.agent_state == "thinking", "the turn ends")
        talk.microphone.play(speech(3.0))
        await talk.until(lambda: talk.session.user_state == "speaking", "the caller continues")
        talk.providers.may_answer.set()
        await talk.until(lambda: talk.session.user_state == "listening", "the caller has finished")
        assert not talk.speaker.times("started"), "the agent speaks over the caller"
        await talk.until(lambda: talk.speaker.times("finished"), "one answer to both parts")
        assert len(talk.speaker.times("started")) == 1
        assert talk.messages("user") == [talk.providers.transcript] * 2


async def greet(talk: Conversation, seconds: float) -> "asyncio.Task[None]":
    greeting = talk.session.say("Welcome.", audio=phrases.frames(tone(seconds)), allow_interruptions=False)
    return asyncio.create_task(turn_taking.finish_greeting(talk.session, greeting))


async def test_hello_neither_precedes_nor_cuts_the_greeting(config: WorkerConfig) -> None:
    async with conversation(config, before_start=turn_taking.ignore_caller) as talk:
        talk.providers.transcript = "Hello?"
        talk.microphone.play(speech(0.8))
        await talk.microphone.played()
        talk.microphone.play(speech(0.8))
        greeting = await greet(talk, 3.0)
        await talk.until(lambda: talk.speaker.times("started"), "the greeting begins")
        talk.microphone.play(np.concatenate([np.zeros(SAMPLE_RATE // 2, np.int16), speech(0.5)]))
        await asyncio.wait_for(greeting, 15)
        assert [name for _, name in talk.speaker.events] == ["started", "finished"]
        assert talk.providers.requests.count("completions") == 0 and talk.transcripts == []
        talk.providers.transcript = "What are your opening hours?"
        talk.microphone.play(speech(1.0))
        await talk.until(lambda: len(talk.speaker.times("finished")) == 2, "the agent answers after the greeting")
        assert talk.messages("user") == ["What are your opening hours?"]


async def test_long_greeting_can_be_interrupted_later(config: WorkerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_taking, "PROTECTED_GREETING_SECONDS", 0.2)
    async with conversation(config, before_start=turn_taking.ignore_caller) as talk:
        greeting = await greet(talk, 60.0)
        await talk.until(lambda: talk.speaker.times("started"), "the greeting begins")
        await asyncio.sleep(0.5)  # longer than it is protected
        talk.microphone.play(speech(1.0))
        await asyncio.wait_for(greeting, 15)
        assert talk.speaker.times("cleared")
        await talk.until(lambda: talk.speaker.times("finished"), "the agent answers")

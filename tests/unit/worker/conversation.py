"""The product's own session, in real time and without a network: providers that answer at once, microphone, speaker."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2 as httpx
import numpy as np
from livekit import rtc
from livekit.agents import Agent
from livekit.agents.voice import AgentSession
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from numpy.typing import NDArray
from openai import AsyncOpenAI

from agentspec.wire import WorkerConfig
from tests.unit.worker.fakes import close_as_the_job
from tests.waiting import soon
from worker.call import voice
from worker.call.voice import Stages

SAMPLE_RATE = 16_000
"""Of the microphone, in Hz: that of the local models, so nothing is resampled."""
_FRAME = SAMPLE_RATE // 50
_SPEECH_RATE = 24_000
_TICK_SECONDS = 0.01

Samples = NDArray[np.int16]


class FakeProviders:
    """An OpenAI API without delay: it hears `transcript`, answers `reply`, and speaks a tone of `reply_seconds`."""

    def __init__(self) -> None:
        self.transcript = "What are your opening hours?"
        self.reply = "From nine to five."
        self.reply_seconds = 1.0
        self.requests: list[str] = []
        """Last part of each requested path."""
        self.chats: list[list[tuple[str, str]]] = []
        """Role and text of the messages of each request to the language model."""
        self.may_answer = asyncio.Event()
        """While it is not set, the language model does not answer."""
        self.may_answer.set()
        self.client = AsyncOpenAI(
            base_url="http://openai.test/v1",
            api_key="k",
            max_retries=0,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self._respond)),
        )

    async def _respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.url.path.rsplit("/", 1)[-1])
        match self.requests[-1]:
            case "transcriptions":
                answer = {"text": self.transcript, "language": "en", "duration": 1.0, "segments": []}
                return httpx.Response(200, json=answer)
            case "completions":
                messages = json.loads(request.content)["messages"]
                self.chats.append([(message["role"], message["content"]) for message in messages])
                await self.may_answer.wait()
                chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
                deltas = [({"role": "assistant", "content": self.reply}, None), ({}, "stop")]
                lines = [
                    f"data: {json.dumps(chunk | {'choices': [{'index': 0, 'delta': delta, 'finish_reason': end}]})}\n\n"
                    for delta, end in deltas
                ]
                usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
                lines.append(f"data: {json.dumps(chunk | {'choices': [], 'usage': usage})}\n\n")
                return httpx.Response(
                    200, text="".join([*lines, "data: [DONE]\n\n"]), headers={"content-type": "text/event-stream"}
                )
            case _:
                return httpx.Response(200, content=bytes(tone(self.reply_seconds).data))


def tone(seconds: float, rate: int = _SPEECH_RATE) -> rtc.AudioFrame:
    """Return a tone, as the agent's speech."""
    samples = (8000 * np.sin(np.arange(int(seconds * rate)) / 9)).astype(np.int16)
    return rtc.AudioFrame(samples.tobytes(), rate, 1, samples.size)


def speech(seconds: float) -> Samples:
    """Return a voiced sound that the speech detector takes for speech: glottal pulses through moving formants."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 130.0
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.08 * np.sin(2 * np.pi * 2.3 * time))) / SAMPLE_RATE
    opening = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)
    sound = np.zeros_like(time)
    for harmonic in range(1, 30):
        open_vowel, close_vowel = (
            sum(gain / (1 + ((harmonic * pitch - centre) / width) ** 2) for centre, width, gain in formants)
            for formants in (
                ((700, 90, 1.0), (1200, 110, 0.6), (2500, 160, 0.3)),
                ((350, 80, 1.0), (2000, 120, 0.5), (2800, 160, 0.3)),
            )
        )
        sound += (open_vowel * opening + close_vowel * (1 - opening)) * np.sin(harmonic * phase)
    sound *= np.minimum(1, np.minimum(time, seconds - time) / 0.02) * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time - 1.5))
    samples: Samples = (sound / np.abs(sound).max() * 9000).astype(np.int16)
    return samples


class Microphone(AudioInput):
    """The caller's audio in real time: silence, and the recordings that the test plays."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._samples = np.zeros(0, np.int16)
        self._next: float | None = None
        self._attached = True

    def play(self, samples: Samples) -> None:
        """Append a recording of `SAMPLE_RATE` to what the caller says."""
        self._samples = np.concatenate([self._samples, samples])

    async def played(self) -> None:
        """Wait until the caller has said everything."""
        await soon(lambda: not self._samples.size)

    async def __anext__(self) -> rtc.AudioFrame:
        while True:
            now = time.monotonic()
            self._next = max(now - 1, self._next or now) + _FRAME / SAMPLE_RATE
            await asyncio.sleep(self._next - now)
            part, self._samples = self._samples[:_FRAME], self._samples[_FRAME:]
            if self._attached:
                return rtc.AudioFrame(np.pad(part, (0, _FRAME - part.size)).tobytes(), SAMPLE_RATE, 1, _FRAME)

    def on_attached(self) -> None:
        self._attached = True

    def on_detached(self) -> None:
        """Drop audio from now on, as the room's input does."""
        self._attached = False


class Speaker(AudioOutput):
    """Plays the agent's audio in real time, as the room's output does."""

    def __init__(self, *, can_pause: bool) -> None:
        capabilities = AudioOutputCapabilities(pause=can_pause)
        super().__init__(label="speaker", capabilities=capabilities, sample_rate=_SPEECH_RATE)
        self.events: list[tuple[float, str]] = []
        """Unix seconds and what happened: started, paused, resumed, cleared, finished."""
        self.played_seconds = 0.0
        """What was played of all speeches."""
        self._position = 0.0
        self._pushed = 0.0
        self._paused = self._flushed = self._started = False
        self._player = asyncio.create_task(self._play())

    def times(self, event: str) -> list[float]:
        """Return when an event happened."""
        return [at for at, name in self.events if name == event]

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._pushed += frame.duration
        self._flushed = False

    def flush(self) -> None:
        super().flush()
        self._flushed = True

    def clear_buffer(self) -> None:
        if self._pushed:
            self._note("cleared")
            self._finish(interrupted=True)

    def pause(self) -> None:
        if not self._paused:
            self._note("paused")
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._note("resumed")
        self._paused = False

    async def aclose(self) -> None:
        self._player.cancel()

    async def _play(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            elapsed, last = now - last, now
            if self._paused or not self._pushed:
                continue
            if not self._started:
                self._started = True
                self._note("started")
                self.on_playback_started(created_at=time.time())
            self._position = min(self._pushed, self._position + elapsed)
            if self._flushed and self._position >= self._pushed:
                self._note("finished")
                self._finish(interrupted=False)

    def _finish(self, *, interrupted: bool) -> None:
        position, self._position, self._pushed = self._position, 0.0, 0.0
        self.played_seconds += position
        self._started = self._flushed = False
        self.on_playback_finished(playback_position=position, interrupted=interrupted)

    def _note(self, event: str) -> None:
        self.events.append((time.time(), event))


class Conversation:
    """A running session with its microphone and speaker."""

    def __init__(self, config: WorkerConfig, avatar: Callable[[AudioOutput], AudioOutput] | None) -> None:
        self.providers = FakeProviders()
        self.microphone = Microphone()
        self.speaker = Speaker(can_pause=avatar is None)
        self.output = self.speaker if avatar is None else avatar(self.speaker)
        self.stages = Stages(config.voice, self.providers.client)
        self.session: AgentSession[None] = voice.make_session(self.stages, "en")
        self.transcripts: list[str] = []
        """What the session shows as captions of the caller."""
        self.session.on("user_input_transcribed", lambda event: self.transcripts.append(event.transcript))

    def messages(self, role: str) -> list[str]:
        """Return the texts of one side in the history."""
        return [
            item.text_content or ""
            for item in self.session.history.items
            if item.type == "message" and item.role == role
        ]

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition; fail the test when it does not hold in time."""
        try:
            await soon(condition)
        except TimeoutError:
            raise AssertionError(f"not in time: {what}; the speaker {self.speaker.events}") from None


@asynccontextmanager
async def conversation(
    config: WorkerConfig,
    *,
    before_start: Callable[[AgentSession[None]], None] = lambda _: None,
    avatar: Callable[[AudioOutput], AudioOutput] | None = None,
    agent: Agent | None = None,
) -> AsyncIterator[Conversation]:
    """Run a session in English until the test ends; `before_start` prepares it.

    `avatar` makes the agent's output from the speaker of an avatar, which cannot pause.
    """
    talk = Conversation(config, avatar)
    before_start(talk.session)
    talk.session.input.audio = talk.microphone
    talk.session.output.audio = talk.output
    await talk.session.start(agent or Agent(instructions="Answer briefly."), record=False)
    try:
        yield talk
    finally:
        await close_as_the_job(talk.session)
        await talk.speaker.aclose()
        await talk.providers.client.close()

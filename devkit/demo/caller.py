"""A caller: requests a call from the gateway, joins the room with a real LiveKit client, listens, speaks and watches.

The demo, the end-to-end tests and the benchmarks use it. Times are seconds of `time.monotonic`, as the caller saw them.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from devkit import rooms
from devkit.demo.utterances import AUDIBLE, Samples, Utterance, UtteranceSplitter

RATE = 24_000
FRAME_SAMPLES = RATE // 50
_MAX_FRAMES = 12
_FRAME_INTERVAL = 0.3
PAGE_HEADERS = {"Host": "localhost", "Origin": "http://localhost"}
"""Headers of the call page behind a port-forward. The gateway trusts loopback hosts without being told their names."""
_PAUSE_SECONDS = 0.5
"""The shortest pause between two sounds."""

VideoFrame = NDArray[np.uint8]
T = TypeVar("T")


class CallError(Exception):
    """A step of the call failed or timed out; the message says which."""


@dataclass
class Moments:
    """Times of the steps of a call; 0.0: not yet."""

    requested: float = 0.0
    opened: float = 0.0
    """When the gateway answered: the room exists then."""
    state: str = ""
    """State in the gateway's answer: `dispatched`, or `waiting` for a free slot."""
    connected: float = 0.0
    joined: float = 0.0
    first_word: float = 0.0
    first_video_frame: float = 0.0


@dataclass
class Caller:
    """A caller in a room. Use it as an async context manager: the end of the block leaves the room."""

    name: str
    url: str
    token: str
    moments: Moments
    language: str = "ar"
    microphone: bool = True
    """Whether the caller publishes a microphone; without one, it only listens."""
    room: rtc.Room = field(default_factory=rtc.Room)
    video_frames: list[VideoFrame] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    captions: list[str] = field(default_factory=list)
    """The agent's own transcription of what it says, from the room's text stream."""
    understood: list[str] = field(default_factory=list)
    """What the agent's speech recognition heard this caller say, from the same stream."""
    captioned: list[float] = field(default_factory=list)
    """When each caption began, which is when the agent began to say it."""
    sounds: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of each stretch of sound, without the pauses between sentences."""
    last_word: float = 0.0
    """When the last sample of what the caller said last is sent. The microphone has a buffer of up to a second."""
    _tracks: list[UtteranceSplitter] = field(default_factory=list)
    """The utterances of each audio track: the agent's and the avatar's."""
    _utterances: "asyncio.Queue[Utterance]" = field(default_factory=asyncio.Queue)
    _sounding: asyncio.Event = field(default_factory=asyncio.Event)
    _agent_joined: asyncio.Event = field(default_factory=asyncio.Event)
    _to_say: "asyncio.Queue[Samples]" = field(default_factory=asyncio.Queue)
    _said: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self.room.on("track_subscribed", self._on_track)
        self.room.on("participant_connected", self._on_participant)
        self.room.register_text_stream_handler("lk.transcription", self._on_transcription)
        try:
            await asyncio.wait_for(rooms.connect(self.room, self.url, self.token, 15), timeout=20)
        except (rtc.ConnectError, TimeoutError) as error:
            raise CallError(f"{self.name}: no connection to the room at {self.url}: {error!r}") from error
        self.moments.connected = time.monotonic()
        for participant in self.room.remote_participants.values():
            self._on_participant(participant)
        if self.microphone:
            await self._publish_microphone()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.wait_for(self.room.disconnect(), timeout=10)

    @property
    def is_hearing(self) -> bool:
        """Whether an utterance of the room has begun and not ended."""
        return any(track.hearing for track in self._tracks)

    @property
    def last_sound(self) -> float:
        """When the last audible frame arrived; 0.0: none has."""
        return max((track.last_sound for track in self._tracks), default=0.0)

    def began(self, said: Samples) -> float:
        """Return when the caller said the first audible sample of what was said last."""
        return self.last_word - (len(said) - int(np.argmax(np.abs(said.astype(np.int32)) > AUDIBLE))) / RATE

    async def agent_joined(self, seconds: float) -> None:
        """Wait until the agent, which is not its avatar, is in the room."""
        await self._within(self._agent_joined.wait(), seconds, "no agent joined the room")

    async def first_word(self, seconds: float) -> None:
        """Wait for the first audible sound in the room."""
        await self._within(self._sounding.wait(), seconds, "nothing was heard")

    async def hear(self, seconds: float, after: float = 0.0) -> Utterance:
        """Return the next utterance that began after `after`. Raises CallError unless it ends within `seconds`."""
        return await self._within(self._begun(after), seconds, "no complete utterance was heard")

    async def _begun(self, after: float) -> Utterance:
        while (utterance := await self._utterances.get()).start < after:
            pass
        return utterance

    async def say(self, samples: Samples) -> None:
        """Speak into the microphone; return when the last sample is sent."""
        self._said.clear()
        await self._to_say.put(samples)
        await self._within(self._said.wait(), len(samples) / RATE + 10, "the microphone accepted no sound")

    async def see(self, count: int, seconds: float) -> list[VideoFrame]:
        """Wait for this many video frames, taken 0.3 s apart, and return them."""
        deadline = time.monotonic() + seconds
        while len(self.video_frames) < count:
            if time.monotonic() > deadline:
                raise CallError(f"{self.name}: {len(self.video_frames)} of {count} video frames within {seconds:.0f} s")
            await asyncio.sleep(0.05)
        return list(self.video_frames)

    async def _within(self, wait: Awaitable[T], seconds: float, failure: str) -> T:
        try:
            return await asyncio.wait_for(wait, seconds)
        except TimeoutError:
            raise CallError(f"{self.name}: {failure} within {seconds:.0f} s") from None

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        is_agent = participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        if is_agent and "lk.publish_on_behalf" not in participant.attributes:
            self.agents.add(participant.identity)
            self.moments.joined = self.moments.joined or time.monotonic()
            self._agent_joined.set()

    def _on_track(
        self, track: rtc.Track, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._start(self._listen(track, participant.identity))
        elif track.kind == rtc.TrackKind.KIND_VIDEO:
            self._start(self._watch(track))

    def _on_transcription(self, reader: rtc.TextStreamReader, speaker: str) -> None:
        if speaker == self.room.local_participant.identity:
            self._start(self._read_text(reader, self.understood))
        else:
            self.captioned.append(time.monotonic())
            self._start(self._read_text(reader, self.captions))

    async def _read_text(self, reader: rtc.TextStreamReader, texts: list[str]) -> None:
        position = len(texts)
        texts.append("")
        with contextlib.suppress(rtc.StreamError):  # an agent that is lost in mid-sentence
            async for chunk in reader:
                texts[position] += chunk

    async def _listen(self, track: rtc.Track, speaker: str) -> None:
        splitter = UtteranceSplitter(RATE, speaker)
        self._tracks.append(splitter)
        sounds = UtteranceSplitter(RATE, speaker, quiet_seconds=_PAUSE_SECONDS)
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        try:
            async for event in stream:
                frame, now = np.frombuffer(event.frame.data, dtype=np.int16).copy(), time.monotonic()
                if (sound := sounds.listen(frame, now)) is not None:
                    self.sounds.append((sound.start, sound.end))
                utterance = splitter.listen(frame, now)
                if splitter.hearing and not self._sounding.is_set():
                    self.moments.first_word = splitter.started
                    self._sounding.set()
                if utterance is not None:
                    await self._utterances.put(utterance)
            if (last := splitter.finish()) is not None:
                await self._utterances.put(last)
        finally:
            await stream.aclose()

    async def _watch(self, track: rtc.Track) -> None:
        stream = rtc.VideoStream(track, capacity=1, format=rtc.VideoBufferType.RGB24)
        taken = 0.0
        try:
            async for event in stream:
                now = time.monotonic()
                self.moments.first_video_frame = self.moments.first_video_frame or now
                if now - taken >= _FRAME_INTERVAL:
                    taken = now
                    frame = event.frame
                    video_frame = np.frombuffer(frame.data, dtype=np.uint8).reshape(frame.height, frame.width, 3)
                    self.video_frames = [*self.video_frames[-_MAX_FRAMES + 1 :], video_frame.copy()]
        finally:
            await stream.aclose()

    async def _publish_microphone(self) -> None:
        source = rtc.AudioSource(RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        published = self.room.local_participant.publish_track(track, options)
        await self._within(published, 15, "the microphone could not be published")
        self._start(self._microphone(source))

    async def _microphone(self, source: rtc.AudioSource) -> None:
        """Send an open microphone's sound: silence while the caller does not speak, as a browser does."""
        silence = np.zeros(FRAME_SAMPLES, dtype=np.int16)
        while True:
            if self._to_say.empty():
                await source.capture_frame(_frame(silence))
                continue
            samples = self._to_say.get_nowait()
            padded = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))
            for chunk in padded.reshape(-1, FRAME_SAMPLES):
                await source.capture_frame(_frame(chunk))
            self.last_word = time.monotonic() + source.queued_duration
            self._said.set()


def _frame(samples: Samples) -> rtc.AudioFrame:
    return rtc.AudioFrame(samples.tobytes(), RATE, 1, len(samples))


async def request_call(
    gateway: str, agent: str, name: str, *, language: str = "ar", headers: dict[str, str] | None = None
) -> tuple[dict[str, Any], Moments]:
    """Send `POST /v1/calls` as the call page does; return the gateway's answer and the times of the request."""
    moments = Moments(requested=time.monotonic())
    answer: dict[str, Any]
    body = {"agent": agent, "name": name, "language": language, "capabilities": ["video", "captions"]}
    timeout = aiohttp.ClientTimeout(total=30)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{gateway}/v1/calls", json=body, headers={**PAGE_HEADERS, **(headers or {})}) as response,
        ):
            status, answer = response.status, await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise CallError(f"{name}: no valid answer from the gateway at {gateway}: {error!r}") from error
    if status not in (200, 201):
        raise CallError(f"{name}: the gateway rejected the call with {status}: {answer.get('error', answer)}")
    moments.opened, moments.state = time.monotonic(), str(answer["state"])
    return answer, moments


async def call(gateway: str, agent: str, name: str, *, language: str = "ar") -> Caller:
    """Request a call; enter the returned caller as a context to join its room."""
    answer, moments = await request_call(gateway, agent, name, language=language)
    return Caller(name=name, url=answer["url"], token=answer["token"], moments=moments, language=language)


async def hang_up(gateway: str, answer: Mapping[str, Any]) -> None:
    """Send `DELETE /v1/calls/ID` as the call page does; `answer` is the gateway's to the request for the call."""
    headers = {"Authorization": f"Bearer {answer['callToken']}", **PAGE_HEADERS}
    async with (
        aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30)) as session,
        session.delete(f"{gateway}/v1/calls/{answer['callId']}") as response,
    ):
        if response.status != 200:
            raise CallError(f"the gateway did not end the call: {response.status} {await response.text()}")

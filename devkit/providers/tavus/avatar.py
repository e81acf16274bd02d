"""The avatar's presence in a room: it receives the agent's speech and publishes it with a face, in step.

The receiving side is livekit-agents' own (`AvatarRunner`, `DataStreamAudioReceiver`): the agent streams its speech as
bytes on the topic `lk.audio_stream` and is told by RPC when a segment has been played.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import (
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    DataStreamAudioReceiver,
    VideoGenerator,
)
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

from devkit.providers.redaction import without_tokens
from devkit.providers.tavus.face import HEIGHT, WIDTH, Face, loudness

SAMPLE_RATE = 24_000
"""Hz: what livekit-plugins-tavus sends."""

FRAME_MILLISECONDS = 80
"""One picture for each piece of speech this long (12.5 a second): smooth enough, and cheap on a shared machine."""


class AvatarError(RuntimeError):
    """The avatar could not join or stay; the message says why."""


class SpeechReceiver(DataStreamAudioReceiver):
    """Receives the agent's speech and tells the agent when it has been played, but not when it begins.

    livekit-plugins-tavus does not listen for the beginning, and each attempt to tell it would be logged as an error.
    """

    def notify_playback_started(self) -> None:
        """Tell nobody."""


class FaceGenerator(VideoGenerator):
    """Turns speech into pictures: every piece of speech comes out with one, and in silence they go on without it."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._speech: asyncio.Queue[rtc.AudioFrame | AudioSegmentEnd] = asyncio.Queue()
        self._drawn = 0

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Take the next piece of speech, or the end of what was said in one go."""
        await self._speech.put(frame)

    def clear_buffer(self) -> None:
        """Drop what has not been said yet: the agent was interrupted."""
        while not self._speech.empty():
            self._speech.get_nowait()

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """Yield pictures and speech for ever; whoever takes them sets the pace."""
        while True:
            try:
                # Half a picture's time: late enough to be sure of silence, early enough for the next picture.
                said = await asyncio.wait_for(self._speech.get(), FRAME_MILLISECONDS / 2000)
            except TimeoutError:
                yield self._picture(0.0)
                continue
            if isinstance(said, rtc.AudioFrame):
                yield self._picture(loudness(np.frombuffer(said.data, dtype=np.int16)))
            yield said

    def _picture(self, mouth: float) -> rtc.VideoFrame:
        seconds = self._drawn * FRAME_MILLISECONDS / 1000
        self._drawn += 1
        return rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, self._face.draw(seconds, mouth))


class Avatar:
    """One avatar in one room, from `join` until `leave`."""

    def __init__(self, face_id: str) -> None:
        self._room = rtc.Room()
        self._generator = FaceGenerator(Face(face_id))
        self._runner: AvatarRunner | None = None
        self._gone = asyncio.Event()
        self._why = ""

    @property
    def identity(self) -> str:
        """Who the avatar is in the room: the token says so."""
        return self._room.local_participant.identity

    @property
    def room_name(self) -> str:
        """The room's name: the token says so."""
        return self._room.name

    async def join(self, url: str, token: str, within_seconds: float) -> None:
        """Join the room and start showing the face, in time. Raises `AvatarError`."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._room.connect(url, token, rtc.RoomOptions(connect_timeout=within_seconds))
                await self._start()
        except TimeoutError as error:
            raise AvatarError(f"did not join {url} within {within_seconds:g} s, or no agent was there") from error
        except (rtc.ConnectError, RuntimeError) as error:
            raise AvatarError(without_tokens(f"could not join {url}: {error}")) from None

    async def stay(self, at_most_seconds: float) -> str:
        """Stay until the room ends, the agent leaves or the time is up, and say which it was."""
        assert self._runner is not None
        gone = asyncio.create_task(self._gone.wait())
        running = asyncio.create_task(self._runner.wait_for_complete())
        try:
            await asyncio.wait({gone, running}, timeout=at_most_seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return self._why
            if not running.done():
                return "max_call_duration reached"
            if error := running.exception():
                raise AvatarError(f"the avatar stopped: {error}") from error
            return "the agent's audio ended"
        finally:
            gone.cancel()
            running.cancel()

    async def leave(self) -> None:
        """Leave the room; nothing happens when it was never joined."""
        if self._runner is not None:
            await self._runner.aclose()
        await self._room.disconnect()

    async def _start(self) -> None:
        # The token names the agent that the avatar speaks for; without the name it is the first agent in the room.
        agent = self._room.local_participant.attributes.get(ATTRIBUTE_PUBLISH_ON_BEHALF)
        self._room.on("participant_disconnected", lambda who: self._on_left(who, agent))
        self._room.on("disconnected", self._on_disconnected)
        runner = AvatarRunner(
            self._room,
            audio_recv=SpeechReceiver(self._room, sender_identity=agent, frame_size_ms=FRAME_MILLISECONDS),
            video_gen=self._generator,
            options=AvatarOptions(
                video_width=WIDTH,
                video_height=HEIGHT,
                video_fps=1000 / FRAME_MILLISECONDS,
                audio_sample_rate=SAMPLE_RATE,
                audio_channels=1,
            ),
        )
        try:
            await runner.start()
        except BaseException:
            # A runner that has not started cannot be closed; only its synchroniser runs already.
            await runner.av_sync.aclose()
            raise
        self._runner = runner

    def _on_left(self, participant: rtc.RemoteParticipant, agent: str | None) -> None:
        if participant.identity == agent:
            self._end("the agent left the room")

    def _on_disconnected(self, _: object) -> None:
        self._end("the room ended or the avatar was removed from it")

    def _end(self, why: str) -> None:
        self._why = self._why or why
        self._gone.set()

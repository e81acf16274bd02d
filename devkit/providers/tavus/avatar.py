"""An avatar in a room: it receives the agent's speech and publishes it with synchronous video.

livekit-agents' own classes receive the speech (`AvatarRunner`, `DataStreamAudioReceiver`): the agent streams it as
bytes on the topic `lk.audio_stream`, and an RPC reports each segment that was played.
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

from devkit import rooms
from devkit.providers.redaction import without_tokens
from devkit.providers.tavus.avatar_image import HEIGHT, WIDTH, AvatarImage, loudness

SAMPLE_RATE = 24_000
"""Sample rate of livekit-plugins-tavus, in Hz."""

FRAME_MILLISECONDS = 80
"""Length of the speech for one video frame: 12.5 a second are smooth enough and need little processor time."""


class AvatarError(RuntimeError):
    """The avatar could not join the room, or left it; the message says why."""


class SpeechReceiver(DataStreamAudioReceiver):
    """Receives the agent's speech, and reports when it was played but not when it begins.

    livekit-plugins-tavus does not handle the report of the beginning, and would log each one as an error.
    """

    def notify_playback_started(self) -> None:
        """Report nothing."""


class AvatarVideo(VideoGenerator):
    """Generates video from speech: one frame with each piece of speech, and frames alone during silence."""

    def __init__(self, image: AvatarImage) -> None:
        self._image = image
        self._speech: asyncio.Queue[rtc.AudioFrame | AudioSegmentEnd] = asyncio.Queue()
        self._frames = 0

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Add the next piece of speech, or the end of a segment."""
        await self._speech.put(frame)

    def clear_buffer(self) -> None:
        """Discard the speech that was not played yet, because the agent was interrupted."""
        while not self._speech.empty():
            self._speech.get_nowait()

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """Yield video and speech without end; the consumer sets the pace."""
        while True:
            try:
                # Wait for half a frame: long enough to detect silence, short enough for the next frame.
                speech = await asyncio.wait_for(self._speech.get(), FRAME_MILLISECONDS / 2000)
            except TimeoutError:
                yield self._frame(0.0)
                continue
            if isinstance(speech, rtc.AudioFrame):
                yield self._frame(loudness(np.frombuffer(speech.data, dtype=np.int16)))
            yield speech

    def _frame(self, mouth: float) -> rtc.VideoFrame:
        seconds = self._frames * FRAME_MILLISECONDS / 1000
        self._frames += 1
        return rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.RGBA, self._image.draw(seconds, mouth))


class Avatar:
    """One avatar in one room, from `join` until `leave`."""

    def __init__(self, face_id: str) -> None:
        self._room = rtc.Room()
        self._generator = AvatarVideo(AvatarImage(face_id))
        self._runner: AvatarRunner | None = None
        self._ended = asyncio.Event()
        self._reason = ""

    @property
    def identity(self) -> str:
        """Identity of the avatar in the room, from its token."""
        return self._room.local_participant.identity

    @property
    def room_name(self) -> str:
        """Name of the room, from the token."""
        return self._room.name

    async def join(self, url: str, token: str, within_seconds: float) -> None:
        """Join the room and publish video within `within_seconds`. Raises `AvatarError`."""
        try:
            async with asyncio.timeout(within_seconds):
                await rooms.connect(self._room, url, token, within_seconds)
                await self._start()
        except TimeoutError as error:
            raise AvatarError(f"did not join {url} within {within_seconds:g} s, or the room had no agent") from error
        except (rtc.ConnectError, RuntimeError) as error:
            raise AvatarError(without_tokens(f"could not join {url}: {error}")) from None

    async def stay(self, at_most_seconds: float) -> str:
        """Stay until the room ends, the agent leaves or `at_most_seconds` pass; return which of them happened."""
        assert self._runner is not None
        ended = asyncio.create_task(self._ended.wait())
        running = asyncio.create_task(self._runner.wait_for_complete())
        try:
            await asyncio.wait({ended, running}, timeout=at_most_seconds, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return self._reason
            if not running.done():
                return "max_call_duration reached"
            if error := running.exception():
                raise AvatarError(f"the avatar stopped: {error}") from error
            return "the agent's audio ended"
        finally:
            ended.cancel()
            running.cancel()

    async def leave(self) -> None:
        """Leave the room, if the avatar has joined it."""
        if self._runner is not None:
            await self._runner.aclose()
        await self._room.disconnect()

    async def _start(self) -> None:
        # The token names the avatar's agent; without a name it is the first agent in the room.
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
            # Close the synchroniser, which runs already; a runner that has not started cannot be closed.
            await runner.av_sync.aclose()
            raise
        self._runner = runner

    def _on_left(self, participant: rtc.RemoteParticipant, agent: str | None) -> None:
        if participant.identity == agent:
            self._end("the agent left the room")

    def _on_disconnected(self, _: object) -> None:
        self._end("the room ended or the avatar was removed from it")

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._ended.set()

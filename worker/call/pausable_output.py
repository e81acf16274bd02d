"""An audio output that can pause an avatar, so that a false interruption is resumed as without an avatar.

Avatars cannot pause (voice/avatar/_datastream_io.py): they can only drop what they have not played, and report how much
they played. So this output keeps the frames of a segment. A pause lets the avatar drop the rest; `resume` sends the
rest again. To the session, all parts are one segment with one report.
"""

import asyncio
from collections.abc import Coroutine
from typing import Final

from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities, PlaybackFinishedEvent, PlaybackStartedEvent

from worker import sdk

_ROUNDING_SECONDS: Final = 0.01
"""A frame counts as played although this much of it is left: reports are sums of rounded durations."""


class PausableOutput(sdk.InterceptedOutput):
    """Plays segments through the next output, with pauses that the next output does not know."""

    def __init__(self, following: AudioOutput) -> None:
        super().__init__(
            label="PausableOutput",
            capabilities=AudioOutputCapabilities(pause=True),
            next_in_chain=following,
            sample_rate=following.sample_rate,
        )
        assert self.next_in_chain is not None
        self._following = self.next_in_chain
        self._sending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_paused = False
        self._older_segments = 0
        """Segments before the present one whose reports are still to come."""
        self._begin()

    def _begin(self) -> None:
        """Begin a new segment."""
        self._frames: list[rtc.AudioFrame] = []
        """What is left of the segment: all of it, or what had not been played at the last pause."""
        self._sent = 0
        """How many of the frames the next output has."""
        self._played_seconds = 0.0
        """How much of the segment was played before the last pause."""
        self._is_flushed = False
        self._is_stopping = False
        """The next output was told to drop the rest, and its next report says how much it has played."""
        self._is_cleared = False
        """The segment ends with that report: the caller has really interrupted."""
        self._has_started = False
        self._is_open = False
        """The segment has begun, and its report is still to come."""

    @property
    def can_pause(self) -> bool:
        """Always, although the next output cannot."""
        return True

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Play a frame, or keep it while paused."""
        await super().capture_frame(frame)
        if self._is_flushed:
            self._older_segments += self._is_open
            self._begin()
        self._is_open = True
        self._frames.append(frame)
        async with self._sending:
            await self._send()

    def flush(self) -> None:
        """End the segment."""
        super().flush()
        self._is_flushed = True
        if self._frames and not self._is_held() and self._sent == len(self._frames):
            self._following.flush()

    def clear_buffer(self) -> None:
        """Stop playing, and end the segment."""
        if not self._is_held():
            self._following.clear_buffer()
        elif self._sent:
            self._is_cleared = True  # the report of the pause ends it
        elif self._is_open:
            self._finish(interrupted=True)

    def pause(self) -> None:
        """Stop playing until `resume`."""
        if not self._is_paused:
            self._is_paused = True
            self._spawn(self._stop())

    def resume(self) -> None:
        """Play what is left of the segment."""
        if self._is_paused:
            self._is_paused = False
            self._spawn(self._continue())

    def on_detached(self) -> None:
        """Stop all work: another output plays from now on."""
        for task in self._tasks:
            task.cancel()
        super().on_detached()

    def on_next_started(self, event: PlaybackStartedEvent) -> None:
        """Report the start of a segment once, not after each pause."""
        if not self._has_started:
            self._has_started = True
            self.on_playback_started(created_at=event.created_at)

    def on_next_finished(self, event: PlaybackFinishedEvent) -> None:
        """Report the end of a segment; the end of a part before a pause is none."""
        if self._older_segments:
            self._older_segments -= 1
            self.on_playback_finished(playback_position=event.playback_position, interrupted=event.interrupted)
            return
        self._drop(event.playback_position)
        if not self._is_stopping:
            self._finish(interrupted=event.interrupted)
            return
        self._is_stopping = False
        if self._is_cleared:
            self._finish(interrupted=True)
        elif not self._is_paused:
            self._spawn(self._continue())

    def _is_held(self) -> bool:
        """Return whether frames are kept for later."""
        return self._is_paused or self._is_stopping

    def _drop(self, seconds: float) -> None:
        """Drop the frames that were played."""
        self._played_seconds += seconds
        position = 0.0
        while self._frames and position + self._frames[0].duration <= seconds + _ROUNDING_SECONDS:
            position += self._frames.pop(0).duration
        self._sent = 0

    def _finish(self, *, interrupted: bool) -> None:
        position = self._played_seconds
        self._begin()
        self.on_playback_finished(playback_position=position, interrupted=interrupted)

    async def _stop(self) -> None:
        async with self._sending:
            if (self._is_paused or self._is_cleared) and self._sent and not self._is_stopping:
                self._is_stopping = True
                self._following.flush()
                self._following.clear_buffer()

    async def _continue(self) -> None:
        async with self._sending:
            await self._send()
            if self._is_held() or not self._is_flushed:
                return
            if self._frames:
                self._following.flush()
            elif self._is_open:
                self._finish(interrupted=False)  # the pause came after the last word

    async def _send(self) -> None:
        while not self._is_held() and self._sent < len(self._frames):
            frame = self._frames[self._sent]
            self._sent += 1
            await self._following.capture_frame(frame)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="avatar_pause")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

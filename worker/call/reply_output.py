"""The agent's audio output, which plays a prepared phrase while the SDK plays nothing, and knows when a reply stops.

The SDK plays one speech after the other. A phrase that it is given while a reply is being generated waits for that
reply. So "one moment" cannot be a speech of the SDK: it is played below it, and the SDK does not notice.
"""

import asyncio
import math
from collections.abc import Callable

from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities

from worker.call import budget, phrases


class ReplyOutput(AudioOutput):
    """Passes audio to the next output.

    `on_audio` is called with the time of the event loop until which the audio of a speech lasts; while the output is
    paused, without an end. `on_ended` is called when a speech has been passed on as a whole, and with True when it is
    interrupted.
    """

    def __init__(self, sink: AudioOutput) -> None:
        super().__init__(
            label="ReplyOutput",
            capabilities=AudioOutputCapabilities(pause=True),
            next_in_chain=sink,
            sample_rate=sink.sample_rate,
        )
        self.on_audio: Callable[[float], None] = lambda _: None
        self.on_ended: Callable[[bool], None] = lambda _: None
        self._lasts_until = 0.0
        self._paused_at: float | None = None
        self._is_open = False
        """A speech has begun, and more of its audio may come."""
        self._needs_flush = False
        """Audio of a speech was passed on since the last flush."""
        self._prepared_ended = asyncio.Event()
        """Set while no prepared phrase is played on its own."""
        self._prepared_ended.set()

    async def play(self, audio: rtc.AudioFrame) -> None:
        """Play a prepared phrase. Within a speech it becomes part of it; else a speech that begins waits for its end.

        Raises TimeoutError when an earlier speech is still played.
        """
        is_alone = not self._is_open
        if is_alone:
            await asyncio.wait_for(self.wait_for_playout(), budget.PLAY_SECONDS)
            self._prepared_ended.clear()
        async for frame in phrases.frames(audio):
            await self._pass_on(frame)
        if is_alone:
            self._sink.flush()
        else:
            self._extend(audio.duration)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Pass on a frame of a speech."""
        await self._wait_for_prepared()
        self._is_open = self._needs_flush = True
        await super().capture_frame(frame)
        await self._pass_on(frame)
        self._extend(frame.duration)

    def flush(self) -> None:
        """End the speech. One without audio leaves a prepared phrase alone."""
        super().flush()
        if self._needs_flush:
            self._needs_flush = False
            self._sink.flush()
        self._end(interrupted=False)

    def clear_buffer(self) -> None:
        """Stop playing."""
        self._sink.clear_buffer()
        self._lasts_until = 0.0
        self._end(interrupted=True)

    def pause(self) -> None:
        """Pause: the audio lasts longer by as much."""
        super().pause()
        if self._paused_at is None:
            self._paused_at = asyncio.get_running_loop().time()
            if self._is_open:
                self.on_audio(math.inf)

    def resume(self) -> None:
        """Continue after a pause."""
        super().resume()
        if self._paused_at is None:
            return
        paused_seconds = asyncio.get_running_loop().time() - self._paused_at
        self._paused_at = None
        if self._is_open:
            self._extend(paused_seconds)

    def on_playback_started(self, *, created_at: float) -> None:
        """Report the start of a speech, not that of a prepared phrase."""
        if self._prepared_ended.is_set():
            super().on_playback_started(created_at=created_at)

    def on_playback_progressed(self, *, started_at: float, offset: float, duration: float) -> None:
        """Report the progress of a speech, not that of a prepared phrase."""
        if self._prepared_ended.is_set():
            super().on_playback_progressed(started_at=started_at, offset=offset, duration=duration)

    def on_playback_finished(
        self, *, playback_position: float, interrupted: bool, synchronized_transcript: str | None = None
    ) -> None:
        """Report the end of a speech, not that of a prepared phrase."""
        if not self._prepared_ended.is_set():
            self._prepared_ended.set()
            return
        super().on_playback_finished(
            playback_position=playback_position,
            interrupted=interrupted,
            synchronized_transcript=synchronized_transcript,
        )

    @property
    def _sink(self) -> AudioOutput:
        assert self.next_in_chain is not None
        return self.next_in_chain

    async def _pass_on(self, frame: rtc.AudioFrame) -> None:
        await self._sink.capture_frame(frame)

    async def _wait_for_prepared(self) -> None:
        if self._prepared_ended.is_set():
            return
        try:
            await asyncio.wait_for(self._prepared_ended.wait(), budget.PREPARED_PLAYOUT_SECONDS)
        except TimeoutError:
            self._prepared_ended.set()

    def _extend(self, seconds: float) -> None:
        self._lasts_until = max(self._lasts_until, asyncio.get_running_loop().time()) + seconds
        self.on_audio(self._lasts_until if self._paused_at is None else math.inf)

    def _end(self, *, interrupted: bool) -> None:
        self._is_open = False
        self.on_ended(interrupted)

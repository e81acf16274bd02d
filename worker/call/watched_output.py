"""An audio output that detects when the next output does not play."""

import asyncio
import logging
from collections.abc import Callable

from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities, PlaybackFinishedEvent

from worker.call import budget

logger = logging.getLogger(__name__)


class WatchedOutput(AudioOutput):
    """Passes audio to an avatar's output; calls `on_stalled` when the avatar does not report playback in time.

    The SDK waits for that report without a limit, and the agent stays mute meanwhile.
    """

    def __init__(
        self, sink: AudioOutput, *, on_stalled: Callable[[], None], grace_seconds: float = budget.AVATAR_STALL_SECONDS
    ) -> None:
        super().__init__(
            label="WatchedOutput",
            capabilities=AudioOutputCapabilities(pause=False),
            next_in_chain=sink,
            sample_rate=sink.sample_rate,
        )
        self._on_stalled = on_stalled
        self._grace_seconds = grace_seconds
        self._started_at: float | None = None
        self._pushed_seconds = 0.0
        self._is_broken = False
        """The stream to the avatar failed in this segment."""
        self._timer: asyncio.TimerHandle | None = None
        self.on("playback_finished", self._on_finished)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Pass a frame to the next output."""
        await super().capture_frame(frame)
        if self._started_at is None:
            self._started_at = asyncio.get_running_loop().time()
        self._pushed_seconds += frame.duration
        assert self.next_in_chain is not None
        if self._is_broken:
            return
        try:
            await self.next_in_chain.capture_frame(frame)
        except rtc.StreamError as error:  # the room was closed, or the avatar left: playback is never reported
            self._is_broken = True
            logger.warning("avatar takes no more audio", extra={"error": str(error)})

    def flush(self) -> None:
        """End the segment, which sets when its playback is due."""
        super().flush()
        self._is_broken = False
        assert self.next_in_chain is not None
        self.next_in_chain.flush()
        if self._started_at is None:
            return
        self._cancel()
        due = self._started_at + self._pushed_seconds + self._grace_seconds
        self._timer = asyncio.get_running_loop().call_at(due, self._on_stalled)

    def clear_buffer(self) -> None:
        """Stop playing."""
        assert self.next_in_chain is not None
        self.next_in_chain.clear_buffer()

    def on_detached(self) -> None:
        """Stop expecting playback."""
        self._cancel()
        super().on_detached()

    def _on_finished(self, _: PlaybackFinishedEvent) -> None:
        self._started_at, self._pushed_seconds = None, 0.0
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

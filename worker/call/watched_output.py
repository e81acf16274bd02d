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
        self._plays_until: float | None = None
        """When the audio of this segment would have played without any delay; None: nothing is to be played."""
        self._capture: asyncio.Future[None] | None = None
        """The frame that the sink is taking. A frozen avatar may never take it."""
        self._is_detached = False
        self._is_broken = False
        """The stream to the avatar failed in this segment."""
        self._timer: asyncio.TimerHandle | None = None
        self.on("playback_finished", self._on_finished)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Pass a frame to the next output."""
        await super().capture_frame(frame)
        self._plays_until = max(self._plays_until or 0.0, asyncio.get_running_loop().time()) + frame.duration
        assert self.next_in_chain is not None
        if self._is_broken or self._is_detached:
            return
        self._capture = asyncio.ensure_future(self.next_in_chain.capture_frame(frame))
        try:
            await self._capture
        except asyncio.CancelledError:
            if not self._is_detached:
                raise
        except (rtc.StreamError, AssertionError) as error:
            # The room was closed, or the avatar left: playback is never reported. The native library then does not know
            # the stream, which its Python side asserts (livekit 1.1.21, _ffi_client.py `request`).
            self._is_broken = True
            logger.warning("avatar rejected audio", extra={"error": str(error) or "unknown stream"})

    def flush(self) -> None:
        """End the segment, which sets when its playback is due."""
        super().flush()
        self._is_broken = False
        assert self.next_in_chain is not None
        self.next_in_chain.flush()
        if self._plays_until is None:
            return
        self._expect_report(self._plays_until, self._grace_seconds)

    def is_due(self) -> bool:
        """Return whether the next output should be playing now."""
        return self._plays_until is not None and asyncio.get_running_loop().time() < self._plays_until

    def clear_buffer(self) -> None:
        """Stop playing. The next output reports what it has played until then."""
        if self._plays_until is not None:
            self._plays_until = None
            self._expect_report(asyncio.get_running_loop().time(), budget.AVATAR_CLEAR_SECONDS)
        assert self.next_in_chain is not None
        self.next_in_chain.clear_buffer()

    def on_detached(self) -> None:
        """Stop expecting playback, and let go of a frame that the next output does not take."""
        self._cancel()
        self._is_detached, self._plays_until = True, None
        if self._capture is not None:
            self._capture.cancel()
        super().on_detached()

    def _on_finished(self, _: PlaybackFinishedEvent) -> None:
        self._plays_until = None
        self._cancel()

    def _expect_report(self, at: float, grace_seconds: float) -> None:
        self._cancel()
        self._timer = asyncio.get_running_loop().call_at(at + grace_seconds, self._on_stalled)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

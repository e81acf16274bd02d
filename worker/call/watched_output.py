"""An audio output that notices when what is behind it does not play."""

import asyncio
from collections.abc import Callable
from typing import Final

from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities, PlaybackFinishedEvent

STALL_SECONDS: Final = 8.0
"""How much longer than the audio itself an avatar may take to have played it: rendering and the way back included."""


class WatchedOutput(AudioOutput):
    """Passes audio on to an avatar's output; calls `on_stalled` when the avatar does not report it played in time.

    The SDK waits for that report for ever, with the agent mute.
    """

    def __init__(self, sink: AudioOutput, *, on_stalled: Callable[[], None], grace: float = STALL_SECONDS) -> None:
        super().__init__(
            label="WatchedOutput",
            capabilities=AudioOutputCapabilities(pause=False),
            next_in_chain=sink,
            sample_rate=sink.sample_rate,
        )
        self._on_stalled = on_stalled
        self._grace = grace
        self._begun: float | None = None
        self._pushed = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.on("playback_finished", self._finished)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Pass a frame on."""
        await super().capture_frame(frame)
        if self._begun is None:
            self._begun = asyncio.get_running_loop().time()
        self._pushed += frame.duration
        assert self.next_in_chain is not None
        await self.next_in_chain.capture_frame(frame)

    def flush(self) -> None:
        """End the segment: from now on it is known when it should have been played."""
        super().flush()
        assert self.next_in_chain is not None
        self.next_in_chain.flush()
        if self._begun is None:
            return
        self._cancel()
        due = self._begun + self._pushed + self._grace
        self._timer = asyncio.get_running_loop().call_at(due, self._on_stalled)

    def clear_buffer(self) -> None:
        """Stop playing."""
        assert self.next_in_chain is not None
        self.next_in_chain.clear_buffer()

    def on_detached(self) -> None:
        """No longer in use: nothing is due."""
        self._cancel()
        super().on_detached()

    def _finished(self, _: PlaybackFinishedEvent) -> None:
        self._begun, self._pushed = None, 0.0
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

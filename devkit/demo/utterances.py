"""Divides what a caller hears into utterances. It has no clock: the caller passes the time."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

AUDIBLE = 300.0
"""Root mean square of 16-bit samples that counts as audible; decoded silence stays below 10."""
QUIET_SECONDS = 1.6
"""Silence that ends an utterance: longer than the pauses between synthesised sentences."""


@dataclass(frozen=True)
class Utterance:
    """Speech without a long pause: its speaker, begin and end on the listener's clock, and samples."""

    speaker: str
    start: float
    end: float
    samples: Samples
    rate: int


@dataclass
class UtteranceSplitter:
    """Divides the frames of one track into utterances."""

    rate: int
    speaker: str
    quiet_seconds: float = QUIET_SECONDS
    _frames: list[Samples] = field(default_factory=list)
    _start: float = 0.0
    _last_sound: float = 0.0

    @property
    def hearing(self) -> bool:
        """Whether an utterance has begun and not ended."""
        return bool(self._frames)

    @property
    def started(self) -> float:
        """When the current utterance began."""
        return self._start

    @property
    def last_sound(self) -> float:
        """When the last audible frame arrived; 0.0: none has."""
        return self._last_sound

    def listen(self, frame: Samples, now: float) -> Utterance | None:
        """Add a frame that arrived at `now`; return the utterance that it ends, or None."""
        loud = float(np.sqrt(np.mean(frame.astype(np.float64) ** 2))) >= AUDIBLE if frame.size else False
        if loud and not self._frames:
            self._start = now
        if loud:
            self._last_sound = now
        if loud or self._frames:
            self._frames.append(frame)
        if self._frames and now - self._last_sound >= self.quiet_seconds:
            return self.finish()
        return None

    def finish(self) -> Utterance | None:
        """End the current utterance, for example because the track ended."""
        if not self._frames:
            return None
        samples = np.concatenate(self._frames)
        self._frames = []
        return Utterance(self.speaker, self._start, self._last_sound, samples, self.rate)

"""What a caller hears: sound cut into utterances. Pure but for the clock that the caller passes in."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

AUDIBLE = 300.0
"""Root mean square of 16-bit samples from which a person would call it sound; decoded silence stays below 10."""
QUIET_SECONDS = 1.6
"""Silence that ends an utterance: longer than the pauses between sentences, which a synthesiser makes one at a time."""


@dataclass(frozen=True)
class Utterance:
    """Something said without a long pause: by whom, when it began and ended (the listener's clock), and its samples."""

    speaker: str
    start: float
    end: float
    samples: Samples
    rate: int


@dataclass
class Ear:
    """Cuts one track's frames into utterances."""

    rate: int
    speaker: str
    _frames: list[Samples] = field(default_factory=list)
    _start: float = 0.0
    _last_sound: float = 0.0

    @property
    def hearing(self) -> bool:
        """Inside an utterance."""
        return bool(self._frames)

    @property
    def started(self) -> float:
        """When the utterance being heard began."""
        return self._start

    def listen(self, frame: Samples, now: float) -> Utterance | None:
        """Take one frame that arrived at `now`; return the utterance that it ends, if it does."""
        loud = float(np.sqrt(np.mean(frame.astype(np.float64) ** 2))) >= AUDIBLE if frame.size else False
        if loud and not self._frames:
            self._start = now
        if loud:
            self._last_sound = now
        if loud or self._frames:
            self._frames.append(frame)
        if self._frames and now - self._last_sound >= QUIET_SECONDS:
            return self.finish()
        return None

    def finish(self) -> Utterance | None:
        """End the utterance being heard, as when the track ends."""
        if not self._frames:
            return None
        samples = np.concatenate(self._frames)
        self._frames = []
        return Utterance(self.speaker, self._start, self._last_sound, samples, self.rate)

"""Detects turns by loudness, as a session's `turn_detection` asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from devkit.providers.synthesis import SAMPLE_RATE, Samples

_WINDOW = SAMPLE_RATE // 50
_LOUD = 400.0
"""Root mean square of 20 ms (of 32,768) that counts as speech."""


class Activity(Enum):
    """What a detector noticed."""

    STARTED = auto()
    STOPPED = auto()


@dataclass
class TurnDetector:
    """The detector of one session. Quiet that lasts `silence_seconds` ends a turn."""

    silence_seconds: float
    _is_speaking: bool = False
    _quiet_seconds: float = 0.0
    _pending: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.int16))

    def hear(self, samples: Samples) -> list[Activity]:
        """Return what happened in the samples."""
        found = []
        pending = np.concatenate((self._pending, samples))
        whole = len(pending) - len(pending) % _WINDOW
        for window in pending[:whole].reshape(-1, _WINDOW):
            if (activity := self._hear_window(window)) is not None:
                found.append(activity)
        self._pending = pending[whole:]
        return found

    def _hear_window(self, window: Samples) -> Activity | None:
        if float(np.sqrt(np.mean(np.square(window.astype(np.float64))))) >= _LOUD:
            self._quiet_seconds = 0.0
            if not self._is_speaking:
                self._is_speaking = True
                return Activity.STARTED
            return None
        self._quiet_seconds += _WINDOW / SAMPLE_RATE
        if self._is_speaking and self._quiet_seconds >= self.silence_seconds:
            self._is_speaking = False
            return Activity.STOPPED
        return None

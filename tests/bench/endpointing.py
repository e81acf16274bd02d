"""Replays turns through the session's local models, faster than real time, and computes the end of each turn.

The models run as the session runs them (livekit-agents 1.8.9, voice/audio_recognition.py): the session's stream detects
speech, and the end-of-turn model judges the last 1.2 s once, after 0.2 s of silence. The session then ends the turn
after the minimum or the maximum delay, counted from the last word. The delays are arithmetic, so one replay serves the
whole curve.
"""

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from livekit import rtc
from livekit.agents.vad import VADEvent, VADEventType
from livekit.local_inference import EOT, EOT_MAX_SAMPLES, VAD_WINDOW_SAMPLES

from tests.bench.turns import SAMPLE_RATE, Samples
from worker.call.speech_detection import SpeechDetector

JUDGED_SILENCE: Final = 0.2
"""Seconds of silence after which the session asks the end-of-turn model."""
FIRST_SOUND_SECONDS: Final = 0.04
"""From the end of the turn to the first sound that leaves the session, with providers that answer at once.

Measured with the product's session in tests/unit/worker/conversation.py: 0.03 to 0.05 s.
"""
SHORTEST_PAUSE: Final = 0.3
"""Silence, in seconds, that makes what precedes it an unfinished turn."""
_LEAD_SECONDS: Final = 0.5
_TAIL_SECONDS: Final = 0.7


@dataclass(frozen=True)
class Pause:
    """A silence of the caller in which the session may end the turn."""

    probability: float
    """That the turn is complete, by the model."""
    silence: float = math.inf
    """Seconds without sound; infinite: the turn was complete."""
    heard_again: float = math.inf
    """Seconds from the last word until the session notices that the caller continues.

    An answer that has not begun by then is held back and dropped (`AgentActivity.on_start_of_speech`).
    """


@dataclass(frozen=True)
class Delays:
    """Settings of a point of the curve."""

    threshold_scale: float
    """Times the model's own threshold of the language."""
    minimum: float
    maximum: float

    def decided(self, turn: "Turns", pause: Pause) -> float:
        """Return the seconds from the last word to the end of the turn."""
        is_complete = turn.threshold is None or pause.probability >= turn.threshold * self.threshold_scale
        return self.minimum if is_complete else self.maximum


@dataclass(frozen=True)
class Turns:
    """The turns of one voice."""

    voice: str
    threshold: float | None
    """The model's own threshold of the language; none: silence alone ends the turn."""
    is_synthetic: bool
    complete: tuple[Pause, ...]
    unfinished: tuple[Pause, ...]


async def replay(samples: Samples, eot: EOT) -> list[Pause]:
    """Return the pauses of a recording; the last one is its end."""
    audio = np.concatenate(
        [
            np.zeros(int(_LEAD_SECONDS * SAMPLE_RATE), np.int16),
            samples,
            np.zeros(int(_TAIL_SECONDS * SAMPLE_RATE), np.int16),
        ]
    )
    pauses: list[Pause] = []
    last_word = probability = 0.0
    is_judged = False
    async for event in _events(audio):
        match event.type:
            case VADEventType.INFERENCE_DONE:
                if event.raw_accumulated_silence < JUDGED_SILENCE:
                    is_judged = False
                elif event.speaking and not is_judged:
                    end = int(event.timestamp * SAMPLE_RATE)
                    probability = eot.predict(np.ascontiguousarray(audio[max(0, end - EOT_MAX_SAMPLES) : end]))
                    is_judged = True
            case VADEventType.END_OF_SPEECH:
                last_word = event.timestamp - event.silence_duration
                pauses.append(Pause(probability))
            case VADEventType.START_OF_SPEECH if pauses:
                heard_again = event.timestamp - last_word
                pauses[-1] = Pause(pauses[-1].probability, heard_again - event.speech_duration, heard_again)
    return pauses


async def _events(audio: Samples) -> AsyncIterator[VADEvent]:
    """Yield what the session's speech detector finds, without waiting for real time."""
    stream = SpeechDetector().stream()
    for start in range(0, audio.size - VAD_WINDOW_SAMPLES + 1, VAD_WINDOW_SAMPLES):
        window = audio[start : start + VAD_WINDOW_SAMPLES]
        stream.push_frame(rtc.AudioFrame(window.tobytes(), SAMPLE_RATE, 1, VAD_WINDOW_SAMPLES))
    stream.end_input()
    try:
        async for event in stream:
            yield event
    finally:
        await stream.aclose()


def waiting(turns: Turns, delays: Delays) -> tuple[float, float]:
    """Return the median and the 95th percentile of the seconds from the last word to the end of a complete turn.

    The processor time of the model is not included, nor that of the providers.
    """
    decided = [delays.decided(turns, pause) for pause in turns.complete]
    return float(np.quantile(decided, 0.5)), float(np.quantile(decided, 0.95, method="higher"))


def cut_ins(turns: Turns, delays: Delays) -> float:
    """Return the share of unfinished turns in which the caller hears the agent before the caller continues.

    That is: the answer's first sound leaves the session, `FIRST_SOUND_SECONDS` after the end of the turn, before the
    session notices that the caller speaks again. The providers answer at once, which is the worst case.
    """
    return _answered(turns, delays, lambda pause: pause.heard_again)


def answered_in_pause(turns: Turns, delays: Delays, seconds: float) -> float:
    """Return the share of unfinished turns that would be answered if each pause were so long."""
    return _answered(turns, delays, lambda _: seconds)


def _answered(turns: Turns, delays: Delays, before: Callable[[Pause], float]) -> float:
    answered = [delays.decided(turns, pause) + FIRST_SOUND_SECONDS < before(pause) for pause in turns.unfinished]
    return sum(answered) / len(answered)

"""Detects speech with the SDK's model and rules, at a third of the processor time of the SDK's own streams.

A call detects speech twice: the session for turns and interruptions, and the SDK's `stt.StreamAdapter` for the audio to
transcribe. The two cannot share one result: while the agent says what nobody may interrupt, the adapter gets silence
and the session gets the caller (livekit-agents 1.8.9, voice/agent_activity.py `push_audio`).

The model itself takes 0.02 ms for 32 ms of audio. The SDK's stream (inference/vad.py) spends most of its time around
it: a thread for each inference, a resampler, three tasks, and copies of all audio. Here the caller of `push_frame` runs
the model, and the room's audio already has the model's rate (`SAMPLE_RATE`).

tests/unit/worker/test_speech_detection.py compares all events with those of the installed SDK.
"""

import logging
from typing import Final, cast

import numpy as np
from livekit import local_inference, rtc
from livekit.agents import utils, vad
from livekit.agents.voice.room_io import AudioInputOptions

logger = logging.getLogger(__name__)

SAMPLE_RATE: Final = 16_000
"""Of the model, in Hz. Both local models and Whisper use this rate, so audio of it is never resampled."""
ROOM_AUDIO: Final = AudioInputOptions(sample_rate=SAMPLE_RATE, auto_gain_control=True)
"""The caller's audio as sessions get it.

Automatic gain control takes 0.003 cores for each call, and quiet callers need it. Of 30 telephone prompts at -50 dBFS,
speech was found late or not at all in 3 without it, at -60 dBFS in 18, and in none with it. From -40 dBFS on, all were
found without it too.
"""
_WINDOW_BYTES: Final = 2 * local_inference.VAD_WINDOW_SAMPLES
_WINDOW_SECONDS: Final = local_inference.VAD_WINDOW_SAMPLES / SAMPLE_RATE

# The SDK's defaults (inference/vad.py `VAD.__init__`).
_MIN_SPEECH_SECONDS: Final = 0.05
_MIN_SILENCE_SECONDS: Final = 0.25
_PADDING_SECONDS: Final = 0.5
"""How much of the audio before the speech belongs to it."""
_MAX_SPEECH_SECONDS: Final = 60.0
"""How much of one speech is transcribed."""
_BEGINS_AT: Final = 0.5
"""Least probability of a window in which speech begins."""
_CONTINUES_ABOVE: Final = 0.35

_PADDING_BYTES: Final = int(2 * SAMPLE_RATE * _PADDING_SECONDS)
_MAX_BYTES: Final = int(2 * SAMPLE_RATE * _MAX_SPEECH_SECONDS) + _PADDING_BYTES


class SpeechDetector(vad.VAD):
    """The speech detection of a session; replaces `inference.VAD`. It emits no `metrics_collected`."""

    def __init__(self) -> None:
        super().__init__(capabilities=vad.VADCapabilities(update_interval=_WINDOW_SECONDS))

    @property
    def model(self) -> str:
        return "silero"

    @property
    def provider(self) -> str:
        return "livekit-local-inference"

    @property
    def min_silence_duration(self) -> float:
        """Silence, in seconds, that ends a speech. The session compares it with what its turn detector needs."""
        return _MIN_SILENCE_SECONDS

    def stream(self) -> vad.VADStream:
        """Return a stream with a state of its own."""
        return cast(vad.VADStream, DetectionStream())


class DetectionStream:
    """The methods of `vad.VADStream`, without its tasks: `push_frame` detects, and reading returns the events."""

    def __init__(self) -> None:
        self._events = utils.aio.Chan[vad.VADEvent]()
        self._model = local_inference.VAD()
        self._begin()

    def _begin(self) -> None:
        """Forget the audio so far."""
        self._model.reset()
        self._pending = bytearray()
        """Audio that does not fill a window yet."""
        self._heard = bytearray()
        """The present speech and the audio before it; in silence, the padding of the next speech."""
        self._samples = 0
        self._is_speaking = False
        self._speech_seconds = self._silence_seconds = 0.0
        """As events report them: what is pending counts for the state before it."""
        self._loud_seconds = self._quiet_seconds = 0.0
        """How long the last windows have all been speech, or all been silence."""

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        """Detect speech in some audio. Raises ValueError for another format than mono of `SAMPLE_RATE`."""
        if self._events.closed:
            raise RuntimeError("the stream is closed")
        if (frame.sample_rate, frame.num_channels) != (SAMPLE_RATE, 1):
            raise ValueError(f"audio of {frame.sample_rate} Hz, {frame.num_channels} channels; need {SAMPLE_RATE}, 1")
        self._pending += frame.data.cast("B")
        while len(self._pending) >= _WINDOW_BYTES:
            window = bytes(self._pending[:_WINDOW_BYTES])
            del self._pending[:_WINDOW_BYTES]
            self._detect(window)

    def flush(self) -> None:
        """Begin anew, as if no audio had been pushed."""
        if self._events.closed:
            raise RuntimeError("the stream is closed")
        self._begin()

    def end_input(self) -> None:
        """End the input. Reading ends after the events so far."""
        self.flush()
        self._events.close()

    async def aclose(self) -> None:
        """End the stream, and drop events that were not read."""
        self._events.close()
        while not self._events.empty():
            self._events.recv_nowait()

    def __aiter__(self) -> "DetectionStream":
        return self

    async def __anext__(self) -> vad.VADEvent:
        return await self._events.__anext__()

    def _detect(self, window: bytes) -> None:
        probability = self._model.predict(np.frombuffer(window, np.int16))
        self._samples += local_inference.VAD_WINDOW_SAMPLES
        self._keep(window)
        if self._is_speaking:
            self._speech_seconds += _WINDOW_SECONDS
        else:
            self._silence_seconds += _WINDOW_SECONDS
        self._send(vad.VADEventType.INFERENCE_DONE, probability=probability)
        if probability >= _BEGINS_AT or (self._is_speaking and probability > _CONTINUES_ABOVE):
            self._on_speech()
        else:
            self._on_silence()

    def _on_speech(self) -> None:
        self._loud_seconds += _WINDOW_SECONDS
        self._quiet_seconds = 0.0
        if not self._is_speaking and self._loud_seconds >= _MIN_SPEECH_SECONDS:
            self._is_speaking = True
            self._silence_seconds, self._speech_seconds = 0.0, self._loud_seconds
            self._send(vad.VADEventType.START_OF_SPEECH)

    def _on_silence(self) -> None:
        self._quiet_seconds += _WINDOW_SECONDS
        self._loud_seconds = 0.0
        if self._is_speaking and self._quiet_seconds >= _MIN_SILENCE_SECONDS:
            self._is_speaking = False
            self._silence_seconds = self._quiet_seconds
            self._speech_seconds = max(0.0, self._speech_seconds - self._quiet_seconds)
            self._send(vad.VADEventType.END_OF_SPEECH)
            self._speech_seconds = 0.0
        if not self._is_speaking:
            del self._heard[:-_PADDING_BYTES]

    def _keep(self, window: bytes) -> None:
        """Append to the audio to transcribe, until it is full."""
        before = len(self._heard)
        self._heard += window[: _MAX_BYTES - before]
        if before < _MAX_BYTES == len(self._heard):
            logger.warning("speech too long, rest not transcribed", extra={"seconds": _MAX_SPEECH_SECONDS})

    def _send(self, kind: vad.VADEventType, *, probability: float = 0.0) -> None:
        """Send an event. Those of windows carry the runs before the window, the others the audio, as the SDK's do."""
        is_window = kind is vad.VADEventType.INFERENCE_DONE
        event = vad.VADEvent(
            type=kind,
            samples_index=self._samples,
            timestamp=self._samples / SAMPLE_RATE,
            speech_duration=self._speech_seconds,
            silence_duration=self._silence_seconds,
            frames=[] if is_window else [self._speech()],
            probability=probability,
            speaking=self._is_speaking,
            raw_accumulated_silence=self._quiet_seconds if is_window else 0.0,
            raw_accumulated_speech=self._loud_seconds if is_window else 0.0,
        )
        self._events.send_nowait(event)

    def _speech(self) -> rtc.AudioFrame:
        return rtc.AudioFrame(bytes(self._heard), SAMPLE_RATE, 1, len(self._heard) // 2)

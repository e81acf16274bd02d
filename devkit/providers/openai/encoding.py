"""Encoders for speech in OpenAI's formats, piece by piece: raw samples, WAV and MP3."""

from __future__ import annotations

import io
import struct
from typing import Protocol

import av
from av.audio.stream import AudioStream

from devkit.providers.synthesis import SAMPLE_RATE, Samples

_UNKNOWN_LENGTH = 0xFFFFFFFF
"""Size in the header of a streamed WAV whose length is unknown, as OpenAI sends it."""


class Encoder(Protocol):
    """Encodes samples piece by piece."""

    content_type: str

    def encode(self, samples: Samples) -> bytes:
        """Return the bytes that are complete after `samples`, possibly none."""

    def finish(self) -> bytes:
        """Return the last bytes."""


class Pcm:
    """24 kHz, 16-bit signed little-endian, mono, without a header."""

    content_type = "audio/pcm"

    def encode(self, samples: Samples) -> bytes:
        """Return the samples as they are."""
        return samples.astype("<i2", copy=False).tobytes()

    def finish(self) -> bytes:
        """Return nothing, because raw samples need no end."""
        return b""


class Wav(Pcm):
    """The same samples behind a WAV header of unknown length."""

    content_type = "audio/wav"

    def __init__(self) -> None:
        self._header = struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            *(b"RIFF", _UNKNOWN_LENGTH, b"WAVE", b"fmt ", 16, 1, 1, SAMPLE_RATE, SAMPLE_RATE * 2, 2, 16),
            *(b"data", _UNKNOWN_LENGTH),
        )

    def encode(self, samples: Samples) -> bytes:
        """Return the header, once, and the samples."""
        header, self._header = self._header, b""
        return header + super().encode(samples)


class Mp3:
    """MPEG layer 3 at 24 kHz, mono."""

    content_type = "audio/mpeg"

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        # No Xing header: writing it would mean going back to the start of what has been sent.
        self._container = av.open(self._buffer, "w", format="mp3", options={"write_xing": "0"})
        self._stream: AudioStream = self._container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono")

    def encode(self, samples: Samples) -> bytes:
        """Return the MP3 frames that are complete after `samples`."""
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        self._container.mux(self._stream.encode(frame))
        return self._take()

    def finish(self) -> bytes:
        """Return the last MP3 frames."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._take()

    def _take(self) -> bytes:
        ready = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return ready


ENCODERS: dict[str, type[Encoder]] = {"pcm": Pcm, "wav": Wav, "mp3": Mp3}
"""By OpenAI's `response_format`."""

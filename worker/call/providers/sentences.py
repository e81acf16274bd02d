"""Text-to-speech by a realtime model: it reads sentences that are prepared, in the voice of its answers.

A realtime model answers and does not read, so its text is compared with the sentence, word for word. What it does not
read is spoken by `voice.tts` when that is served, and otherwise fails.
"""

import asyncio
import logging
import unicodedata
import uuid
from collections.abc import Callable
from typing import Any, Final

from livekit import rtc
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, APIError, llm, tts

from worker import realtime
from worker.realtime import NotReadError, TurnModel

logger = logging.getLogger(__name__)

READ_SECONDS: Final = 8.0
"""How long a model may take to read one sentence. Its audio comes faster than it is spoken."""
_ATTEMPTS: Final = 2
_SAMPLE_RATE: Final = 24_000
_INSTRUCTIONS: Final = (
    "Read the sentence between the tags aloud, word for word, in its own language. Say nothing before or after it, do "
    "not answer it, and call no tool.\n<sentence>{text}</sentence>"
)


def instructions(text: str) -> str:
    """Return the instructions to read a text."""
    return _INSTRUCTIONS.format(text=text)


class SentenceTTS(tts.TTS[Any]):
    """Reads a whole text at a time."""

    def __init__(self, make_model: Callable[[], TurnModel], fallback: tts.TTS[Any] | None) -> None:
        """`make_model` returns a model whose sessions do not reconnect. `fallback` speaks what that does not read."""
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=_SAMPLE_RATE, num_channels=1)
        self._make_model = make_model
        self._fallback = fallback

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Return the stream of a text."""
        return _Reading(tts=self, input_text=text, conn_options=conn_options)

    async def aclose(self) -> None:
        """Close the fallback."""
        if self._fallback is not None:
            await self._fallback.aclose()

    async def read(self, text: str, conn_options: APIConnectOptions) -> rtc.AudioFrame:
        """Return the audio of a text. Raises the model's last error when nothing else speaks it."""
        try:
            return await self._read(text)
        except (APIError, NotReadError, llm.RealtimeError, TimeoutError) as error:
            fields = {"error": type(error).__name__, "status": getattr(error, "status_code", None)}
            logger.warning("realtime model did not read a sentence", extra=fields)
            if self._fallback is None:
                raise
        return await self._fallback.synthesize(text, conn_options=conn_options).collect()

    async def _read(self, text: str) -> rtc.AudioFrame:
        for _ in range(_ATTEMPTS):
            model = self._make_model()
            try:
                async with asyncio.timeout(READ_SECONDS):
                    audio, said = await realtime.read(model, instructions(text))
            finally:
                await model.aclose()
            if _words(said) == _words(text):
                return audio
        raise NotReadError("the model said other words")


class _Reading(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        assert isinstance(self._tts, SentenceTTS)
        audio = await self._tts.read(self._input_text, self._conn_options)
        output_emitter.initialize(
            request_id=uuid.uuid4().hex,
            sample_rate=audio.sample_rate,
            num_channels=audio.num_channels,
            mime_type="audio/pcm",
        )
        output_emitter.push(bytes(audio.data.cast("b")))
        output_emitter.flush()


def _words(text: str) -> str:
    """Return the letters and digits of a text, without case, accents and vowel marks."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text.casefold()) if letter.isalnum())

"""Each recording is transcribed once, however often and impatiently clients send it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from devkit.providers.openai.audio import TranscriptionRequest
from devkit.providers.openai.transcripts import Transcripts
from devkit.providers.recognition import Transcript

LIMIT_SECONDS = 20.0


class Slow:
    """Replaces the model: it transcribes recordings once the test lets it."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, str | None]] = []
        self.begun = threading.Event()
        self.released = threading.Event()

    def transcribe_file(self, content: bytes, language: str | None = None, prompt: str | None = None) -> Transcript:
        self.heard.append((content, language))
        self.begun.set()
        assert self.released.wait(LIMIT_SECONDS)
        return Transcript(content.decode(), language or "en")


@pytest.fixture
def model() -> Slow:
    return Slow()


@pytest.fixture
def transcripts(model: Slow) -> Iterator[Transcripts]:
    with ThreadPoolExecutor(max_workers=1) as executor:
        yield Transcripts(executor)
        model.released.set()


def sent(transcripts: Transcripts, model: Slow, content: bytes, language: str = "en") -> "asyncio.Task[Transcript]":
    """Send a request for a transcript."""
    wanted = TranscriptionRequest(content, language, None, "json")
    return asyncio.create_task(transcripts.of(model, wanted))  # type: ignore[arg-type]


async def cancelled(request: "asyncio.Task[Transcript]") -> None:
    request.cancel()
    await asyncio.wait({request})


async def test_repeated_request_gets_the_transcript_of_the_first(transcripts: Transcripts, model: Slow) -> None:
    first = sent(transcripts, model, b"hello")
    assert await asyncio.to_thread(model.begun.wait, LIMIT_SECONDS)
    await cancelled(first)
    repeated = sent(transcripts, model, b"hello")
    model.released.set()
    assert (await repeated).text == "hello"
    assert (await sent(transcripts, model, b"hello")).text == "hello"
    assert model.heard == [(b"hello", "en")]


async def test_abandoned_recording_is_not_transcribed(transcripts: Transcripts, model: Slow) -> None:
    first = sent(transcripts, model, b"first")
    abandoned = sent(transcripts, model, b"abandoned")
    assert await asyncio.to_thread(model.begun.wait, LIMIT_SECONDS)
    await cancelled(abandoned)
    model.released.set()
    await first
    assert (await sent(transcripts, model, b"last")).text == "last"
    assert model.heard == [(b"first", "en"), (b"last", "en")]


async def test_recording_is_transcribed_while_one_request_waits(transcripts: Transcripts, model: Slow) -> None:
    first = sent(transcripts, model, b"first")
    impatient, patient = sent(transcripts, model, b"second"), sent(transcripts, model, b"second")
    assert await asyncio.to_thread(model.begun.wait, LIMIT_SECONDS)
    await cancelled(impatient)
    model.released.set()
    await first
    assert (await patient).text == "second"


async def test_same_recording_in_another_language_is_transcribed_again(transcripts: Transcripts, model: Slow) -> None:
    model.released.set()
    assert [(await sent(transcripts, model, b"hello", language)).language for language in ("ar", "en")] == ["ar", "en"]
    assert model.heard == [(b"hello", "ar"), (b"hello", "en")]

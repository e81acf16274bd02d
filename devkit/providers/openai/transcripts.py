"""Transcripts of recordings: one recording at a time, and each only once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from concurrent.futures import Executor, Future

from devkit.providers.openai.audio import TranscriptionRequest
from devkit.providers.recognition import Recogniser, Transcript

_KEPT = 64
"""Recordings whose transcripts are kept."""


class Transcripts:
    """Transcribes recordings in the threads of an executor.

    A recording that was sent before gets the same transcript. So a client that repeats a request because it took too
    long waits for the first one, not for a second one behind it. And workers that start, which all try the provider
    with the same phrase, cost the machine nothing.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._known: dict[bytes, Future[Transcript]] = {}
        self._waiting: Counter[bytes] = Counter()
        """How many requests wait for a recording."""

    async def of(self, recogniser: Recogniser, wanted: TranscriptionRequest) -> Transcript:
        """Return the transcript of a recording. Raises `RecognitionError`.

        When every request for a recording was cancelled before its turn, it is not transcribed.
        """
        key = _key(wanted)
        future = self._known.get(key)
        if future is None:
            arguments = (wanted.content, wanted.language, wanted.prompt)
            future = self._known[key] = self._executor.submit(recogniser.transcribe_file, *arguments)
            if len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]
        self._waiting[key] += 1
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                if future.cancel() and self._known.get(key) is future:
                    del self._known[key]


def _key(wanted: TranscriptionRequest) -> bytes:
    digest = hashlib.sha256(wanted.content)
    digest.update(repr((wanted.language, wanted.prompt)).encode())
    return digest.digest()

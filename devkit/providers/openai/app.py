"""The simulated OpenAI's web application; synthesis and recognition run in their own threads."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from aiohttp.multipart import BodyPartReader

from devkit.providers import synthesis
from devkit.providers.openai import audio, chat, errors, models
from devkit.providers.openai.encoding import ENCODERS
from devkit.providers.openai.realtime import connection
from devkit.providers.openai.transcripts import Transcripts
from devkit.providers.recognition import Recogniser, RecognitionError
from devkit.providers.simulator import (
    ANSWER_FAULTS,
    HTTP_FAULTS,
    Fault,
    FaultKind,
    Provider,
    Settings,
    answer_in_pieces,
    application,
)

_CHUNK_SAMPLES = synthesis.SAMPLE_RATE // 10
_ENDPOINTS = {
    "/v1/audio/transcriptions": "transcriptions",
    "/v1/audio/speech": "speech",
    "/v1/chat/completions": "chat",
    "/v1/models": "models",
    "/v1/realtime": "realtime",
}


class OpenAI(Provider[Settings]):
    """OpenAI's API key header and error bodies."""

    name = "openai"
    endpoints = frozenset(_ENDPOINTS.values())
    fault_kinds = (
        HTTP_FAULTS | ANSWER_FAULTS | {FaultKind.FORBIDDEN, FaultKind.QUOTA, FaultKind.TOO_LONG, FaultKind.OTHER_WORDS}
    )
    settings_type = Settings
    last_chat: tuple[tuple[str, str], ...] = ()
    """Role and text of each message of the last chat request, for tests that check what a worker sends in a call.

    Requests without instructions are left out: a worker tries the model with one, at any time after its start.
    """

    def state(self) -> Mapping[str, object]:
        """Return the last chat request's messages."""
        return {"last_chat": [{"role": role, "content": text} for role, text in self.last_chat]}

    def endpoint_of(self, request: web.Request) -> str | None:
        """Return the endpoint by the path; everything under /v1 needs the key."""
        path = request.path.rstrip("/")
        if path in _ENDPOINTS:
            return _ENDPOINTS[path]
        return "models" if path.startswith("/v1/models/") else None

    def key_in(self, request: web.Request) -> str | None:
        """Return the bearer token."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None

    def refusal(self, kind: FaultKind, sent_key: str | None) -> errors.Body:
        """Return the body of OpenAI's error."""
        return errors.refusal(kind, sent_key)


def make_app(api_key: str, settings: Settings, *, recogniser: Callable[[], Recogniser] = Recogniser) -> web.Application:
    """Return the application; `recogniser` makes the recogniser, which is loaded before the first request is served."""
    provider = OpenAI(api_key, settings)
    app = application(provider, max_body_bytes=audio.MAX_UPLOAD_BYTES + 1024 * 1024)
    endpoints = _Endpoints(provider, recogniser)
    app.cleanup_ctx.append(endpoints.lifetime)
    app.add_routes(
        [
            web.post("/v1/audio/transcriptions", endpoints.transcribe),
            web.post("/v1/audio/speech", endpoints.speak),
            web.post("/v1/chat/completions", endpoints.chat),
            web.get("/v1/models", endpoints.list_models),
            web.get("/v1/models/{model}", endpoints.show_model),
            web.get("/v1/realtime", endpoints.converse),
        ]
    )
    return app


class _Endpoints:
    def __init__(self, provider: OpenAI, make_recogniser: Callable[[], Recogniser]) -> None:
        self._provider = provider
        self._make_recogniser = make_recogniser
        # Listening has one thread: the model uses every core by itself, and a queue is fair. Speaking is short and
        # must not wait behind it.
        self._listening = ThreadPoolExecutor(max_workers=1, thread_name_prefix="listen")
        self._speaking = ThreadPoolExecutor(max_workers=2, thread_name_prefix="speak")
        self._transcripts = Transcripts(self._listening)
        self._recogniser: Recogniser | None = None

    async def lifetime(self, _: web.Application) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        self._recogniser = await loop.run_in_executor(self._listening, self._make_recogniser)
        yield
        self._listening.shutdown(wait=False, cancel_futures=True)
        self._speaking.shutdown(wait=False, cancel_futures=True)

    async def list_models(self, _: web.Request) -> web.Response:
        return web.json_response(models.list_all())

    async def show_model(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        if not any(model in names for names in models.MODELS.values()):
            errors.reject(f"The model '{model}' does not exist", param="model", code="model_not_found", status=404)
        return web.json_response(models.describe(model))

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        assert self._recogniser is not None
        fields, content = await _form(request)
        wanted = audio.parse_transcription(fields, content, self._recogniser.languages)
        try:
            said = await self._transcripts.of(self._recogniser, wanted)
        except RecognitionError:
            errors.reject("The audio file could not be decoded or its format is not supported.", param="file")
        fault = self._provider.take_fault("transcriptions", ANSWER_FAULTS)
        if wanted.format == "text":
            body, content_type = said.text + "\n", "text/plain"
        else:
            body, content_type = json.dumps(audio.transcription(said, wanted.format)), "application/json"
        response = _streamed(f"{content_type}; charset=utf-8")
        return await answer_in_pieces(request, response, [] if _is_empty(fault) else _halves(body.encode()), fault)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        wanted = chat.parse(await _json(request))
        if chat.has_instructions(wanted.messages):
            self._provider.last_chat = wanted.messages
        fault = self._provider.take_fault("chat", ANSWER_FAULTS)
        said = "" if _is_empty(fault) else chat.answer(wanted.messages)
        identifier, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        if not wanted.stream:
            return web.json_response(chat.completion(wanted, said, identifier, created), headers=_request_id())
        response = _streamed("text/event-stream; charset=utf-8")
        events = list(chat.events(wanted, said, identifier, created))
        return await answer_in_pieces(request, response, events, fault)

    async def speak(self, request: web.Request) -> web.StreamResponse:
        wanted = audio.parse_speech(await _json(request))
        fault = self._provider.take_fault("speech", ANSWER_FAULTS)
        encoder = ENCODERS[wanted.format]()
        response = _streamed("text/event-stream" if wanted.as_events else encoder.content_type)

        def encoded(samples: synthesis.Samples) -> list[bytes]:
            chunks = (samples[start : start + _CHUNK_SAMPLES] for start in range(0, len(samples), _CHUNK_SAMPLES))
            pieces = (piece for chunk in chunks if (piece := encoder.encode(chunk)))
            return [audio.speech_delta(piece) if wanted.as_events else piece for piece in pieces]

        if _is_empty(fault):
            return await answer_in_pieces(request, response, [], fault)
        loop = asyncio.get_running_loop()
        for sentence in synthesis.sentences(wanted.text):
            samples = await loop.run_in_executor(self._speaking, synthesis.speak, sentence, wanted.voice, wanted.speed)
            if fault is not None:
                return await answer_in_pieces(request, response, encoded(samples), fault)
            # Only now: a sentence that cannot be spoken is a 500, not a broken stream.
            if not response.prepared:
                await response.prepare(request)
            for piece in encoded(samples):
                await response.write(piece)
        if rest := encoder.finish():
            await response.write(audio.speech_delta(rest) if wanted.as_events else rest)
        if wanted.as_events:
            await response.write(audio.speech_done(wanted.text))
        await response.write_eof()
        return response

    async def converse(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one session of the Realtime API."""
        socket = web.WebSocketResponse(max_msg_size=connection.MAX_MESSAGE_BYTES)
        await socket.prepare(request)
        loop = asyncio.get_running_loop()
        recogniser = self._recogniser
        assert recogniser is not None

        async def transcribe(samples: synthesis.Samples, language: str | None) -> str:
            rate = synthesis.SAMPLE_RATE
            said = await loop.run_in_executor(self._listening, recogniser.transcribe, samples, rate, language)
            return said.text

        async def speak(text: str, voice: str) -> synthesis.Samples:
            return await loop.run_in_executor(self._speaking, synthesis.speak, text, voice)

        def take_fault() -> Fault | None:
            return self._provider.take_fault("realtime", ANSWER_FAULTS | {FaultKind.OTHER_WORDS})

        session = connection.Connection(socket, transcribe=transcribe, speak=speak, take_fault=take_fault)
        await session.serve(request.query.get("model"))
        return socket


def _is_empty(fault: Fault | None) -> bool:
    return fault is not None and fault.kind is FaultKind.EMPTY


def _halves(body: bytes) -> list[bytes]:
    return [body[: len(body) // 2], body[len(body) // 2 :]]


async def _json(request: web.Request) -> object:
    try:
        return json.loads(await request.read())
    except ValueError:
        errors.reject("We could not parse the JSON body of your request.")


async def _form(request: web.Request) -> tuple[dict[str, str], bytes | None]:
    """Return the text fields and the file of a multipart form."""
    if not request.content_type.startswith("multipart/"):
        errors.reject("The request must be multipart/form-data.")
    fields: dict[str, str] = {}
    content: bytes | None = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None:
            continue
        if part.name != "file":
            fields[part.name] = await part.text()
            continue
        content = bytes(await part.read())
        if len(content) > audio.MAX_UPLOAD_BYTES:
            errors.reject(f"Maximum content size limit ({audio.MAX_UPLOAD_BYTES}) exceeded.", param="file")
    return fields, content


def _streamed(content_type: str) -> web.StreamResponse:
    headers = {"Content-Type": content_type, "Cache-Control": "no-cache", **_request_id()}
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    return response


def _request_id() -> dict[str, str]:
    return {"x-request-id": f"req_{uuid.uuid4().hex}"}

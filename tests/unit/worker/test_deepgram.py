"""The Deepgram plugin of the image in a session, against a small server that speaks Deepgram's WebSocket protocol."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from agentspec import VoiceSpec
from agentspec.wire import WorkerConfig
from tests.unit.worker.conversation import conversation, speech
from worker.call import voice
from worker.call.providers.make import Keys
from worker.call.stream_stt import StreamSTT

HEARD = "What are your opening hours?"
_HALF_A_SECOND = 16_000


class Deepgram:
    """Transcribes each utterance of half a second or more, while the caller still speaks."""

    def __init__(self) -> None:
        self.queries: list[dict[str, str]] = []
        self.keys: list[str] = []

    async def listen(self, request: web.Request) -> web.WebSocketResponse:
        self.queries.append(dict(request.query))
        self.keys.append(request.headers["Authorization"])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        loud = 0
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                continue
            loud = loud + len(message.data) if any(message.data) else 0
            if loud >= _HALF_A_SECOND:
                loud = -60 * _HALF_A_SECOND  # one utterance
                await socket.send_str(json.dumps(_results(HEARD)))
        return socket


def _results(text: str) -> dict[str, Any]:
    alternative = {"transcript": text, "confidence": 0.9, "words": []}
    return {
        "type": "Results",
        "metadata": {"request_id": "r"},
        "is_final": True,
        "speech_final": True,
        "channel": {"alternatives": [alternative]},
    }


@pytest.fixture
async def stages() -> AsyncIterator[tuple[voice.Stages, Deepgram]]:
    deepgram, app = Deepgram(), web.Application()
    app.router.add_get("/v1/listen", deepgram.listen)
    async with TestServer(app) as server:
        stage = {
            "provider": "Plugin",
            "plugin": "deepgram",
            "model": "nova-3",
            "baseURL": str(server.make_url("/v1/listen")),
            "credentialsSecretRef": {"name": "deepgram"},
            "options": {"smart_format": True},
        }
        declared = VoiceSpec.model_validate({"openai": {"credentialsSecretRef": {"name": "openai"}}, "stt": stage})
        keys = Keys({"AVATAR_AGENT_STT_KEY": "deepgram-key"})
        made = voice.Stages(declared, voice.make_client(declared, "k"), keys)
        async with made.http_session():
            yield made, deepgram
        await made.aclose()


async def test_streamed_text_is_the_turn(stages: tuple[voice.Stages, Deepgram], config: WorkerConfig) -> None:
    made, deepgram = stages
    assert made.check("en") == {}
    stage = made.make_stt("en")
    assert isinstance(stage, StreamSTT)
    async with conversation(config, before_start=lambda session: setattr(session, "_stt", stage)) as talk:
        await talk.until(lambda: deepgram.queries, "a stream")
        talk.microphone.play(speech(1.5))
        await talk.until(lambda: talk.messages("assistant"), "a reply")
        assert talk.messages("user") == [HEARD]
    (query, key) = deepgram.queries[0], deepgram.keys[0]
    assert (query["model"], query["language"], query["smart_format"], key) == (
        "nova-3",
        "en",
        "true",
        "Token deepgram-key",
    )

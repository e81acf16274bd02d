"""The simulated Realtime API, as the installed livekit-agents and a plain WebSocket client use it."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import numpy as np
import pytest
from aiohttp.test_utils import TestServer
from livekit import rtc
from livekit.agents import APIConnectOptions, llm
from livekit.plugins.openai.realtime import RealtimeModel

from devkit.providers import synthesis
from devkit.providers.openai.app import make_app
from devkit.providers.openai.realtime.voice_activity import Activity, TurnDetector
from devkit.providers.recognition import Transcript
from devkit.providers.simulator import Settings

KEY: Final = "sk-simulated-0123456789"
LIMIT_SECONDS: Final = 20.0
INSTRUCTIONS: Final = """You are Ornina.
<knowledge name="hours">
## When are you open?
From nine to five.
</knowledge>"""
ASK_HOURS: Final = "When are you open?"


class Heard:
    """Replaces the recogniser: everything that callers say is `text`."""

    languages = frozenset({"ar", "en"})
    text = ASK_HOURS

    def transcribe(self, pcm: synthesis.Samples, rate: int, language: str | None = None) -> Transcript:
        return Transcript(self.text, language or "en", len(pcm) / rate)


@asynccontextmanager
async def server(settings: str = "{}") -> AsyncIterator[str]:
    app = make_app(KEY, Settings.model_validate_json(settings), recogniser=Heard)  # type: ignore[arg-type]
    async with TestServer(app, handler_cancellation=True) as running:
        yield str(running.make_url("/v1"))


@asynccontextmanager
async def session(url: str) -> AsyncIterator[llm.RealtimeSession[Any]]:
    async with aiohttp.ClientSession() as http, asyncio.timeout(LIMIT_SECONDS):
        model = RealtimeModel(
            api_key=KEY,
            base_url=url,
            voice="marin",
            http_session=http,
            conn_options=APIConnectOptions(max_retry=0),
        )
        opened = model.session(turn_detection_disabled=True)
        try:
            await opened.update_instructions(INSTRUCTIONS)
            yield opened
        finally:
            await opened.aclose()


async def reply(opened: llm.RealtimeSession[Any]) -> tuple[str, float, list[llm.FunctionCall]]:
    """Return text, seconds of audio and tool calls of a response."""
    created = await opened.generate_reply()
    text, seconds = "", 0.0
    async for message in created.message_stream:
        text += "".join([piece async for piece in message.text_stream])
        seconds += sum([frame.duration async for frame in message.audio_stream])
    return text, seconds, [call async for call in created.function_stream]


def ask(opened: llm.RealtimeSession[Any]) -> None:
    opened.push_audio(rtc.AudioFrame(bytes(2 * 24_000), 24_000, 1, 24_000))
    opened.commit_audio()


async def test_caller_is_answered_from_the_instructions_in_speech() -> None:
    async with server() as url, session(url) as opened:
        transcripts: list[str] = []
        opened.on("input_audio_transcription_completed", lambda event: transcripts.append(event.transcript))
        ask(opened)
        text, seconds, _ = await reply(opened)
        assert (text, transcripts) == ("From nine to five.", [ASK_HOURS])
        assert seconds > 0.8


async def test_tool_is_called_and_its_result_said() -> None:
    tool = llm.function_tool(
        _hours, raw_schema={"name": "hours", "description": "Opening hours.", "parameters": {"type": "object"}}
    )
    async with server() as url, session(url) as opened:
        await opened.update_tools([tool])
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="Tell me your hours.")
        await opened.update_chat_ctx(context)
        _, _, (call,) = await reply(opened)
        assert (call.name, call.arguments) == ("hours", "{}")
        context = opened.chat_ctx.copy()
        context.items.append(
            llm.FunctionCallOutput(call_id=call.call_id, name="hours", output="Closed today.", is_error=False)
        )
        await opened.update_chat_ctx(context)
        text, _, calls = await reply(opened)
        assert (text, calls) == ("Closed today.", [])


async def _hours(raw_arguments: dict[str, object]) -> str:
    return ""


async def test_cancelled_response_ends_and_the_next_one_begins() -> None:
    settings = '{"faults": [{"kind": "half_stall", "endpoints": ["realtime"], "times": 1}]}'
    async with server(settings) as url, session(url) as opened:
        ask(opened)
        created = await opened.generate_reply()
        opened.interrupt()
        async for message in created.message_stream:
            assert sum([frame.duration async for frame in message.audio_stream]) < 1.0
        text, _, _ = await reply(opened)
        assert text == "From nine to five."


async def test_unknown_model_is_refused_and_the_connection_closed() -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with server() as url, aiohttp.ClientSession() as http, asyncio.timeout(LIMIT_SECONDS):
        socket = await http.ws_connect(f"{url}/realtime?model=gpt-9", headers=headers)
        assert (await socket.receive_json())["error"]["code"] == "model_not_found"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_unknown_voice_is_refused_and_named() -> None:
    async with plain() as socket:
        await socket.send_json({"type": "session.update", "session": {"audio": {"output": {"voice": "onix"}}}})
        error = (await until(socket, "error"))[-1]["error"]
        assert (error["code"], error["param"]) == ("invalid_value", "session.audio.output.voice")


@pytest.mark.parametrize(
    ("key", "settings", "status"),
    [
        pytest.param("sk-wrong-key-987654", "{}", 401, id="wrong key"),
        pytest.param(KEY, '{"faults": [{"kind": "500", "endpoints": ["realtime"]}]}', 500, id="server error"),
        pytest.param(KEY, '{"faults": [{"kind": "429", "endpoints": ["realtime"]}]}', 429, id="rate limit"),
    ],
)
async def test_connection_is_refused_with_a_status(key: str, settings: str, status: int) -> None:
    async with server(settings) as url, aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{url}/realtime?model=gpt-realtime", headers={"Authorization": f"Bearer {key}"})
        assert refused.value.status == status


@asynccontextmanager
async def plain(settings: str = "{}") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with server(settings) as url, aiohttp.ClientSession() as http, asyncio.timeout(LIMIT_SECONDS):
        socket = await http.ws_connect(f"{url}/realtime?model=gpt-realtime", headers=headers)
        assert (await socket.receive_json())["type"] == "session.created"
        yield socket
        await socket.close()


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> list[dict[str, Any]]:
    """Return the events up to the first one of a type."""
    events: list[dict[str, Any]] = [await socket.receive_json()]
    while events[-1]["type"] != kind:
        events.append(await socket.receive_json())
    return events


async def test_server_detects_the_turn_answers_it_and_yields_to_the_caller() -> None:
    loud = (8000 * np.sin(np.arange(24_000) / 5)).astype("<i2")
    silence = np.zeros(24_000, dtype="<i2")
    async with plain('{"faults": [{"kind": "half_stall", "times": 1}]}') as socket:

        async def append(samples: Any) -> None:  # noqa: ANN401 - an array
            await socket.send_json(
                {"type": "input_audio_buffer.append", "audio": base64.b64encode(samples.tobytes()).decode()}
            )

        await append(loud)
        await append(silence)
        events = await until(socket, "response.output_audio.delta")
        assert [event["type"] for event in events[:4]] == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
        ]
        assert len({event["item_id"] for event in events[:3]}) == 1
        await append(loud)
        done = (await until(socket, "response.done"))[-1]["response"]
        assert (done["status"], done["output"][0]["status"]) == ("cancelled", "incomplete")


async def test_events_that_cannot_be_carried_out_are_refused_by_their_id() -> None:
    item = {"id": "one", "type": "message", "role": "user", "content": []}
    async with plain() as socket:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"type": "session.unknown"}, "invalid_event"),
            ({"type": "response.cancel", "event_id": "a"}, "response_cancel_not_active"),
            ({"type": "input_audio_buffer.commit", "event_id": "b"}, "input_audio_buffer_commit_empty"),
            ({"type": "conversation.item.delete", "item_id": "no", "event_id": "c"}, "item_not_found"),
            ({"type": "conversation.item.truncate", "item_id": "no", "audio_end_ms": 1}, "item_not_found"),
            ({"type": "conversation.item.create", "event_id": "d"}, "invalid_value"),
        ]
        for event, code in cases:
            await socket.send_json(event)
            refused = (await until(socket, "error"))[-1]["error"]
            assert (refused["code"], refused["event_id"]) == (code, event.get("event_id"))
        for _ in range(2):
            await socket.send_json({"type": "conversation.item.create", "item": item})
        assert (await until(socket, "error"))[-1]["error"]["code"] == "item_create_duplicate_item_id"


async def test_broken_answer_closes_the_connection_half_way() -> None:
    async with plain('{"faults": [{"kind": "half_close", "times": 1}]}') as socket:
        await socket.send_json({"type": "response.create", "response": {"instructions": "Greet: Hello there."}})
        await until(socket, "response.output_audio.delta")
        while not socket.closed:
            await socket.receive()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param("", "One moment.", id="word for word"),
        pytest.param('{"kind": "other_words"}', "One moment. Goodbye.", id="other words"),
    ],
)
async def test_sentence_is_read_word_for_word_unless_a_fault_adds_words(fault: str, said: str) -> None:
    async with plain(f'{{"faults": [{fault}]}}') as socket:
        wanted = {"instructions": "Read this: <sentence>One moment.</sentence>", "conversation": "none"}
        await socket.send_json({"type": "response.create", "response": wanted})
        events = await until(socket, "response.done")
        (spoken,) = [event for event in events if event["type"] == "response.output_audio_transcript.done"]
        assert spoken["transcript"] == said
        assert "conversation.item.added" not in {event["type"] for event in events}


async def test_truncated_answer_keeps_the_words_that_were_heard() -> None:
    from devkit.providers.openai.realtime.conversation import Conversation

    conversation = Conversation()
    part = {"type": "output_audio", "transcript": "one two three four"}
    conversation.add({"id": "a", "type": "message", "role": "assistant", "content": [part], "audio_ms": 2000})
    conversation.truncate("a", 1000)
    assert list(conversation.messages()) == [("assistant", "one two")]


def test_quiet_of_the_set_length_ends_a_turn() -> None:
    detector = TurnDetector(0.5)
    loud, quiet = np.full(2400, 5000, dtype=np.int16), np.zeros(2400, dtype=np.int16)
    assert detector.hear(loud) == [Activity.STARTED]
    assert detector.hear(np.concatenate([quiet] * 4)) == []
    assert detector.hear(np.concatenate([loud, *[quiet] * 6])) == [Activity.STOPPED]

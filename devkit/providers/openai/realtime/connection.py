"""One WebSocket of the Realtime API: answers the client's events, as one session of the model."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from devkit.providers.openai import models
from devkit.providers.openai.realtime.conversation import Conversation, Item, ItemError, shown
from devkit.providers.openai.realtime.response import ConnectionBroken, Response, Speak
from devkit.providers.openai.realtime.voice_activity import Activity, TurnDetector
from devkit.providers.recognition import RecognitionError
from devkit.providers.simulator import Fault
from devkit.providers.synthesis import SAMPLE_RATE, VOICES, Samples, SynthesisError

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_MIN_COMMIT_SAMPLES = SAMPLE_RATE // 10
_PADDING_SAMPLES = SAMPLE_RATE * 3 // 10
_POLICY_CLOSE = 4000
"""Close code of a connection that OpenAI ends for an invalid request."""

Transcribe = Callable[[Samples, str | None], Awaitable[str]]
_SESSION: dict[str, Any] = {
    "type": "realtime",
    "object": "realtime.session",
    "output_modalities": ["audio"],
    "instructions": "",
    "tools": [],
    "tool_choice": "auto",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": SAMPLE_RATE},
            "transcription": None,
            "turn_detection": {
                "type": "server_vad",
                "silence_duration_ms": 500,
                "create_response": True,
                "interrupt_response": True,
            },
        },
        "output": {"format": {"type": "audio/pcm", "rate": SAMPLE_RATE}, "voice": "alloy", "speed": 1.0},
    },
}


class Connection:
    """A session with one client."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        *,
        transcribe: Transcribe,
        speak: Callable[[str, str], Awaitable[Samples]],
        take_fault: Callable[[], Fault | None],
    ) -> None:
        """`speak` takes text and voice. `take_fault` returns the fault of the next response."""
        self._socket = socket
        self._transcribe = transcribe
        self._speak = speak
        self._take_fault = take_fault
        self._session: dict[str, Any] = json.loads(json.dumps(_SESSION))
        self._conversation = Conversation()
        self._detector: TurnDetector | None = None
        self._heard: Samples = np.zeros(0, dtype=np.int16)
        self._turn = _item_id()
        """Id of the item that the audio in the buffer becomes."""
        self._recognised: asyncio.Task[None] | None = None
        """Recognises the caller's last turn, for which a response waits."""
        self._response: Response | None = None
        self._responding: asyncio.Task[None] | None = None

    async def serve(self, model: str | None) -> None:
        """Answer events until the connection ends."""
        if model not in models.MODELS["realtime"]:
            problem = f"The model `{model}` does not exist or you do not have access to it."
            await self._refuse(problem, "model_not_found", param="model")
            await self._socket.close(code=_POLICY_CLOSE, message=b"invalid_request_error.model_not_found")
            return
        self._session |= {"id": f"sess_{uuid.uuid4().hex[:20]}", "model": model}
        self._detect_turns()
        await self._send({"type": "session.created", "session": self._session})
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._on_message(message.data)
        finally:
            for task in (self._recognised, self._responding):
                if task is not None:
                    task.cancel()

    async def _on_message(self, data: str) -> None:
        try:
            event = json.loads(data)
            handle = self._handlers()[event["type"]]
        except (ValueError, KeyError, TypeError):
            await self._refuse("Invalid event: it has no known type.", "invalid_event")
            return
        try:
            await handle(event)
        except ItemError as error:
            await self._refuse(str(error), error.code, cause=event)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            await self._refuse(f"Invalid event {event['type']}: {error}.", "invalid_value", cause=event)

    def _handlers(self) -> Mapping[str, Callable[[dict[str, Any]], Awaitable[None]]]:
        return {
            "session.update": self._update_session,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit_by_client,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            "response.create": self._create_response,
            "response.cancel": self._cancel_response,
        }

    async def _update_session(self, event: dict[str, Any]) -> None:
        changes = event["session"]
        voice = changes.get("audio", {}).get("output", {}).get("voice")
        if voice is not None and voice not in VOICES:
            message = f"Invalid value: '{voice}'. Supported values are: {', '.join(map(repr, VOICES))}."
            await self._refuse(message, "invalid_value", param="session.audio.output.voice", cause=event)
            return
        self._session = _merged(self._session, changes)
        if "turn_detection" in changes.get("audio", {}).get("input", {}):
            self._detect_turns()
        await self._send({"type": "session.updated", "session": self._session})

    def _detect_turns(self) -> None:
        wanted = self._session["audio"]["input"]["turn_detection"]
        self._detector = TurnDetector(wanted.get("silence_duration_ms", 500) / 1000) if wanted else None

    async def _append(self, event: dict[str, Any]) -> None:
        samples = np.frombuffer(base64.b64decode(event["audio"], validate=True), dtype="<i2").astype(np.int16)
        self._heard = np.concatenate((self._heard, samples))
        if self._detector is None:
            return
        for activity in self._detector.hear(samples):
            if activity is Activity.STARTED:
                await self._on_speech_started()
            else:
                await self._on_speech_stopped()

    async def _on_speech_started(self) -> None:
        self._heard = self._heard[-_PADDING_SAMPLES - _MIN_COMMIT_SAMPLES :]
        started = {"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": self._turn}
        await self._send(started)
        if self._turn_detection("interrupt_response"):
            await self._stop_responding()

    async def _on_speech_stopped(self) -> None:
        ended = len(self._heard) * 1000 // SAMPLE_RATE
        stopped = {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": ended, "item_id": self._turn}
        await self._send(stopped)
        await self._commit()
        if self._turn_detection("create_response"):
            await self._respond({})

    def _turn_detection(self, option: str) -> bool:
        wanted = self._session["audio"]["input"]["turn_detection"] or {}
        return bool(wanted.get(option, True))

    async def _commit_by_client(self, event: dict[str, Any]) -> None:
        if len(self._heard) < _MIN_COMMIT_SAMPLES:
            message = "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio."
            await self._refuse(message, "input_audio_buffer_commit_empty", cause=event)
            return
        await self._commit()

    async def _commit(self) -> None:
        """Make an item of the buffer, and recognise it."""
        part: dict[str, Any] = {"type": "input_audio", "transcript": None}
        item: Item = {"id": self._turn, "type": "message", "role": "user", "status": "completed", "content": [part]}
        samples, self._heard, self._turn = self._heard, np.zeros(0, dtype=np.int16), _item_id()
        previous = self._conversation.add(item)
        await self._send({"type": "input_audio_buffer.committed", "previous_item_id": previous, "item_id": item["id"]})
        await self._send({"type": "conversation.item.added", "previous_item_id": previous, "item": shown(item)})
        self._recognised = asyncio.create_task(self._recognise(samples, item["id"], part))

    async def _recognise(self, samples: Samples, identifier: str, part: dict[str, Any]) -> None:
        wanted = self._session["audio"]["input"]["transcription"]
        part["transcript"] = await self._transcribe(samples, (wanted or {}).get("language"))
        if wanted:
            await self._send(
                {
                    "type": "conversation.item.input_audio_transcription.completed",
                    "item_id": identifier,
                    "content_index": 0,
                    "transcript": part["transcript"],
                    "usage": {"type": "duration", "seconds": len(samples) / SAMPLE_RATE},
                }
            )

    async def _clear(self, _: dict[str, Any]) -> None:
        self._heard = np.zeros(0, dtype=np.int16)
        await self._send({"type": "input_audio_buffer.cleared"})

    async def _create_item(self, event: dict[str, Any]) -> None:
        item: Item = {"id": _item_id(), "status": "completed", **event["item"]}
        previous = self._conversation.add(item, event.get("previous_item_id"))
        await self._send({"type": "conversation.item.added", "previous_item_id": previous, "item": shown(item)})

    async def _delete_item(self, event: dict[str, Any]) -> None:
        self._conversation.delete(event["item_id"])
        await self._send({"type": "conversation.item.deleted", "item_id": event["item_id"]})

    async def _truncate_item(self, event: dict[str, Any]) -> None:
        self._conversation.truncate(event["item_id"], event["audio_end_ms"])
        where = {"item_id": event["item_id"], "content_index": 0, "audio_end_ms": event["audio_end_ms"]}
        await self._send({"type": "conversation.item.truncated", **where})

    async def _create_response(self, event: dict[str, Any]) -> None:
        if self._responding is not None and not self._responding.done():
            message = "Conversation already has an active response in progress."
            await self._refuse(message, "conversation_already_has_active_response", cause=event)
            return
        await self._respond(event.get("response") or {})

    async def _respond(self, wanted: dict[str, Any]) -> None:
        document = {name: self._session[name] for name in ("instructions", "tools", "tool_choice")} | {
            name: value for name, value in wanted.items() if value is not None
        }
        voice = self._session["audio"]["output"]["voice"]

        async def speak(text: str) -> Samples:
            return await self._speak(text, voice)

        self._responding = asyncio.create_task(self._run_response(document, speak))

    async def _run_response(self, document: dict[str, Any], speak: Speak) -> None:
        self._response = Response(document, self._conversation, self._send, speak)
        try:
            if self._recognised is not None:
                await asyncio.shield(self._recognised)
            await self._response.run(self._take_fault())
        except ConnectionBroken:
            await self._socket.close()
        except (RecognitionError, SynthesisError) as error:
            await self._response.failed(str(error))
        finally:
            self._response = None

    async def _cancel_response(self, event: dict[str, Any]) -> None:
        if self._responding is None or self._responding.done():
            message = "Cancellation failed: no active response found"
            await self._refuse(message, "response_cancel_not_active", cause=event)
            return
        await self._stop_responding()

    async def _stop_responding(self) -> None:
        task, response = self._responding, self._response
        if task is None or task.done():
            return
        task.cancel()
        await asyncio.wait({task})
        if response is not None:
            await response.cancelled()

    async def _refuse(
        self, message: str, code: str, *, param: str | None = None, cause: dict[str, Any] | None = None
    ) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
        error["event_id"] = (cause or {}).get("event_id")
        await self._send({"type": "error", "error": error})

    async def _send(self, event: dict[str, Any]) -> None:
        if not self._socket.closed:
            document = {"event_id": f"event_{uuid.uuid4().hex[:20]}", **event}
            await self._socket.send_str(json.dumps(document, ensure_ascii=False))


def _item_id() -> str:
    return f"item_{uuid.uuid4().hex[:20]}"


def _merged(known: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session with the fields of an update; objects below `audio` are merged, all others replaced."""
    merged = known | {name: value for name, value in changes.items() if name != "audio"}
    for side, fields in changes.get("audio", {}).items():
        merged["audio"] = merged["audio"] | {side: merged["audio"][side] | fields}
    return merged

"""One response of the model: what it says or calls, and the events that carry it."""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from devkit.providers.openai import chat, tools
from devkit.providers.openai.realtime.conversation import Conversation, Item, shown
from devkit.providers.simulator import STALL_SECONDS, Fault, FaultKind
from devkit.providers.synthesis import SAMPLE_RATE, Samples, sentences

_CHUNK_SAMPLES = SAMPLE_RATE // 5
_SENTENCE_TAG = re.compile(r"<sentence>(.*?)</sentence>", re.DOTALL)

Send = Callable[[dict[str, Any]], Awaitable[None]]
Speak = Callable[[str], Awaitable[Samples]]


class ConnectionBroken(Exception):
    """The fault `half_close` closes the connection here."""


class Response:
    """A response that is being generated."""

    def __init__(self, document: dict[str, Any], conversation: Conversation, send: Send, speak: Speak) -> None:
        """`document`: the fields of `response.create`, over those of the session."""
        self.id = f"resp_{uuid.uuid4().hex[:20]}"
        self._document = document
        self._conversation = conversation
        self._send = send
        self._speak = speak
        self._output: list[Item] = []
        self._open: Item | None = None
        self._has_begun = False

    async def run(self, fault: Fault | None) -> None:
        """Send all events of the response."""
        self._has_begun = True
        await self._send({"type": "response.created", "response": self._shown("in_progress")})
        kind = fault.kind if fault is not None else None
        messages = [("system", str(self._document.get("instructions") or ""))]
        if self._document.get("conversation") != "none":
            messages += self._conversation.messages()
        call = tools.chosen(self._tools(), messages)
        if kind is FaultKind.EMPTY:
            pass
        elif call is not None:
            await self._call_tool(call)
        else:
            text = said(messages)
            await self._say(f"{text} Goodbye." if kind is FaultKind.OTHER_WORDS else text, kind)
        await self._send({"type": "response.done", "response": self._shown("completed")})

    async def cancelled(self) -> None:
        """Send the events of a response that the client cancelled or a caller interrupted."""
        if not self._has_begun:
            return
        if self._open is not None:
            self._open["status"] = "incomplete"
            await self._end_item(self._open)
        details = {"type": "cancelled", "reason": "client_cancelled"}
        await self._send({"type": "response.done", "response": self._shown("cancelled", status_details=details)})

    async def failed(self, message: str) -> None:
        """Send the end of a response that the server could not finish."""
        error = {"type": "server_error", "code": None, "message": message}
        document = self._shown("failed", status_details={"type": "failed", "error": error})
        await self._send({"type": "response.done", "response": document})

    def _tools(self) -> tuple[tools.Tool, ...]:
        if self._document.get("tool_choice") == "none":
            return ()
        return tools.parse([{"function": tool} for tool in self._document.get("tools") or []])

    async def _call_tool(self, call: tools.ToolCall) -> None:
        identifier = uuid.uuid4().hex[:20]
        item: Item = {
            "id": f"item_{identifier}",
            "type": "function_call",
            "status": "in_progress",
            "name": call.name,
            "call_id": f"call_{identifier}",
            "arguments": "",
        }
        await self._begin_item(item)
        item |= {"arguments": call.arguments, "status": "completed"}
        where = {"response_id": self.id, "item_id": item["id"], "output_index": 0, "call_id": item["call_id"]}
        await self._send(
            {"type": "response.function_call_arguments.done", "arguments": call.arguments, "name": call.name, **where}
        )
        await self._end_item(item)

    async def _say(self, text: str, fault: FaultKind | None) -> None:
        part = {"type": "output_audio", "transcript": ""}
        item: Item = {
            "id": f"item_{uuid.uuid4().hex[:20]}",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
            "audio_ms": 0,
        }
        await self._begin_item(item)
        where = {"response_id": self.id, "item_id": item["id"], "output_index": 0, "content_index": 0}
        await self._send({"type": "response.content_part.added", "part": dict(part), **where})
        item["content"] = [part]
        for sentence in sentences(text):
            delta = f"{' ' if part['transcript'] else ''}{sentence}"
            part["transcript"] += delta
            await self._send({"type": "response.output_audio_transcript.delta", "delta": delta, **where})
            pieces = _pieces(await self._speak(sentence))
            is_half = fault in (FaultKind.HALF_STALL, FaultKind.HALF_CLOSE)
            for piece in pieces[: max(1, len(pieces) // 2)] if is_half else pieces:
                audio = base64.b64encode(piece.astype("<i2", copy=False).tobytes()).decode()
                await self._send({"type": "response.output_audio.delta", "delta": audio, **where})
                item["audio_ms"] += len(piece) * 1000 // SAMPLE_RATE
            if fault is FaultKind.HALF_STALL:
                await asyncio.sleep(STALL_SECONDS)
            if fault is FaultKind.HALF_CLOSE:
                raise ConnectionBroken
        await self._send({"type": "response.output_audio.done", **where})
        spoken = part["transcript"]
        await self._send({"type": "response.output_audio_transcript.done", "transcript": spoken, **where})
        await self._send({"type": "response.content_part.done", "part": dict(part), **where})
        item["status"] = "completed"
        await self._end_item(item)

    async def _begin_item(self, item: Item) -> None:
        self._open = item
        self._output.append(item)
        where = {"response_id": self.id, "output_index": 0}
        await self._send({"type": "response.output_item.added", "item": shown(item), **where})
        if self._document.get("conversation") != "none":
            previous = self._conversation.add(item)
            await self._send({"type": "conversation.item.added", "previous_item_id": previous, "item": shown(item)})

    async def _end_item(self, item: Item) -> None:
        self._open = None
        where = {"response_id": self.id, "output_index": 0}
        await self._send({"type": "response.output_item.done", "item": shown(item), **where})

    def _shown(self, status: str, **more: object) -> dict[str, Any]:
        document = {
            "id": self.id,
            "object": "realtime.response",
            "status": status,
            "status_details": None,
            "output": [shown(item) for item in self._output],
            "metadata": self._document.get("metadata"),
            "usage": None,
        }
        if status == "completed":
            document["usage"] = _usage(self._output)
        return document | more


def said(messages: Sequence[tuple[str, str]]) -> str:
    """Return what the model says: the sentence that the instructions quote, or the answer of chat completions."""
    _, instructions = messages[0]
    if quoted := _SENTENCE_TAG.search(instructions):
        return quoted.group(1).strip()
    return chat.answer(messages)


def _pieces(samples: Samples) -> list[Samples]:
    return [samples[start : start + _CHUNK_SAMPLES] for start in range(0, len(samples), _CHUNK_SAMPLES)]


def _usage(output: Sequence[Item]) -> dict[str, Any]:
    """Return the tokens of a response: twenty for each second of speech, as OpenAI counts them."""
    audio = sum(item.get("audio_ms", 0) for item in output) // 50
    return {
        "total_tokens": audio + 10,
        "input_tokens": 10,
        "output_tokens": audio,
        "input_token_details": {"text_tokens": 10, "audio_tokens": 0, "cached_tokens": 0},
        "output_token_details": {"text_tokens": 0, "audio_tokens": audio},
    }

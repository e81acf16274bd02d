"""The simulated Tavus' web application: `/v2/conversations`, `/v2/faces/{id}`, its key and its error bodies.

Source: Tavus' API reference (create, get, list, end and delete conversation, get face) and livekit-plugins-tavus'
api.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping

from aiohttp import web
from pydantic import Field

from devkit.providers.simulator import HTTP_FAULTS, STALL_SECONDS, FaultKind, Provider, Settings, application
from devkit.providers.tavus.conversations import Conversation, Conversations, NoSeat, parse

logger = logging.getLogger(__name__)

PAGE_SIZE = 10
"""Tavus' default `limit` of a list."""

_MESSAGES = {
    FaultKind.UNAUTHORIZED: "Invalid access token",
    FaultKind.RATE_LIMITED: "Too many requests. Please try again later.",
    FaultKind.SERVER_ERROR: "Internal Server Error",
}


class TavusSettings(Settings):
    """Latency, faults, the limit of active conversations (None: no limit), and face IDs that do not exist."""

    seats: int | None = Field(default=None, ge=0, le=10_000)
    unknown_face_ids: tuple[str, ...] = ()


class Tavus(Provider[TavusSettings]):
    """Tavus' API key header, error bodies and conversations."""

    name = "tavus"
    endpoints = frozenset({"conversations", "faces"})
    fault_kinds = HTTP_FAULTS | {FaultKind.NEVER_JOINS, FaultKind.LOST_ANSWER}
    settings_type = TavusSettings

    def __init__(self, api_key: str, settings: TavusSettings) -> None:
        super().__init__(api_key, settings)
        self.conversations = Conversations()

    def endpoint_of(self, request: web.Request) -> str | None:
        """Return the endpoint by the path; everything under /v2 needs the key."""
        return next((name for name in self.endpoints if request.path.startswith(f"/v2/{name}")), None)

    def key_in(self, request: web.Request) -> str | None:
        """Return the x-api-key header."""
        return request.headers.get("x-api-key")

    def refusal(self, kind: FaultKind, sent_key: str | None) -> Mapping[str, object]:
        """Return the body of Tavus' error."""
        return {"message": _MESSAGES[kind]}

    def state(self) -> Mapping[str, object]:
        """Return the stored conversations."""
        return {"conversations": [conversation.report() for conversation in self.conversations.all()]}


def make_app(api_key: str, settings: TavusSettings) -> web.Application:
    """Return the application."""
    provider = Tavus(api_key, settings)
    app = application(provider)
    endpoints = _Endpoints(provider)
    app.cleanup_ctx.append(endpoints.lifetime)
    app.add_routes(
        [
            web.post("/v2/conversations", endpoints.create),
            web.get("/v2/conversations", endpoints.show_all),
            web.get("/v2/conversations/{id}", endpoints.show),
            web.post("/v2/conversations/{id}/end", endpoints.end),
            web.delete("/v2/conversations/{id}", endpoints.delete),
            web.get("/v2/faces/{id}", endpoints.show_face),
        ]
    )
    return app


class _Endpoints:
    def __init__(self, provider: Tavus) -> None:
        self._provider = provider
        self._conversations = provider.conversations

    async def lifetime(self, _: web.Application) -> AsyncIterator[None]:
        yield
        await self._conversations.end_all("the provider stopped")

    async def create(self, request: web.Request) -> web.Response:
        try:
            wanted = parse(json.loads(await request.read()))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        settings = self._provider.settings
        absent = self._provider.take_fault("conversations", frozenset({FaultKind.NEVER_JOINS}))
        try:
            conversation = self._conversations.create(wanted, seats=settings.seats, joins=absent is None)
        except NoSeat:
            # Tavus' message, as users of livekit-plugins-tavus report it.
            return web.json_response({"message": "User has reached maximum concurrent conversations"}, status=400)
        logger.info("conversation created: conversation=%s joins=%s", conversation.id, absent is None)
        if self._provider.take_fault("conversations", frozenset({FaultKind.LOST_ANSWER})) is not None:
            await asyncio.sleep(STALL_SECONDS)
        return web.json_response(conversation.document())

    async def show_all(self, request: web.Request) -> web.Response:
        """Return one page, the newest first, of all conversations or of those with a status."""
        status, limit, page = (request.query.get(name) for name in ("status", "limit", "page"))
        documents = [conversation.document() for conversation in reversed(self._conversations.all())]
        found = [document for document in documents if status in (None, document["status"])]
        size, number = int(limit or PAGE_SIZE), int(page or 1)
        shown = found[(number - 1) * size : number * size]
        return web.json_response({"data": shown, "total_count": len(found)})

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response(self._named(request).document())

    async def end(self, request: web.Request) -> web.Response:
        await self._named(request).end("ended by request")
        return web.Response()

    async def delete(self, request: web.Request) -> web.Response:
        conversation = self._named(request)
        await conversation.end("deleted by request")
        self._conversations.forget(conversation)
        return web.Response(status=204)

    async def show_face(self, request: web.Request) -> web.Response:
        face_id = request.match_info["id"]
        if face_id in self._provider.settings.unknown_face_ids:
            raise _invalid("face_id")
        return web.json_response(
            {"face_id": face_id, "face_name": face_id, "training_progress": "100/100", "status": "completed"}
        )

    def _named(self, request: web.Request) -> Conversation:
        conversation = self._conversations.get(request.match_info["id"])
        if conversation is None:
            raise _invalid("conversation_id")
        return conversation


def _invalid(field: str) -> web.HTTPBadRequest:
    """Return Tavus' answer to an unknown id."""
    return web.HTTPBadRequest(text=json.dumps({"error": f"Invalid {field}"}), content_type="application/json")

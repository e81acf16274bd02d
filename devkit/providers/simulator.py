"""The common part of the simulated providers: API keys, latency, faults and request counters.

`GET /_simulator` and `PUT /_simulator` read and replace the settings as JSON, at any time. They need no key, because
only this machine and its cluster reach the address. `GET /healthz` answers once the provider can serve.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

logger = logging.getLogger(__name__)

STALL_SECONDS = 600.0
"""Time after which a stalled request is closed without an answer."""

CLIENT_DISCONNECTED = 499
"""Status in the counters for a request whose client disconnected before the answer, as in nginx."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FaultKind(StrEnum):
    """Kind of a fault.

    SLOW delays the answer. Two are for avatars. NEVER_JOINS: the conversation is created, but the avatar does not join.
    LOST_ANSWER: the conversation is created and the avatar joins, but the request gets no answer. The others are for
    OpenAI. FORBIDDEN and QUOTA: the key's project may not use the model, and its balance is spent, which OpenAI answers
    with 403 and 429. TOO_LONG: the request exceeds the model's context window, which OpenAI answers with 400.
    HALF_STALL and HALF_CLOSE: the answer stops half-way, and the connection stays open or is closed. EMPTY: the answer
    has status 200 and no content. OTHER_WORDS: a realtime model adds words to a sentence that it shall read.
    """

    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    RATE_LIMITED = "429"
    QUOTA = "quota"
    TOO_LONG = "too_long"
    SERVER_ERROR = "500"
    STALL = "stall"
    SLOW = "slow"
    HALF_STALL = "half_stall"
    HALF_CLOSE = "half_close"
    EMPTY = "empty"
    OTHER_WORDS = "other_words"
    NEVER_JOINS = "never_joins"
    LOST_ANSWER = "lost_answer"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fault(_Strict):
    """A fault on some endpoints (empty: on all), for a number of requests (`times`) or always.

    `delay_ms` is the delay of a slow answer.
    """

    kind: FaultKind
    endpoints: tuple[str, ...] = ()
    times: int | None = Field(default=None, ge=1, le=1_000_000)
    retry_after_seconds: int = Field(default=1, ge=0, le=3600)
    delay_ms: int = Field(default=4000, ge=0, le=60_000)


class Settings(_Strict):
    """Settings of a provider: the delay before every answer in milliseconds, and faults; the first match applies.

    `api_keys` replace the key that it was started with, as after a rotation; they are never shown.
    """

    latency_ms: int = Field(default=0, ge=0, le=60_000)
    faults: tuple[Fault, ...] = ()
    api_keys: tuple[SecretStr, ...] = Field(default=(), exclude=True)


class SettingsError(ValueError):
    """The settings are invalid; the message says why."""


S = TypeVar("S", bound=Settings)


class Provider(ABC, Generic[S]):
    """A simulated provider: its endpoints, its error bodies, and its state.

    Faults and counters use the names of endpoints, such as "speech" and "conversations".
    """

    name: str
    endpoints: frozenset[str]
    fault_kinds: frozenset[FaultKind]
    settings_type: type[S]

    def __init__(self, api_key: str, settings: S) -> None:
        self._api_key = api_key
        self._left: list[int | None] = []
        self.requests: Counter[tuple[str, int]] = Counter()
        self.configure(settings)

    @abstractmethod
    def endpoint_of(self, request: web.Request) -> str | None:
        """Return the name of the endpoint that `request` is for; None when it needs neither key nor counting."""

    @abstractmethod
    def key_in(self, request: web.Request) -> str | None:
        """Return the API key of `request`."""

    @abstractmethod
    def refusal(self, kind: FaultKind, sent_key: str | None) -> Mapping[str, object]:
        """Return the JSON body that the real provider sends with the status of a fault."""

    def state(self) -> Mapping[str, object]:
        """Return additional content of `GET /_simulator`."""
        return {}

    def configure(self, settings: S) -> None:
        """Replace the settings. Raises `SettingsError` for a fault or an endpoint that this provider does not have."""
        for fault in settings.faults:
            if fault.kind not in self.fault_kinds:
                raise SettingsError(f"{self.name} has no fault {fault.kind.value!r}: use {_listed(self.fault_kinds)}")
            if unknown := set(fault.endpoints) - self.endpoints:
                raise SettingsError(f"{self.name} has no endpoint {_listed(unknown)}: use {_listed(self.endpoints)}")
        self.settings = settings
        self._left = [fault.times for fault in settings.faults]

    def take_fault(self, endpoint: str, kinds: frozenset[FaultKind]) -> Fault | None:
        """Return the next fault of one of `kinds` on `endpoint`, if any, and count it."""
        for position, fault in enumerate(self.settings.faults):
            left = self._left[position]
            if fault.kind in kinds and left != 0 and (not fault.endpoints or endpoint in fault.endpoints):
                self._left[position] = None if left is None else left - 1
                return fault
        return None

    def accepts(self, key: str | None) -> bool:
        """Whether `key` is one of the provider's keys."""
        valid = [known.get_secret_value() for known in self.settings.api_keys] or [self._api_key]
        return key is not None and any(hmac.compare_digest(key.encode(), known.encode()) for known in valid)


HTTP_FAULTS = frozenset(
    {FaultKind.UNAUTHORIZED, FaultKind.RATE_LIMITED, FaultKind.SERVER_ERROR, FaultKind.STALL, FaultKind.SLOW},
)
"""Faults that every provider has."""

ANSWER_FAULTS = frozenset({FaultKind.HALF_STALL, FaultKind.HALF_CLOSE, FaultKind.EMPTY})
"""Faults of the answer, which the provider's handlers apply: see `answer_in_pieces`."""

_STATUSES = {
    FaultKind.UNAUTHORIZED: 401,
    FaultKind.FORBIDDEN: 403,
    FaultKind.RATE_LIMITED: 429,
    FaultKind.QUOTA: 429,
    FaultKind.TOO_LONG: 400,
    FaultKind.SERVER_ERROR: 500,
}
_BEFORE_THE_REQUEST = frozenset({*_STATUSES, FaultKind.STALL, FaultKind.SLOW})
"""Faults that happen whatever the request asks for."""


def application(provider: Provider[S], *, max_body_bytes: int = 1024 * 1024) -> web.Application:
    """Return the web application of `provider` with the common routes; the caller adds the provider's."""
    app = web.Application(middlewares=[_gate(provider)], client_max_size=max_body_bytes)
    app.add_routes(
        [
            web.get("/healthz", _healthz),
            web.get("/_simulator", _show(provider)),
            web.put("/_simulator", _change(provider)),
        ]
    )
    return app


def parse_settings(document: bytes | str, kind: type[S]) -> S:
    """Parse settings of `kind` from JSON. Raises `SettingsError` that names the invalid field."""
    try:
        return kind.model_validate_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{where}: {first['msg']}" if where else first["msg"]) from error


def read_key(path: Path) -> str:
    """Return the API key in the file. Raises `SettingsError` when the file has none."""
    try:
        key = path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"cannot read the API key file {path}: {error.strerror}") from error
    if not key:
        raise SettingsError(f"the API key file {path} is empty")
    return key


def _gate(provider: Provider[S]) -> Middleware:
    """Return the middleware that counts requests, checks keys, and applies latency and faults."""

    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        endpoint = provider.endpoint_of(request)
        if endpoint is None:
            return await handler(request)
        try:
            response = await _refused(provider, request, endpoint) or await handler(request)
        except web.HTTPException as error:
            provider.requests[endpoint, error.status] += 1
            raise
        except (asyncio.CancelledError, ConnectionError):
            provider.requests[endpoint, CLIENT_DISCONNECTED] += 1
            raise
        except Exception:
            logger.exception("request failed: endpoint=%s", endpoint)
            response = web.json_response(provider.refusal(FaultKind.SERVER_ERROR, None), status=500)
        provider.requests[endpoint, response.status] += 1
        return response

    return gate


async def _refused(provider: Provider[S], request: web.Request, endpoint: str) -> web.Response | None:
    settings = provider.settings
    if settings.latency_ms:
        await asyncio.sleep(settings.latency_ms / 1000)
    key = provider.key_in(request)
    if not provider.accepts(key):
        return web.json_response(provider.refusal(FaultKind.UNAUTHORIZED, key), status=401)
    fault = provider.take_fault(endpoint, _BEFORE_THE_REQUEST)
    if fault is None:
        return None
    logger.info("fault: endpoint=%s kind=%s", endpoint, fault.kind.value)
    if fault.kind is FaultKind.SLOW:
        await asyncio.sleep(fault.delay_ms / 1000)
        return None
    if fault.kind is FaultKind.STALL:
        await asyncio.sleep(STALL_SECONDS)
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=504)
    headers = {"Retry-After": str(fault.retry_after_seconds)} if fault.kind is FaultKind.RATE_LIMITED else None
    return web.json_response(provider.refusal(fault.kind, key), status=_STATUSES[fault.kind], headers=headers)


async def answer_in_pieces(
    request: web.Request, response: web.StreamResponse, pieces: Sequence[bytes], fault: Fault | None
) -> web.StreamResponse:
    """Send an answer; with a fault of half an answer only its first half, after which nothing follows."""
    await response.prepare(request)
    is_half = fault is not None and fault.kind in (FaultKind.HALF_STALL, FaultKind.HALF_CLOSE)
    for piece in pieces[: max(1, len(pieces) // 2)] if is_half else pieces:
        await response.write(piece)
    if is_half:
        await _break_off(request, fault)
    else:
        await response.write_eof()
    return response


async def _break_off(request: web.Request, fault: Fault | None) -> None:
    if fault is not None and fault.kind is FaultKind.HALF_STALL:
        await asyncio.sleep(STALL_SECONDS)
    if request.transport is not None:
        request.transport.close()


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok")


def _show(provider: Provider[S]) -> Handler:
    async def show(_: web.Request) -> web.Response:
        return web.json_response(_document(provider))

    return show


def _change(provider: Provider[S]) -> Handler:
    async def change(request: web.Request) -> web.Response:
        try:
            provider.configure(parse_settings(await request.read(), provider.settings_type))
        except SettingsError as error:
            return web.json_response({"error": str(error)}, status=400)
        logger.info("settings changed: %s", provider.settings.model_dump_json())
        return web.json_response(_document(provider))

    return change


def _document(provider: Provider[S]) -> dict[str, object]:
    requests: dict[str, dict[str, int]] = {endpoint: {"total": 0} for endpoint in sorted(provider.endpoints)}
    for (endpoint, status), count in sorted(provider.requests.items()):
        requests[endpoint][str(status)] = count
        requests[endpoint]["total"] += count
    return {
        "provider": provider.name,
        "settings": json.loads(provider.settings.model_dump_json()),
        "requests": requests,
        **provider.state(),
    }


def _listed(names: set[str] | frozenset[str] | frozenset[FaultKind]) -> str:
    return ", ".join(sorted(str(name) for name in names))

"""Checks the credentials of LiveKit, OpenAI and Tavus with a cheap authenticated request that changes nothing.

* LiveKit: ``POST /twirp/livekit.RoomService/ListRooms`` for one room that does not exist, like livekit-api's
  ``room.list_rooms``. The server answers 401 or 403 to an invalid key, signature or grant, Twirp's
  ``unauthenticated`` and ``permission_denied`` (twitchtv.github.io/twirp/docs/spec_v7.html, "Error Codes";
  livekit-server ``pkg/service/auth.go``). Any other failure says nothing about the keys.
* OpenAI, and every other address in its dialect that gets a key: ``GET /models/{model}``
  (platform.openai.com/docs/api-reference/models/retrieve). OpenAI checks the key before the path, so 404 does not
  reject the key; compatible servers may lack the path. A restricted key that may not read models gets 401 ``Missing
  scopes: api.model.read`` and is valid for calls (community.openai.com/t/1345041).
* Tavus: ``GET /faces/{id}`` (docs.tavus.io/api-reference/faces/get-face). An unknown ID gets 400 ``Invalid face_id``.

Tenants choose the servers, so a response is read up to a limit and never decompressed. livekit-api limits neither.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from google.protobuf.message import DecodeError
from livekit import api
from livekit.protocol.room import ListRoomsRequest, ListRoomsResponse
from yarl import URL

from agentspec import AvatarAgentSpec, openai_url
from agentspec.avatar import TavusSpec
from agentspec.dispatch import LiveKitSpec
from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET, PROVIDER_KEY, TAVUS_KEY
from controller.inputs.probe_cache import Probe, ProbeCache
from controller.observation import Key, Provider, ProviderAnswer, ProviderVerdict
from controller.policy.credentials import OpenAIUse, openai_uses, tavus_in_use

TIMEOUT_SECONDS = 5.0

_ONE_ROOM = ListRoomsRequest(names=["avatar-agent-credentials-check"]).SerializeToString()
"""A request for a room that does not exist, so that the response is small on a busy server."""
_LIST_ROOMS = "/twirp/livekit.RoomService/ListRooms"
_MAX_BODY_BYTES = 4096
"""Maximum number of bytes read from a response."""
_NO_COMPRESSION = {"Accept-Encoding": "identity"}
_MISSING_SCOPES = "Missing scopes"
_RESTRICTED_KEY = "does not let it read models (restricted key), so the model is unchecked"
_FRAGMENT_LENGTH = 4
"""Length of the shortest part of a key that must not appear in a message."""

Values = Mapping[str, Mapping[str, str]]
"""Values by Secret name and key."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A GET request to a provider, authenticated with an API key."""

    server: str
    path: str
    key: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    warnings: Mapping[int, str]
    """Statuses that a provider returns after it accepted the key, each with a warning."""


class Providers:
    """Checks whether providers accept an agent's credentials."""

    def __init__(self, session: aiohttp.ClientSession, on_change: Callable[[Key], None]) -> None:
        """`on_change`: called for each agent whose last received result is outdated."""
        self._session = session
        self._probe_cache = ProbeCache(on_change)

    def forget(self, key: Key) -> None:
        """Stop calling `on_change` for an agent that no longer exists."""
        self._probe_cache.forget(key)

    async def check(self, key: Key, spec: AvatarAgentSpec, values: Values) -> dict[str, ProviderAnswer]:
        """The result for every provider that takes a probe, by the names of `credentials_valid`.

        The Secrets must be complete. Providers of plugins, and LiveKit's gateway, take none: workers try them.

        Waits shortly for credentials that were never probed, and returns `PENDING` if there is no result in time.
        Raises no error that a server or a manifest can cause.
        """
        probes: dict[str, Probe] = {Provider.LIVEKIT.value: self._livekit(spec.livekit, values)}
        for name, use in openai_uses(spec.voice).items():
            probes[name] = self._lookup(_openai(use, values[use.secret][PROVIDER_KEY]))
        tavus = tavus_in_use(spec)
        if tavus is not None:
            probes[Provider.TAVUS.value] = self._lookup(_tavus(tavus, values))
        answers = await asyncio.gather(*(self._probe_cache.answer(key, probe) for probe in probes.values()))
        return dict(zip(probes, answers, strict=True))

    def _livekit(self, livekit: LiveKitSpec, values: Values) -> Probe:
        secret = values[livekit.credentials_secret_ref.name]
        pair = secret[LIVEKIT_KEY], secret[LIVEKIT_SECRET]
        send = partial(_bounded, partial(self._list_rooms, livekit.url, *pair))
        return Probe(livekit.url, _fingerprint(Provider.LIVEKIT, livekit.url, *pair), send)

    def _lookup(self, lookup: Lookup) -> Probe:
        identity = _fingerprint(lookup.server, lookup.path, *lookup.headers, lookup.key)
        return Probe(lookup.server, identity, partial(_bounded, partial(self._look_up, lookup)))

    async def _list_rooms(self, url: str, key: str, secret: str) -> ProviderAnswer:
        token = api.AccessToken(key, secret).with_grants(api.VideoGrants(room_list=True)).to_jwt()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/protobuf"}
        status, body = await self._request("POST", URL(_http(url) + _LIST_ROOMS), headers, _ONE_ROOM)
        if status == 200:
            return ProviderAnswer(ProviderVerdict.ACCEPTED) if _lists_rooms(body) else _not_livekit()
        error = _json(body)
        if error is not None and not isinstance(error, dict):
            return _not_livekit()
        return _failed(status, _without_key(_error_message(error), secret))

    async def _look_up(self, lookup: Lookup) -> ProviderAnswer:
        url = URL(f"{lookup.server.rstrip('/')}/{lookup.path}", encoded=True)
        status, body = await self._request("GET", url, lookup.headers)
        if 200 <= status < 300:
            return ProviderAnswer(ProviderVerdict.ACCEPTED)
        message = _error_message(_json(body))
        if status in lookup.warnings:
            warning = f"{lookup.warnings[status]}, or does not serve this path: HTTP {status}"
            return ProviderAnswer(ProviderVerdict.ACCEPTED, warning)
        if _MISSING_SCOPES in message:
            return ProviderAnswer(ProviderVerdict.ACCEPTED, _RESTRICTED_KEY)
        return _failed(status, _without_key(message, lookup.key))

    async def _request(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Status and beginning of a response. Redirects are not followed, because the key is for this server only."""
        async with self._session.request(
            method, url, headers={**headers, **_NO_COMPRESSION}, data=body, allow_redirects=False, auto_decompress=False
        ) as response:
            try:
                return response.status, await response.content.readexactly(_MAX_BODY_BYTES)
            except asyncio.IncompleteReadError as error:  # the body is shorter
                return response.status, error.partial


def _http(url: str) -> str:
    """The base URL of LiveKit's HTTP API, derived from the WebSocket URL as livekit-api does."""
    parts = urlsplit(url)
    return f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}{parts.path}".rstrip("/")


def _lists_rooms(body: bytes) -> bool:
    try:
        ListRoomsResponse.FromString(body)
    except DecodeError:
        return False
    return True


def _openai(use: OpenAIUse, key: str) -> Lookup:
    url = openai_url.parse(use.url)
    query = f"?{urlencode(url.query)}" if url.query else ""
    if url.is_azure:
        # A deployment is no model, so Azure is asked for the models of the whole resource.
        server = url.base.partition("/deployments")[0]
        unknown = {404: "does not list its models"}
        return Lookup(server, f"models{query}", key, {"api-key": key}, unknown)
    return Lookup(
        server=url.base,
        path=f"models/{quote(use.model, safe='')}{query}",
        key=key,
        headers={"Authorization": f"Bearer {key}"},
        warnings={404: f"does not list model {use.model!r} ({use.model_field})"},
    )


def _tavus(tavus: TavusSpec, values: Values) -> Lookup:
    key = values[tavus.credentials_secret_ref.name][TAVUS_KEY]
    warning = f"does not know face ID {tavus.face_id!r} (spec.avatar.tavus.faceID)"
    return Lookup(
        server=tavus.base_url,
        path=f"faces/{quote(tavus.face_id, safe='')}",
        key=key,
        headers={"x-api-key": key},
        warnings={400: warning, 404: warning},
    )


async def _bounded(send: Callable[[], Awaitable[ProviderAnswer]]) -> ProviderAnswer:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await send()
    except TimeoutError:
        return _unreachable(f"no answer within {TIMEOUT_SECONDS:.0f} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _unreachable(str(error) or type(error).__name__)


def _not_livekit() -> ProviderAnswer:
    return _unreachable("a server answers, but not as LiveKit does")


def _failed(status: int, message: str) -> ProviderAnswer:
    verdict = ProviderVerdict.REJECTED if status in (401, 403) else ProviderVerdict.UNREACHABLE
    return ProviderAnswer(verdict, f"HTTP {status} {message}".strip())


def _unreachable(detail: str) -> ProviderAnswer:
    return ProviderAnswer(ProviderVerdict.UNREACHABLE, detail)


def _fingerprint(*identity: str) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _json(body: bytes) -> object:
    """The parsed body; None: it is not JSON, or was cut off."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # nested a thousand deep
        return None


def _error_message(body: object) -> str:
    """The provider's error message: ``msg`` (LiveKit), ``error.message`` (OpenAI), ``message`` or ``error`` (Tavus).

    Empty if there is none.
    """
    for name in ("error", "message", "msg"):
        if isinstance(body, dict) and body.get(name):
            body = body[name]
    return body if isinstance(body, str) else ""


def _without_key(message: str, key: str) -> str:
    """The message, or nothing if it contains a part of the key: providers often repeat the key."""
    fragments = {key[at : at + _FRAGMENT_LENGTH] for at in range(max(1, len(key) - _FRAGMENT_LENGTH + 1))}
    return "" if any(fragment in message for fragment in fragments) else message

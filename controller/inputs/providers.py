"""Tries the credentials of LiveKit, OpenAI and Tavus with a cheap authenticated request that changes nothing.

* LiveKit: ``POST /twirp/livekit.RoomService/ListRooms`` for one room that does not exist, as livekit-api's
  ``room.list_rooms`` does. A key, a signature or a grant that the server does not take is 401 or 403, Twirp's
  ``unauthenticated`` and ``permission_denied`` (twitchtv.github.io/twirp/docs/spec_v7.html, "Error Codes";
  livekit-server ``pkg/service/auth.go``); everything else says nothing of the keys.
* OpenAI: ``GET /models/{model}`` (platform.openai.com/docs/api-reference/models/retrieve). The key is looked at before
  the path, so 404 is no refusal: servers that speak like OpenAI may not have it. A restricted key that may not read
  models is 401 ``Missing scopes: api.model.read``, and good for calls (community.openai.com/t/1345041).
* Tavus: ``GET /faces/{id}`` (docs.tavus.io/api-reference/faces/get-face). An unknown face is 400 ``Invalid face_id``.

Tenants say which servers are asked, so only the beginning of an answer is read, and nothing is unpacked; livekit-api
does both without a bound.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote, urlsplit

import aiohttp
from google.protobuf.message import DecodeError
from livekit import api
from livekit.protocol.room import ListRoomsRequest, ListRoomsResponse
from yarl import URL

from agentspec import AvatarAgentSpec
from agentspec.avatar import TavusSpec
from agentspec.dispatch import LiveKitSpec
from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET, OPENAI_KEY, TAVUS_KEY
from agentspec.voice import VoiceSpec
from controller.inputs.probe_cache import Probe, ProbeCache
from controller.observation import Key, Provider, ProviderAnswer, ProviderVerdict
from controller.policy.credentials import tavus_in_use

TIMEOUT_SECONDS = 5.0

_ONE_ROOM = ListRoomsRequest(names=["avatar-agent-credentials-check"]).SerializeToString()
"""There is none of this name, so that the answer is small on a busy server."""
_LIST_ROOMS = "/twirp/livekit.RoomService/ListRooms"
_MAX_ANSWER_BYTES = 4096
"""Read of an answer."""
_PLAIN = {"Accept-Encoding": "identity"}
_MISSING_SCOPES = "Missing scopes"
_RESTRICTED_KEY = "does not let it read models (restricted key), so the model is unchecked"
_FRAGMENT = 4
"""Characters of a key in a row that nobody may see."""

Values = Mapping[str, Mapping[str, str]]
"""Secrets' values by Secret and key."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A GET that a provider answers by its key."""

    server: str
    path: str
    key: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    unknown: Mapping[int, str]
    """Statuses that come after the key was accepted, each with what it means."""


class Providers:
    """Answers whether providers accept an agent's credentials."""

    def __init__(self, session: aiohttp.ClientSession, changed: Callable[[Key], None]) -> None:
        """`changed` is called for each agent that was given an answer that is no longer so."""
        self._session = session
        self._probe_cache = ProbeCache(changed)

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._probe_cache.forget(key)

    async def check(self, key: Key, spec: AvatarAgentSpec, values: Values) -> dict[Provider, ProviderAnswer]:
        """The answer of every provider that the agent uses; the Secrets must be complete.

        Waits only for credentials that were never tried, and for those not long: their answer is awaited then. Never
        raises for what a server or a manifest may do.
        """
        probe_cache = {
            Provider.LIVEKIT: self._livekit(spec.livekit, values),
            Provider.OPENAI: self._lookup(_openai(spec.voice, values)),
        }
        tavus = tavus_in_use(spec)
        if tavus is not None:
            probe_cache[Provider.TAVUS] = self._lookup(_tavus(tavus, values))
        answers = await asyncio.gather(*(self._probe_cache.answer(key, inquiry) for inquiry in probe_cache.values()))
        return dict(zip(probe_cache, answers, strict=True))

    def _livekit(self, livekit: LiveKitSpec, values: Values) -> Probe:
        held = values[livekit.credentials_secret_ref.name]
        pair = held[LIVEKIT_KEY], held[LIVEKIT_SECRET]
        ask = partial(_bounded, partial(self._list_rooms, livekit.url, *pair))
        return Probe(livekit.url, _fingerprint(Provider.LIVEKIT, livekit.url, *pair), ask)

    def _lookup(self, lookup: Lookup) -> Probe:
        identity = _fingerprint(lookup.server, lookup.path, *lookup.headers, lookup.key)
        return Probe(lookup.server, identity, partial(_bounded, partial(self._look_up, lookup)))

    async def _list_rooms(self, url: str, key: str, secret: str) -> ProviderAnswer:
        token = api.AccessToken(key, secret).with_grants(api.VideoGrants(room_list=True)).to_jwt()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/protobuf"}
        status, answer = await self._asked("POST", URL(_http(url) + _LIST_ROOMS), headers, _ONE_ROOM)
        if status == 200:
            return ProviderAnswer(ProviderVerdict.ACCEPTED) if _lists_rooms(answer) else _stranger()
        said = _json(answer)
        if said is not None and not isinstance(said, dict):
            return _stranger()
        return _refused(status, _harmless(_words(said), secret))

    async def _look_up(self, lookup: Lookup) -> ProviderAnswer:
        url = URL(f"{lookup.server.rstrip('/')}/{lookup.path}", encoded=True)
        status, answer = await self._asked("GET", url, lookup.headers)
        if 200 <= status < 300:
            return ProviderAnswer(ProviderVerdict.ACCEPTED)
        words = _words(_json(answer))
        if status in lookup.unknown:
            warning = f"{lookup.unknown[status]}, or does not serve this path: HTTP {status}"
            return ProviderAnswer(ProviderVerdict.ACCEPTED, warning)
        if _MISSING_SCOPES in words:
            return ProviderAnswer(ProviderVerdict.ACCEPTED, _RESTRICTED_KEY)
        return _refused(status, _harmless(words, lookup.key))

    async def _asked(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Status and beginning of an answer. Not redirected: the key is for this server only."""
        async with self._session.request(
            method, url, headers={**headers, **_PLAIN}, data=body, allow_redirects=False, auto_decompress=False
        ) as response:
            try:
                return response.status, await response.content.readexactly(_MAX_ANSWER_BYTES)
            except asyncio.IncompleteReadError as error:  # it has come to its end
                return response.status, error.partial


def _http(url: str) -> str:
    """Where LiveKit's API is, as livekit-api finds it: at the address of the signalling, which is a WebSocket's."""
    parts = urlsplit(url)
    return f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}{parts.path}".rstrip("/")


def _lists_rooms(answer: bytes) -> bool:
    try:
        ListRoomsResponse.FromString(answer)
    except DecodeError:
        return False
    return True


def _openai(voice: VoiceSpec, values: Values) -> Lookup:
    key, model = values[voice.openai.credentials_secret_ref.name][OPENAI_KEY], voice.llm.model
    return Lookup(
        server=voice.openai.base_url,
        path=f"models/{quote(model, safe='')}",
        key=key,
        headers={"Authorization": f"Bearer {key}"},
        unknown={404: f"does not list model {model!r} (spec.voice.llm.model)"},
    )


def _tavus(tavus: TavusSpec, values: Values) -> Lookup:
    key = values[tavus.credentials_secret_ref.name][TAVUS_KEY]
    unknown = f"does not know face ID {tavus.face_id!r} (spec.avatar.tavus.faceID)"
    return Lookup(
        server=tavus.base_url,
        path=f"faces/{quote(tavus.face_id, safe='')}",
        key=key,
        headers={"x-api-key": key},
        unknown={400: unknown, 404: unknown},
    )


async def _bounded(ask: Callable[[], Awaitable[ProviderAnswer]]) -> ProviderAnswer:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await ask()
    except TimeoutError:
        return _unreachable(f"no answer within {TIMEOUT_SECONDS:.0f} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _unreachable(str(error) or type(error).__name__)


def _stranger() -> ProviderAnswer:
    return _unreachable("something answers there, but not as LiveKit does")


def _refused(status: int, words: str) -> ProviderAnswer:
    verdict = ProviderVerdict.REJECTED if status in (401, 403) else ProviderVerdict.UNREACHABLE
    return ProviderAnswer(verdict, f"HTTP {status} {words}".strip())


def _unreachable(detail: str) -> ProviderAnswer:
    return ProviderAnswer(ProviderVerdict.UNREACHABLE, detail)


def _fingerprint(*identity: str) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _json(answer: bytes) -> object:
    """None: it is no JSON, or none that is small enough."""
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):  # nested a thousand deep
        return None


def _words(answer: object) -> str:
    """What a provider says of a failure: ``msg`` (LiveKit), ``error.message`` (OpenAI), ``message`` or ``error``
    (Tavus), else nothing."""
    for name in ("error", "message", "msg"):
        if isinstance(answer, dict) and answer.get(name):
            answer = answer[name]
    return answer if isinstance(answer, str) else ""


def _harmless(words: str, key: str) -> str:
    """The words, unless a part of the key is in them: providers like to repeat it."""
    fragments = {key[at : at + _FRAGMENT] for at in range(max(1, len(key) - _FRAGMENT + 1))}
    return "" if any(fragment in words for fragment in fragments) else words

"""Tries the credentials of LiveKit, OpenAI and Tavus with a cheap authenticated request that changes nothing.

* LiveKit: ListRooms for one room that does not exist.
* OpenAI: ``GET /models/{model}`` (platform.openai.com/docs/api-reference/models/retrieve). The key is looked at before
  the path, so 404 is no refusal: servers that speak like OpenAI may not have it. A restricted key that may not read
  models is 401 ``Missing scopes: api.model.read``, and good for calls (community.openai.com/t/1345041).
* Tavus: ``GET /faces/{id}`` (docs.tavus.io/api-reference/faces/get-face). An unknown face is 400 ``Invalid face_id``.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote

import aiohttp
from google.protobuf.message import DecodeError
from livekit import api
from livekit.protocol.room import ListRoomsRequest
from yarl import URL

from agentspec import AvatarAgentSpec
from agentspec.avatar import TavusSpec
from agentspec.dispatch import LiveKitSpec
from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET, OPENAI_KEY, TAVUS_KEY
from agentspec.voice import VoiceSpec
from controller.inquiries import Inquiries, Inquiry
from controller.observation import Key, Provider, ProviderAnswer, ProviderVerdict
from controller.policy.credentials import tavus_in_use

TIMEOUT_SECONDS = 5.0

_NO_ROOM = "avatar-agent-credentials-check"
"""Asked for so that the answer is small on a busy server."""
_MAX_ANSWER_BYTES = 4096
"""Read of an answer, for its words."""
_MISSING_SCOPES = "Missing scopes"
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
        self._inquiries = Inquiries(changed)

    async def check(self, key: Key, spec: AvatarAgentSpec, values: Values) -> dict[Provider, ProviderAnswer]:
        """The answer of every provider that the agent uses; the Secrets must be complete.

        Waits only for credentials that were never tried. Never raises for what a server or a manifest may do.
        """
        inquiries = {
            Provider.LIVEKIT: self._livekit(spec.livekit, values),
            Provider.OPENAI: self._lookup(_openai(spec.voice, values)),
        }
        tavus = tavus_in_use(spec)
        if tavus is not None:
            inquiries[Provider.TAVUS] = self._lookup(_tavus(tavus, values))
        answers = await asyncio.gather(*(self._inquiries.answer(key, inquiry) for inquiry in inquiries.values()))
        return dict(zip(inquiries, answers, strict=True))

    def _livekit(self, livekit: LiveKitSpec, values: Values) -> Inquiry:
        held = values[livekit.credentials_secret_ref.name]
        pair = held[LIVEKIT_KEY], held[LIVEKIT_SECRET]
        ask = partial(_bounded, partial(self._list_rooms, livekit.url, *pair))
        return Inquiry(livekit.url, _fingerprint(Provider.LIVEKIT, livekit.url, *pair), ask)

    def _lookup(self, lookup: Lookup) -> Inquiry:
        identity = _fingerprint(lookup.server, lookup.path, *lookup.headers, lookup.key)
        return Inquiry(lookup.server, identity, partial(_bounded, partial(self._look_up, lookup)))

    async def _list_rooms(self, url: str, key: str, secret: str) -> ProviderAnswer:
        try:
            server = api.LiveKitAPI(url, key, secret, session=self._session, failover=False)
            await server.room.list_rooms(ListRoomsRequest(names=[_NO_ROOM]))
        except api.ServerError as error:
            return _refused(error.status, _harmless(str(error.message), secret))
        except (DecodeError, AttributeError):  # no protobuf, or an error that is no JSON object
            return _unreachable("something answers there, but not as LiveKit does")
        return ProviderAnswer(ProviderVerdict.ACCEPTED)

    async def _look_up(self, lookup: Lookup) -> ProviderAnswer:
        url = URL(f"{lookup.server.rstrip('/')}/{lookup.path}", encoded=True)
        # Not redirected: the key is for this server only.
        async with self._session.get(url, headers=lookup.headers, allow_redirects=False) as response:
            status = response.status
            if 200 <= status < 300:
                return ProviderAnswer(ProviderVerdict.ACCEPTED)
            words = await _words(response)
        if status in lookup.unknown:
            return ProviderAnswer(ProviderVerdict.ACCEPTED, f"{lookup.unknown[status]}, or no such path: HTTP {status}")
        if _MISSING_SCOPES in words:
            return ProviderAnswer(ProviderVerdict.ACCEPTED, "the key is restricted and may not read models")
        return _refused(status, _harmless(words, lookup.key))


def _openai(voice: VoiceSpec, values: Values) -> Lookup:
    key, model = values[voice.openai.credentials_secret_ref.name][OPENAI_KEY], voice.llm.model
    return Lookup(
        server=voice.openai.base_url,
        path=f"models/{quote(model, safe='')}",
        key=key,
        headers={"Authorization": f"Bearer {key}"},
        unknown={404: f"it has no model {model!r} (spec.voice.llm.model)"},
    )


def _tavus(tavus: TavusSpec, values: Values) -> Lookup:
    key = values[tavus.credentials_secret_ref.name][TAVUS_KEY]
    unknown = f"it has no face {tavus.face_id!r} (spec.avatar.tavus.faceID)"
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


def _refused(status: int, words: str) -> ProviderAnswer:
    verdict = ProviderVerdict.REJECTED if status in (401, 403) else ProviderVerdict.UNREACHABLE
    return ProviderAnswer(verdict, f"HTTP {status} {words}".strip())


def _unreachable(detail: str) -> ProviderAnswer:
    return ProviderAnswer(ProviderVerdict.UNREACHABLE, detail)


def _fingerprint(*identity: str) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


async def _words(response: aiohttp.ClientResponse) -> str:
    """What a provider says of a failure: ``error.message`` (OpenAI), ``message`` or ``error`` (Tavus), else nothing."""
    try:
        answer = json.loads(await response.content.read(_MAX_ANSWER_BYTES))
    except (ValueError, RecursionError):  # nested a thousand deep
        return ""
    for name in ("error", "message"):
        if isinstance(answer, dict) and answer.get(name):
            answer = answer[name]
    return answer if isinstance(answer, str) else ""


def _harmless(words: str, key: str) -> str:
    """The words, unless a part of the key is in them: providers like to repeat it."""
    fragments = {key[at : at + _FRAGMENT] for at in range(max(1, len(key) - _FRAGMENT + 1))}
    return "" if any(fragment in words for fragment in fragments) else words

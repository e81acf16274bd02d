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

from agentspec import AvatarAgentSpec, AvatarProvider
from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET, OPENAI_KEY, TAVUS_KEY
from controller.observation import Provider, ProviderAnswer, ProviderVerdict

TIMEOUT_SECONDS = 5.0
GOOD_SECONDS = 60.0
"""How long accepted credentials are taken as good."""
BAD_SECONDS = 8.0
"""How long a failure is believed: shorter than the next look at an agent that is not ready."""
PACE_SECONDS = 0.05
"""Least time between two requests to one server, however many agents use it."""

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
class Probe:
    """One request that tells whether credentials are good."""

    server: str
    identity: tuple[str, ...] = field(repr=False)
    """Everything that the answer depends on, keys included."""
    ask: Callable[[], Awaitable[ProviderAnswer]]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join((self.server, *self.identity)).encode()).hexdigest()


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

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._known: dict[str, tuple[float, ProviderAnswer]] = {}
        self._asking: dict[str, asyncio.Task[ProviderAnswer]] = {}
        self._turns: dict[str, float] = {}

    async def check(self, spec: AvatarAgentSpec, values: Values) -> dict[Provider, ProviderAnswer]:
        """The answer of every provider that the agent uses, at most a minute old; the Secrets must be complete.

        Never raises for what a server or a manifest may do.
        """
        probes = self._probes(spec, values)
        answers = await asyncio.gather(*(self._answer(probe) for probe in probes.values()))
        return dict(zip(probes, answers, strict=True))

    def _probes(self, spec: AvatarAgentSpec, values: Values) -> dict[Provider, Probe]:
        livekit, openai, tavus = spec.livekit, spec.voice.openai, spec.avatar.tavus
        pair = values[livekit.credentials_secret_ref.name]
        key, secret = pair[LIVEKIT_KEY], pair[LIVEKIT_SECRET]
        model = spec.voice.llm.model
        bearer = values[openai.credentials_secret_ref.name][OPENAI_KEY]
        lookups = {
            Provider.OPENAI: Lookup(
                server=openai.base_url,
                path=f"models/{quote(model, safe='')}",
                key=bearer,
                headers={"Authorization": f"Bearer {bearer}"},
                unknown={404: f"it has no model {model!r} (spec.voice.llm.model)"},
            )
        }
        if spec.avatar.provider is AvatarProvider.TAVUS and tavus is not None:
            unknown = f"it has no face {tavus.face_id!r} (spec.avatar.tavus.faceID)"
            tavus_key = values[tavus.credentials_secret_ref.name][TAVUS_KEY]
            lookups[Provider.TAVUS] = Lookup(
                server=tavus.base_url,
                path=f"faces/{quote(tavus.face_id, safe='')}",
                key=tavus_key,
                headers={"x-api-key": tavus_key},
                unknown={400: unknown, 404: unknown},
            )
        probes = {
            Provider.LIVEKIT: Probe(livekit.url, (key, secret), partial(self._list_rooms, livekit.url, key, secret))
        }
        for provider, lookup in lookups.items():
            probes[provider] = Probe(lookup.server, (lookup.path, lookup.key), partial(self._look_up, lookup))
        return probes

    async def _answer(self, probe: Probe) -> ProviderAnswer:
        """From memory, or from the request that is under way for it already, or from a new one."""
        now = asyncio.get_running_loop().time()
        name = probe.fingerprint
        known = self._known.get(name)
        if known is not None and now < known[0]:
            return known[1]
        if name not in self._asking:
            self._asking[name] = asyncio.create_task(self._ask(name, probe))
        return await asyncio.shield(self._asking[name])

    async def _ask(self, name: str, probe: Probe) -> ProviderAnswer:
        try:
            await self._turn(probe.server)
            answer = await _bounded(probe.ask)
        finally:
            del self._asking[name]
        now = asyncio.get_running_loop().time()
        self._known = {other: known for other, known in self._known.items() if now < known[0]}
        lasting = GOOD_SECONDS if answer.verdict is ProviderVerdict.ACCEPTED else BAD_SECONDS
        self._known[name] = (now + lasting, answer)
        return answer

    async def _turn(self, server: str) -> None:
        """Wait until the server may be asked again: not longer than those take who came before."""
        now = asyncio.get_running_loop().time()
        self._turns = {other: free for other, free in self._turns.items() if now < free}
        turn = self._turns.get(server, now)
        self._turns[server] = turn + PACE_SECONDS
        await asyncio.sleep(turn - now)

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


async def _bounded(ask: Callable[[], Awaitable[ProviderAnswer]]) -> ProviderAnswer:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await ask()
    except TimeoutError:
        return _unreachable(f"no answer within {TIMEOUT_SECONDS:.0f} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _unreachable(str(error) or type(error).__name__)


def _refused(status: int, words: str) -> ProviderAnswer:
    rejected = status in (401, 403)
    verdict = ProviderVerdict.REJECTED if rejected else ProviderVerdict.UNREACHABLE
    return ProviderAnswer(verdict, f"HTTP {status} {words}".strip())


def _unreachable(detail: str) -> ProviderAnswer:
    return ProviderAnswer(ProviderVerdict.UNREACHABLE, detail)


async def _words(response: aiohttp.ClientResponse) -> str:
    """What a provider says of a failure: ``error.message`` (OpenAI), ``message`` or ``error`` (Tavus), else nothing."""
    try:
        answer = json.loads(await response.content.read(_MAX_ANSWER_BYTES))
    except ValueError:
        return ""
    for name in ("error", "message"):
        if isinstance(answer, dict) and answer.get(name):
            answer = answer[name]
    return answer if isinstance(answer, str) else ""


def _harmless(words: str, key: str) -> str:
    """The words, unless a part of the key is in them: providers like to repeat it."""
    fragments = {key[at : at + _FRAGMENT] for at in range(max(1, len(key) - _FRAGMENT + 1))}
    return "" if any(fragment in words for fragment in fragments) else words

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
from collections.abc import Callable, Mapping
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
        ask = partial(self._bounded, partial(self._list_rooms, livekit.url, *pair))
        return Inquiry(livekit.url, _fingerprint(Provider.LIVEKIT, livekit.url, *pair), ask)

    def _lookup(self, lookup: Lookup) -> Inquiry:
        identity = _fingerprint(lookup.server, lookup.path, *lookup.headers, lookup.key)
        return Inquiry(lookup.server, identity, partial(self._bounded, partial(self._look_up, lookup)))

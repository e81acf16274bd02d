"""Reads the Secrets and ConfigMaps that manifests name, and notices when they change.

They are read one by one, by name: the controller has no right to list or watch Secrets. One read serves every agent of
the namespace that names the object. Values are kept in memory only, and no longer than somebody names the object.
"""

import asyncio
import base64
import binascii
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.observation import Key
from kube.client import ApiError, Document, KubeClient
from kube.kinds import CONFIG_MAP, SECRET, Kind

logger = logging.getLogger(__name__)

FRESH_SECONDS = 20.0
"""What was read is taken as it was for this long. With `SPREAD_SECONDS` well below the 30 s in which a change shows."""
SPREAD_SECONDS = 4.0
"""Up to so much is added by chance, so that what was read at once is not read at once for ever."""
RETRY_SECONDS = 5.0
"""What is missing or could not be read is tried again after this long."""
REFRESH_SOON_SECONDS = 1.0
"""How old what was read may be when it matters now: changes that come together make one rollout."""
CONCURRENT_READS = 4
"""Objects that the refresh reads at once."""
PLACE_SECONDS = 1.0
"""How long one of them may keep the next from its turn: a request that hangs takes 30 s."""
_IDLE_SECONDS = 0.5
"""How often the refresh looks for what is due."""

Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Reference:
    """An object that manifests name."""

    kind: Kind
    namespace: str
    name: str


@dataclass(slots=True)
class _Entry:
    """What is known of it."""

    named_by: set[Key] = field(default_factory=set)
    values: Values | None = None
    """As last read; None: there was no such object."""
    version: str | None = None
    """Resource version of `values`, empty without an object; None: it was never read."""
    problem: ApiError | None = None
    """Why it could not be read, the last time."""
    visited: bool = False
    """Somebody was told something of it."""
    read: float = float("-inf")
    """When it was read last, by the event loop's clock."""
    due: float = 0.0
    """When it is read again, by the event loop's clock."""
    reading: asyncio.Task[None] | None = None
    in_line: bool = False
    """The refresh is about to read it."""

    @property
    def refusal(self) -> ApiError | None:
        """What askers get instead of values. An API server that is away for a while does not unmake what was read."""
        return self.problem if self.problem and (self.problem.is_rejection or self.version is None) else None

    @property
    def told(self) -> Values | str | None:
        """What askers get, to compare."""
        return str(self.refusal) if self.refusal else self.values

    def learn(self, kind: Kind, document: Document | None) -> None:
        """It was read."""
        version = "" if document is None else document["metadata"]["resourceVersion"]
        if version != self.version:
            self.values = None if document is None else _values(kind, document)
        self.version, self.problem = version, None


class References:
    """All objects that agents name. `changed` is called for each agent that names one that has changed."""

    def __init__(self, client: KubeClient, changed: Callable[[Key], None]) -> None:
        self._client = client
        self._changed = changed
        self._entries: dict[Reference, _Entry] = {}
        self._named: dict[Key, set[Reference]] = {}

    async def secret(self, key: Key, name: str) -> Values | None:
        """A Secret's values by key, without blanks around; None: there is no such Secret. Raises ApiError.

        A byte that is no UTF-8 comes as U+FFFD.
        """
        return await self._get(key, Reference(SECRET, key.namespace, name))

    async def config_map(self, key: Key, name: str) -> Mapping[str, str] | None:
        """A ConfigMap's texts by key; None: there is no such ConfigMap. Raises ApiError."""
        return await self._get(key, Reference(CONFIG_MAP, key.namespace, name))

    def keep(self, key: Key, secrets: Iterable[str], config_maps: Iterable[str]) -> None:
        """The agent names these and no others: what nobody names any more is forgotten."""
        kept = {Reference(SECRET, key.namespace, name) for name in secrets}
        kept |= {Reference(CONFIG_MAP, key.namespace, name) for name in config_maps}
        for reference in self._named.get(key, set()) - kept:
            self._drop(key, reference)

    def refresh_soon(self, key: Key) -> None:
        """The agent's manifest has changed, or something is wrong with it: what it names may just be changing, too."""
        for reference in self._named.get(key, ()):
            entry = self._entries[reference]
            entry.due = min(entry.due, entry.read + REFRESH_SOON_SECONDS)

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self.keep(key, (), ())

    async def run(self) -> None:
        """Read again what is due until cancelled."""
        places = asyncio.Semaphore(CONCURRENT_READS)
        async with asyncio.TaskGroup() as group:
            while True:
                now = asyncio.get_running_loop().time()
                for reference, entry in self._entries.items():
                    if entry.due <= now and not entry.in_line and entry.reading is None:
                        entry.in_line = True
                        group.create_task(self._refresh(reference, entry, places))
                await asyncio.sleep(_IDLE_SECONDS)

    async def _refresh(self, reference: Reference, entry: _Entry, places: asyncio.Semaphore) -> None:
        async with places:
            entry.in_line = False
            if self._entries.get(reference) is entry and entry.due <= asyncio.get_running_loop().time():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PLACE_SECONDS):
                        await self._read(reference, entry)

    async def _get(self, key: Key, reference: Reference) -> Values | None:
        entry = self._entries.setdefault(reference, _Entry())
        entry.named_by.add(key)
        self._named.setdefault(key, set()).add(reference)
        if entry.due <= asyncio.get_running_loop().time():
            await self._read(reference, entry)
        if entry.refusal is not None:
            raise entry.refusal.with_traceback(None)  # one object for all askers: it must not collect their frames
        return entry.values

    def _drop(self, key: Key, reference: Reference) -> None:
        self._named[key].discard(reference)
        if not self._named[key]:
            del self._named[key]
        entry = self._entries[reference]
        entry.named_by.discard(key)
        if not entry.named_by:
            del self._entries[reference]

    def _read(self, reference: Reference, entry: _Entry) -> Awaitable[None]:
        """Read it once for all who wait; one who stops waiting does not stop the others."""
        if entry.reading is None:
            entry.reading = asyncio.create_task(self._read_once(reference, entry))
        return asyncio.shield(entry.reading)

    async def _read_once(self, reference: Reference, entry: _Entry) -> None:
        before, visited = entry.told, entry.visited
        try:
            document = await self._client.get(reference.kind, reference.namespace, reference.name)
        except ApiError as error:
            if entry.problem is None:
                facts = {"kind": reference.kind.kind, "namespace": reference.namespace, "object": reference.name}
                logger.warning("reference not read", extra={**facts, "error": str(error)})
            entry.problem = error
            found = False
        else:
            entry.learn(reference.kind, document)
            found = document is not None
        finally:
            entry.reading = None
        wait = FRESH_SECONDS + random.uniform(0, SPREAD_SECONDS) if found else RETRY_SECONDS
        entry.read = asyncio.get_running_loop().time()
        entry.due = entry.read + wait
        entry.visited = True
        if visited and entry.told != before:
            for key in list(entry.named_by):
                self._changed(key)


def _values(kind: Kind, document: Mapping[str, Any]) -> Values:
    data = document.get("data") or {}
    return {key: _decoded(value) for key, value in data.items()} if kind is SECRET else dict(data)


def _decoded(encoded: str | None) -> str:
    try:
        return base64.b64decode(encoded or "", validate=True).decode(errors="replace").strip()
    except binascii.Error:
        return "\N{REPLACEMENT CHARACTER}"

"""Reads the Secrets and ConfigMaps that manifests refer to, and detects changes.

Objects are read one by one, by name: the controller has no permission to list or watch Secrets. One read serves every
agent of the namespace that refers to the object. Values stay in memory only, as long as an agent refers to them.
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

from controller.inputs import textfile
from controller.observation import Key
from kube.client import ApiError, Document, KubeClient
from kube.kinds import CONFIG_MAP, SECRET, Kind

logger = logging.getLogger(__name__)

FRESH_SECONDS = 20.0
"""How long a value is fresh: with `SPREAD_SECONDS` well below the 30 s in which a change must take effect."""
SPREAD_SECONDS = 4.0
"""Maximum random addition to `FRESH_SECONDS`, so that objects read together do not stay in step."""
RETRY_SECONDS = 5.0
"""Interval of reads of an object that is missing or could not be read."""
REFRESH_SOON_SECONDS = 1.0
"""Maximum age of a value after `refresh_soon`, so that changes made together cause one rollout."""
CONCURRENT_READS = 4
"""Maximum number of concurrent refreshes."""
MAX_SLOT_SECONDS = 1.0
"""How long one refresh may hold its place; a request that hangs takes 30 s to time out."""
_POLL_SECONDS = 0.5
"""How often the refresh loop looks for stale objects."""

Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a Secret or ConfigMap."""

    values: Values
    """Text by key."""
    faults: dict[str, str] = field(default_factory=dict)
    """Keys of a ConfigMap whose value is no text that can be read, each with the reason."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The identity of a Secret or ConfigMap."""

    kind: Kind
    namespace: str
    name: str


@dataclass(slots=True)
class _Entry:
    """The cached object behind a reference. Times are the event loop's."""

    agents: set[Key] = field(default_factory=set)
    """The agents that refer to it."""
    contents: Contents | None = None
    """Contents as last read; None: the object did not exist."""
    version: str | None = None
    """Resource version of `contents`, empty if the object did not exist; None: no read has succeeded."""
    error: ApiError | None = None
    """The error of the last read; None: it succeeded."""
    was_read: bool = False
    """Whether a read has finished, with a result or an error."""
    read_at: float = float("-inf")
    """When the last read finished."""
    stale_at: float = 0.0
    """When to read it again."""
    reading: asyncio.Task[None] | None = None
    """The read in flight."""
    is_queued: bool = False
    """Whether a refresh is scheduled."""

    @property
    def raised(self) -> ApiError | None:
        """The error that callers get instead of contents. An outage of the API server leaves cached values valid."""
        return self.error if self.error and (self.error.is_rejection or self.version is None) else None

    @property
    def outcome(self) -> Contents | str | None:
        """What callers get, in a form to compare."""
        return str(self.raised) if self.raised else self.contents

    def store(self, kind: Kind, document: Document | None) -> None:
        """Store the result of a successful read."""
        version = "" if document is None else document["metadata"]["resourceVersion"]
        if version != self.version:
            self.contents = None if document is None else _contents(kind, document)
        self.version, self.error = version, None


class References:
    """A cache of all objects that agents refer to.

    Calls `on_change` for each agent that refers to an object that changed.
    """

    def __init__(self, client: KubeClient, on_change: Callable[[Key], None]) -> None:
        self._client = client
        self._on_change = on_change
        self._entries: dict[Reference, _Entry] = {}
        self._references: dict[Key, set[Reference]] = {}

    async def secret(self, key: Key, name: str) -> Values | None:
        """A Secret's values by key, without surrounding white space; None: it does not exist. Raises ApiError.

        A byte that is not UTF-8 becomes U+FFFD.
        """
        contents = await self._get(key, Reference(SECRET, key.namespace, name))
        return None if contents is None else contents.values

    async def config_map(self, key: Key, name: str) -> Contents | None:
        """A ConfigMap's texts, and the keys that are none; None: it does not exist. Raises ApiError."""
        return await self._get(key, Reference(CONFIG_MAP, key.namespace, name))

    def retain(self, key: Key, secrets: Iterable[str], config_maps: Iterable[str]) -> None:
        """Drop every reference of the agent but these, and every object without references."""
        retained = {Reference(SECRET, key.namespace, name) for name in secrets}
        retained |= {Reference(CONFIG_MAP, key.namespace, name) for name in config_maps}
        for reference in self._references.get(key, set()) - retained:
            self._drop(key, reference)

    def refresh_soon(self, key: Key) -> None:
        """Read the agent's objects again within a second.

        Called when its manifest changed or a condition is false: the objects may be changing at the same time.
        """
        for reference in self._references.get(key, ()):
            entry = self._entries[reference]
            entry.stale_at = min(entry.stale_at, entry.read_at + REFRESH_SOON_SECONDS)

    def forget(self, key: Key) -> None:
        """Drop all references of an agent that no longer exists."""
        self.retain(key, (), ())

    async def run(self) -> None:
        """Refresh stale objects until cancelled."""
        slots = asyncio.Semaphore(CONCURRENT_READS)
        async with asyncio.TaskGroup() as group:
            while True:
                now = asyncio.get_running_loop().time()
                for reference, entry in self._entries.items():
                    if entry.stale_at <= now and not entry.is_queued and entry.reading is None:
                        entry.is_queued = True
                        group.create_task(self._refresh(reference, entry, slots))
                await asyncio.sleep(_POLL_SECONDS)

    async def _refresh(self, reference: Reference, entry: _Entry, slots: asyncio.Semaphore) -> None:
        async with slots:
            entry.is_queued = False
            if self._entries.get(reference) is entry and entry.stale_at <= asyncio.get_running_loop().time():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(MAX_SLOT_SECONDS):
                        await self._read(reference, entry)

    async def _get(self, key: Key, reference: Reference) -> Contents | None:
        entry = self._entries.setdefault(reference, _Entry())
        entry.agents.add(key)
        self._references.setdefault(key, set()).add(reference)
        if entry.stale_at <= asyncio.get_running_loop().time():
            await self._read(reference, entry)
        if entry.raised is not None:
            raise entry.raised.with_traceback(None)  # one object for all callers: it must not collect their frames
        return entry.contents

    def _drop(self, key: Key, reference: Reference) -> None:
        self._references[key].discard(reference)
        if not self._references[key]:
            del self._references[key]
        entry = self._entries[reference]
        entry.agents.discard(key)
        if not entry.agents:
            del self._entries[reference]

    def _read(self, reference: Reference, entry: _Entry) -> Awaitable[None]:
        """Read the object once for all callers. Cancelling one caller does not cancel the read."""
        if entry.reading is None:
            entry.reading = asyncio.create_task(self._read_once(reference, entry))
        return asyncio.shield(entry.reading)

    async def _read_once(self, reference: Reference, entry: _Entry) -> None:
        before, was_read = entry.outcome, entry.was_read
        try:
            document = await self._client.get(reference.kind, reference.namespace, reference.name)
        except ApiError as error:
            if entry.error is None:
                facts = {"kind": reference.kind.kind, "namespace": reference.namespace, "object": reference.name}
                logger.warning("could not read referenced object, retrying", extra={**facts, "error": str(error)})
            entry.error = error
            found = False
        else:
            entry.store(reference.kind, document)
            found = document is not None
        finally:
            entry.reading = None
        ttl = FRESH_SECONDS + random.uniform(0, SPREAD_SECONDS) if found else RETRY_SECONDS
        entry.read_at = asyncio.get_running_loop().time()
        entry.stale_at = entry.read_at + ttl
        entry.was_read = True
        if was_read and entry.outcome != before:
            for key in list(entry.agents):
                self._on_change(key)


def _contents(kind: Kind, document: Mapping[str, Any]) -> Contents:
    data = document.get("data") or {}
    if kind is SECRET:
        return Contents({key: _decoded(value) for key, value in data.items()})
    contents = Contents({key: textfile.normalised(value or "") for key, value in data.items()})
    for key, encoded in (document.get("binaryData") or {}).items():
        try:
            contents.values[key] = textfile.decoded(base64.b64decode(encoded or ""))
        except textfile.NotText as fault:
            contents.faults[key] = str(fault)
    return contents


def _decoded(encoded: str | None) -> str:
    try:
        return base64.b64decode(encoded or "", validate=True).decode(errors="replace").strip()
    except binascii.Error:
        return "\N{REPLACEMENT CHARACTER}"

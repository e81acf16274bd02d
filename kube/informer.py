"""Keeps a parsed copy of one kind's objects in memory: lists them, watches them, and lists again after a gap.

The design is that of client-go's Reflector. kopf's own watch hides bookmarks, so a stalled watch goes unnoticed. After
a gap (410 Gone) kopf does not report objects that were deleted meanwhile; here the new list replaces the copy.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Hashable, Mapping, Set
from typing import Any, Generic, TypeVar

from kube.client import ApiError, Document, KubeClient
from kube.kinds import Kind

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
INITIAL_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 15.0
SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner is reopened after a backoff (client-go, reflector.go: "very short watch")."""
_GONE = 410
_RETRIABLE = frozenset({0, 429})
"""No response, or too many requests: the watch resumes at the same version (client-go, reflector.go:
isWatchErrorRetriable). After any other error everything is listed again."""
_RETRIABLE_ON_OPEN = frozenset({500, 502, 503})
"""Also retriable while a watch is being opened; from an open watch they mean that events were lost."""


class Informer(Generic[K, T]):
    """The selected objects of one kind, parsed, and grouped by a key."""

    def __init__(
        self,
        client: KubeClient,
        kind: Kind,
        namespace: str | None,
        *,
        group_of: Callable[[Document], K],
        parse: Callable[[Document], T],
        on_change: Callable[[K], None] = lambda _: None,
        selector: str = "",
        metadata_only: bool = False,
    ) -> None:
        """Create an informer that is empty until it runs.

        `namespace` None means all namespaces. `group_of` returns the key of the group that an object belongs to; the
        objects of one group must be in one namespace, because a group holds them by name.
        `parse` returns the part of an object to keep. `on_change` is called with the group's key when that part
        changes, and when an object appears or disappears.
        """
        self.kind = kind
        self.last_contact: float | None = None
        """When the API server last sent anything (monotonic seconds); None before the first list."""
        self._client = client
        self._namespace = namespace
        self.parse = parse
        self._group_of = group_of
        self._on_change = on_change
        self._selection: dict[str, Any] = {"selector": selector, "metadata_only": metadata_only}
        self._groups: dict[K, dict[str, T]] = {}
        self._versions: dict[tuple[str, str], tuple[K, int]] = {}
        """Group and resource version of each object, by namespace and name."""
        self._version = ""
        """Resource version that the watch has reached; empty: a list is needed."""
        self._latest_version = 0
        """The latest resource version of a list or a watch."""
        self._backoff = INITIAL_BACKOFF_SECONDS
        self._opened_at: float | None = None
        """When the API server accepted the current watch (monotonic seconds); None: not yet."""
        self._synced = asyncio.Event()

    @property
    def synced(self) -> bool:
        """Whether all objects have been listed once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait until all objects have been listed once."""
        await self._synced.wait()

    def group(self, key: K) -> Mapping[str, T]:
        """The objects of a group, by name."""
        return self._groups.get(key, {})

    def group_keys(self) -> Set[K]:
        """The keys of all groups that have objects."""
        return self._groups.keys()

    def upsert(self, document: Document) -> None:
        """Add or update an object; an older version than the one in memory is ignored."""
        metadata = document["metadata"]
        identity, version = (metadata["namespace"], metadata["name"]), int(metadata["resourceVersion"])
        key, (known_key, known_version) = self._group_of(document), self._versions.get(identity, (None, 0))
        # Versions are comparable numbers: Kubernetes documentation, "API Concepts", "Resource versions" (1.35 on).
        if version <= known_version:
            return
        if known_key not in (None, key):
            self._drop(identity)  # its label was edited: the object has left its former group
        self._versions[identity] = (key, version)
        objects = self._groups.setdefault(key, {})
        old, new = objects.get(metadata["name"]), self.parse(document)
        objects[metadata["name"]] = new
        if new != old:
            self._on_change(key)

    def observe_write(self, document: Document) -> None:
        """Add the API server's response to a write, without waiting for the watch.

        Ignored when the watch has passed that version: it has reported the write, and perhaps a later deletion.
        """
        if int(document["metadata"]["resourceVersion"]) > int(self._version or 0):
            self.upsert(document)

    def remove(self, document: Document) -> None:
        """Remove an object that was deleted or no longer matches the selector, unless a newer version is in memory."""
        metadata = document["metadata"]
        identity = (metadata["namespace"], metadata["name"])
        if self._versions.get(identity, (None, 0))[1] <= int(metadata["resourceVersion"]):
            self._drop(identity)

    def _drop(self, identity: tuple[str, str]) -> None:
        if identity not in self._versions:
            return
        key, _ = self._versions.pop(identity)
        objects = self._groups[key]
        del objects[identity[1]]
        if not objects:
            del self._groups[key]
        self._on_change(key)

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            listed, self._opened_at = not self._version, None
            failure = ""
            try:
                if listed:
                    await self._list()
                await self._watch()
            except ApiError as error:
                failure = str(error)
                if not self._can_resume_after(error.status):
                    self._version = ""
                if error.status == _GONE and not listed:
                    continue
            open_seconds = 0.0 if self._opened_at is None else time.monotonic() - self._opened_at
            if open_seconds > MAX_BACKOFF_SECONDS:
                self._backoff = INITIAL_BACKOFF_SECONDS
            if failure or open_seconds < SHORT_WATCH_SECONDS:
                await self._back_off(failure or "ended at once")

    def _can_resume_after(self, status: int) -> bool:
        """Whether the watch can continue at its version after this error, without losing events."""
        return status in _RETRIABLE or (self._opened_at is None and status in _RETRIABLE_ON_OPEN)

    async def _back_off(self, failure: str) -> None:
        fields = {"kind": self.kind.kind, "error": failure, "retry_seconds": self._backoff}
        logger.warning("watch interrupted, retrying", extra=fields)
        await asyncio.sleep(self._backoff)
        self._backoff = min(2 * self._backoff, MAX_BACKOFF_SECONDS)

    async def _list(self) -> None:
        documents, version = await self._client.list_with_version(self.kind, self._namespace, **self._selection)
        if int(version) < self._latest_version:
            # Lists are never older than what the server sent before, except after a restore of etcd from a backup.
            self._versions = {identity: (key, 0) for identity, (key, _) in self._versions.items()}
        listed = {(document["metadata"]["namespace"], document["metadata"]["name"]) for document in documents}
        # An object written after the list was taken is newer than the list; the watch will report what became of it.
        older = {identity for identity, (_, known) in self._versions.items() if known <= int(version)}
        for identity in older - listed:
            self._drop(identity)
        for document in documents:
            self.upsert(document)
        self.last_contact, self._version, self._latest_version = time.monotonic(), version, int(version)
        self._synced.set()

    async def _watch(self) -> None:
        """Process events until the API server ends the watch. Raises ApiError."""
        events = self._client.watch(self.kind, self._namespace, self._version, on_open=self._opened, **self._selection)
        async with contextlib.aclosing(events):
            async for event, document in events:
                self.last_contact, self._backoff = time.monotonic(), INITIAL_BACKOFF_SECONDS
                self._version = document["metadata"]["resourceVersion"]
                self._latest_version = int(self._version)
                if event == "DELETED":
                    self.remove(document)
                elif event != "BOOKMARK":
                    self.upsert(document)

    def _opened(self) -> None:
        """The copy is complete up to now, although the first bookmark may come a minute later."""
        self.last_contact = self._opened_at = time.monotonic()

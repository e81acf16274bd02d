"""Keeps what matters of one kind's objects as the API server has them: list, watch, and list again after a gap.

The shape is client-go's Reflector. kopf's own watch hides bookmarks, so nobody sees that it has stalled, and after a
gap (410 Gone) it never tells what was deleted meanwhile; here the new list replaces everything.
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
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
BRIEF_SECONDS = 1.0
"""A watch that ends sooner is not opened again at once (client-go, reflector.go: "very short watch")."""
_GONE = 410
_AWAY = frozenset({0, 429})
"""No answer, or not now: the watch goes on later where it stood (client-go, reflector.go: isWatchErrorRetriable). Any
other word about it leaves nothing but to list."""
_AT_FAULT = frozenset({500, 502, 503})
"""As good as no answer when a watch is opened; in the middle of one they mean that something is missing."""


class Informer(Generic[K, T]):
    """The selected objects of one kind, parsed, in groups: `key_of` says which group an object belongs to."""

    def __init__(
        self,
        client: KubeClient,
        kind: Kind,
        namespace: str | None,
        *,
        key_of: Callable[[Document], K],
        parse: Callable[[Document], T],
        changed: Callable[[K], None],
        selector: str = "",
        metadata_only: bool = False,
    ) -> None:
        """`parse` keeps what matters of an object; `changed` is called with the group's key when that differs."""
        self.kind = kind
        self.heard: float | None = None
        """When the API server last said anything (monotonic seconds); None: not listed yet."""
        self._client = client
        self._namespace = namespace
        self.parse = parse
        self._key_of = key_of
        self._changed = changed
        self._shape: dict[str, Any] = {"selector": selector, "metadata_only": metadata_only}
        self._objects: dict[K, dict[str, T]] = {}
        self._known: dict[tuple[str, str], tuple[K, int]] = {}
        self._version = ""
        """How far the watch has come; empty: everything has to be listed."""
        self._pause = FIRST_PAUSE_SECONDS
        self._opened: float | None = None
        """When the API server accepted the present watch (monotonic seconds); None: it has not."""
        self._listed = asyncio.Event()

    def of(self, key: K) -> Mapping[str, T]:
        """An agent's objects, by name."""
        return self._objects.get(key, {})

    def groups(self) -> Set[K]:
        """The groups that have objects."""
        return self._objects.keys()

    async def wait_listed(self) -> None:
        """Until everything there was has been seen."""
        await self._listed.wait()

    def see(self, document: Document) -> None:
        """An object as the API server has it."""
        metadata = document["metadata"]
        identity, version = (metadata["namespace"], metadata["name"]), int(metadata["resourceVersion"])
        key, (before, known) = self._key_of(document), self._known.get(identity, (None, 0))
        # Versions are comparable numbers: Kubernetes documentation, "API Concepts", "Resource versions" (1.35 on).
        if version <= known:
            return
        if before not in (None, key):
            self._remove(identity)  # its label was edited: somebody's child is missing now
        self._known[identity] = (key, version)
        objects = self._objects.setdefault(key, {})
        old, new = objects.get(metadata["name"]), self.parse(document)
        objects[metadata["name"]] = new
        if new != old:
            self._changed(key)

    def answered(self, document: Document) -> None:
        """The API server's answer to a write. Where the watch has come further already it has told of it, and of what
        happened to the object since: perhaps it is gone."""
        if int(document["metadata"]["resourceVersion"]) > int(self._version or 0):
            self.see(document)

    def lose(self, document: Document) -> None:
        """An object is gone, or has lost the labels by which it is watched."""
        metadata = document["metadata"]
        identity = (metadata["namespace"], metadata["name"])
        if self._known.get(identity, (None, 0))[1] <= int(metadata["resourceVersion"]):
            self._remove(identity)

    def _remove(self, identity: tuple[str, str]) -> None:
        if identity not in self._known:
            return
        key, _ = self._known.pop(identity)
        objects = self._objects[key]
        del objects[identity[1]]
        if not objects:
            del self._objects[key]
        self._changed(key)

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            listed, self._opened = not self._version, None
            trouble = ""
            try:
                if listed:
                    await self._list()
                await self._watch()
            except ApiError as error:
                trouble = str(error)
                if not self._goes_on(error.status):
                    self._version = ""
                if error.status == _GONE and not listed:
                    continue
            lasted = 0.0 if self._opened is None else time.monotonic() - self._opened
            if lasted > LONGEST_PAUSE_SECONDS:
                self._pause = FIRST_PAUSE_SECONDS
            if trouble or lasted < BRIEF_SECONDS:
                await self._wait(trouble or "ended at once")

    def _goes_on(self, status: int) -> bool:
        """Whether a watch that failed so misses nothing when it is opened again from where it stood."""
        return status in _AWAY or (self._opened is None and status in _AT_FAULT)

    async def _wait(self, trouble: str) -> None:
        facts = {"kind": self.kind.kind, "error": trouble, "retry_seconds": self._pause}
        logger.warning("watch interrupted", extra=facts)
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    async def _list(self) -> None:
        documents, version = await self._client.list_at(self.kind, self._namespace, **self._shape)
        there = {(document["metadata"]["namespace"], document["metadata"]["name"]) for document in documents}
        # What was written meanwhile is younger than the list: the watch, which begins there, tells what became of it.
        missing = {identity for identity, (_, known) in self._known.items() if known <= int(version)} - there
        for identity in missing:
            self._remove(identity)
        for document in documents:
            self.see(document)
        self.heard, self._version = time.monotonic(), version
        self._listed.set()

    async def _watch(self) -> None:
        """Follow until the API server ends the watch. Raises ApiError."""
        events = self._client.watch(self.kind, self._namespace, self._version, opened=self._accepted, **self._shape)
        async with contextlib.aclosing(events):
            async for event, document in events:
                self.heard, self._pause = time.monotonic(), FIRST_PAUSE_SECONDS
                self._version = document["metadata"]["resourceVersion"]
                if event == "DELETED":
                    self.lose(document)
                elif event != "BOOKMARK":
                    self.see(document)

    def _accepted(self) -> None:
        """Nothing was missed up to now, though on a quiet cluster it may take a minute to the first bookmark."""
        self.heard = self._opened = time.monotonic()

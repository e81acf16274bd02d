"""An API server in memory: versions, generations, selectors, watches, failures."""

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.aio import client as kubernetes

from kube.client import ApiError, Document, Documents, KubeClient, WatchEvent
from kube.kinds import Kind

RESPONSE_SECONDS = 0.01
"""Duration of every request, by the event loop's clock."""
UNREACHABLE = ApiError(0, "Unreachable", "GET /api", "connection refused")
TOO_OLD = ApiError(410, "Expired", "WATCH /api", "too old resource version")
TOO_LARGE = ApiError(504, "Timeout", "WATCH /api", "Too large resource version")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object; with neither `before` nor `after` a bookmark."""

    kind: Kind
    version: int
    before: Document | None = None
    after: Document | None = None


class FakeApiServer(KubeClient):
    """A `KubeClient` whose objects are in memory; its watches report every change."""

    def __init__(self, field_manager: str = "test") -> None:
        super().__init__(kubernetes.ApiClient(kubernetes.Configuration(host="https://nowhere.example")), field_manager)
        self.writes: list[tuple[str, str, Any]] = []
        """Verb, kind and document (of a deletion the name) of every write through the client."""
        self.requests: Counter[tuple[str, str]] = Counter()
        """Number of requests by verb and kind."""
        self.failures: dict[tuple[str, str], ApiError] = {}
        """The error that requests of a verb and kind fail with."""
        self.undiscoverable: set[Kind] = set()
        """The kinds that API discovery does not list."""
        self.watch_versions: list[str] = []
        """The resource version that each watch started from."""
        self.version = 100
        """The latest resource version."""
        self._objects: dict[tuple[Kind, str, str], Document] = {}
        self._history: list[Change] = []
        self._oldest = 0
        self._ended = 0
        self._ended_with: ApiError | None = None
        self._news = asyncio.Event()

    def put(self, kind: Kind, document: Document) -> Document:
        """Create or update an object as another client would: replaces the given top-level fields, leaves the rest."""
        metadata = document["metadata"]
        before = self._objects.get((kind, metadata["namespace"], metadata["name"]), {"metadata": {}})
        return self._store(kind, copy.deepcopy(before | document | {"metadata": before["metadata"] | metadata}))

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete an object as another client would."""
        before = self._objects.pop((kind, namespace, name))
        self._record(kind, before, None)

    def bookmark(self, kind: Kind) -> None:
        """Send a bookmark to the watches of a kind."""
        self._record(kind, None, None)

    def end_watches(self, error: ApiError | None = None) -> None:
        """End all watches, with the error if there is one."""
        self._ended, self._ended_with = self._ended + 1, error
        self._wake()

    def compact(self) -> None:
        """Drop the history: a watch from an older version fails with 410."""
        self._history.clear()
        self._oldest = self.version

    def restore(self, version: int) -> None:
        """Go back to an earlier version, without objects, as etcd does when it is restored from a backup."""
        self._objects.clear()
        self._history.clear()
        self.version, self._oldest = version, 0

    def find(self, kind: Kind, namespace: str, name: str) -> Document | None:
        """A copy of an object; None when it does not exist."""
        return copy.deepcopy(self._objects.get((kind, namespace, name)))

    def written(self, kind: Kind) -> list[Any]:
        """The documents of a kind that were written through the client."""
        return [document for _, written, document in self.writes if written == kind.kind]

    def names(self, kind: Kind) -> set[str]:
        """The names of all objects of a kind."""
        return {name for there, _, name in self._objects if there == kind}

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        await self._respond("get", kind)
        return self.find(kind, namespace, name)

    async def is_discoverable(self, kind: Kind) -> bool:
        await self._respond("discover", kind)
        return kind not in self.undiscoverable

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Document]:
        items, _ = await self.list_with_version(kind, namespace, selector)
        return items

    async def list_versions(self, kind: Kind, namespace: str | None) -> dict[tuple[str, str], int]:
        found = [document["metadata"] for document in await self.list(kind, namespace)]
        return {(one["namespace"], one["name"]): int(one["resourceVersion"]) for one in found}

    async def list_with_version(
        self, kind: Kind, namespace: str | None, selector: str = "", *, metadata_only: bool = False
    ) -> tuple[Documents, str]:
        await self._respond("list", kind)
        items = [
            _shaped(document, metadata_only)
            for (there, _, _), document in self._objects.items()
            if there == kind and _selected(document, namespace, selector)
        ]
        return items, str(self.version)

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        version: str,
        selector: str = "",
        *,
        metadata_only: bool = False,
        on_open: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[WatchEvent]:
        await self._respond("watch", kind)
        self.watch_versions.append(version)
        if int(version) < self._oldest:
            raise TOO_OLD
        if int(version) > self.version:
            raise TOO_LARGE
        on_open()
        at, ended = int(version), self._ended
        while True:
            news = self._news
            if self._ended != ended:
                if self._ended_with is not None:
                    raise self._ended_with
                return
            for change in [one for one in self._history if one.version > at]:
                at = change.version
                event = _event(change, namespace, selector) if change.kind == kind else None
                if event is not None:
                    yield event[0], _shaped(event[1], metadata_only)
            await news.wait()

    async def apply(self, kind: Kind, document: Document, subresource: str | None = None) -> Document:
        await self._respond("apply", kind, document)
        metadata = document["metadata"]
        before = self._objects.get((kind, metadata["namespace"], metadata["name"]))
        if before is None and subresource is not None:
            raise ApiError(404, "NotFound", "PATCH", "there is none")
        managed = {"metadata": {"managedFields": [{"manager": self._field_manager}]}}
        return self._store(kind, _merged(_merged(before or {}, document), managed))

    async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Document) -> Document:
        await self._respond("merge", kind, patch)
        before = self._objects.get((kind, namespace, name))
        if before is None:
            raise ApiError(404, "NotFound", "PATCH", "there is none")
        return self._store(kind, _merged(before, patch))

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        await self._respond("create", kind, document)
        return document

    async def delete(self, kind: Kind, namespace: str, name: str, *, grace_seconds: int | None = None) -> None:
        await self._respond("delete", kind, name if grace_seconds is None else {name: grace_seconds})
        if (kind, namespace, name) in self._objects:
            self.remove(kind, namespace, name)

    async def _respond(self, verb: str, kind: Kind, written: Document | str | None = None) -> None:
        self.requests[verb, kind.kind] += 1
        await asyncio.sleep(RESPONSE_SECONDS)
        if (verb, kind.kind) in self.failures:
            raise self.failures[verb, kind.kind]
        if written is not None:
            self.writes.append((verb, kind.kind, copy.deepcopy(written)))

    def _store(self, kind: Kind, document: Document) -> Document:
        metadata = document["metadata"]
        identity = (kind, metadata["namespace"], metadata["name"])
        before = self._objects.get(identity)
        if before == document:
            return copy.deepcopy(document)  # nothing changes: no version, no event
        metadata.setdefault("uid", f"uid-{self.version + 1}")
        metadata.setdefault("creationTimestamp", "2026-01-05T00:00:00Z")
        if "spec" in document:
            other = before is None or before["spec"] != document["spec"]
            metadata["generation"] = metadata.get("generation", 0) + other
        self._objects[identity] = document
        self._record(kind, before, document)
        return copy.deepcopy(document)

    def _record(self, kind: Kind, before: Document | None, after: Document | None) -> None:
        self.version += 1
        if after is not None:
            after["metadata"]["resourceVersion"] = str(self.version)
        self._history.append(Change(kind, self.version, copy.deepcopy(before), copy.deepcopy(after)))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _event(change: Change, namespace: str | None, selector: str) -> WatchEvent | None:
    """The event that a watch of this selection gets for a change; None: none."""
    before, after, version = change.before, change.after, {"resourceVersion": str(change.version)}
    if before is None and after is None:
        return "BOOKMARK", {"metadata": version}
    was = before is not None and _selected(before, namespace, selector)
    if after is not None and _selected(after, namespace, selector):
        return ("MODIFIED" if was else "ADDED"), after
    return ("DELETED", _merged(after or before or {}, {"metadata": version})) if was else None


def _selected(document: Document, namespace: str | None, selector: str) -> bool:
    metadata = document["metadata"]
    wanted = dict(term.split("=") for term in selector.split(",") if term)
    return namespace in (None, metadata["namespace"]) and wanted.items() <= metadata.get("labels", {}).items()


def _shaped(document: Document, metadata_only: bool) -> Document:
    return copy.deepcopy({"metadata": document["metadata"]} if metadata_only else document)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Document:
    """A JSON merge: objects field by field, null removes a field, lists and values are replaced."""
    merged = {field: value for field, value in old.items() if field not in new}
    for field, value in new.items():
        if isinstance(value, Mapping):
            below = old.get(field)
            merged[field] = _merged(below if isinstance(below, Mapping) else {}, value)
        elif value is not None:
            merged[field] = copy.deepcopy(value)
    return merged

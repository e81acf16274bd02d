"""A client without a cluster: holds what tests put there, remembers what it was asked to write, answers as told."""

from collections.abc import Sequence
from typing import Any

from kubernetes.aio import client

from controller.cluster.client import ApiError, Document, KubeClient
from controller.cluster.kinds import Kind


class Recorder(KubeClient):
    """Reads `objects` (by kind and name), writes into a list."""

    def __init__(self, answer: Document | ApiError | None = None) -> None:
        super().__init__(client.ApiClient(client.Configuration(host="https://nowhere.example")))
        self.answer = answer
        self.objects: dict[tuple[str, str], Document] = {}
        self.written: list[tuple[str, str, Any]] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        return self.objects.get((kind.kind, name))

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = "", *, metadata_only: bool = False
    ) -> list[Document]:
        return []

    async def apply(self, kind: Kind, document: Document, subresource: str | None = None) -> Document:
        return self._note("apply", kind, document)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Document) -> Document:
        return self._note("merge", kind, patch)

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        return self._note("create", kind, document)

    def _note(self, verb: str, kind: Kind, document: Document) -> Document:
        self.written.append((verb, kind.kind, document))
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer or {}

    def of(self, kind: str) -> Sequence[Any]:
        """What was written of a kind."""
        return [document for _, written, document in self.written if written == kind]

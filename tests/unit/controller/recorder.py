"""A client without a cluster: reads what tests put there, remembers what it was asked to create, answers as told."""

from kubernetes.aio import client

from kube.client import ApiError, Document, KubeClient
from kube.kinds import Kind


class Recorder(KubeClient):
    """Reads `objects` (by kind and name); gives one answer to everything that is created, or fails with it."""

    def __init__(self, answer: Document | ApiError | None = None) -> None:
        super().__init__(client.ApiClient(client.Configuration(host="https://nowhere.example")), "test")
        self.answer = answer
        self.objects: dict[tuple[str, str], Document] = {}
        self.written: list[Document] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        return self.objects.get((kind.kind, name))

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        self.written.append(document)
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer or {}

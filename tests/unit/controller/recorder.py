"""A client without a cluster: it serves objects from memory and records what is created."""

from kubernetes.aio import client

from kube.client import ApiError, Document, KubeClient
from kube.kinds import Kind


class Recorder(KubeClient):
    """Serves `objects` by kind and name. Every create returns `answer`, or raises it."""

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

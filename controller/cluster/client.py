"""The API server's verbs on plain JSON documents, over ``kubernetes.aio``'s transport and authentication.

The generated typed methods validate every object with pydantic both ways and know no server-side apply; documents do
not need either.
"""

import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from kubernetes.aio import client, config

from controller.cluster.kinds import Kind

logger = logging.getLogger(__name__)

FIELD_MANAGER = "avatar-agent-controller"
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
LIST_CHUNK = 500
"""Objects a list request returns at most; longer lists come in several."""

Document = dict[str, Any]


class ApiError(Exception):
    """The API server refused or could not be asked; trying again later may help."""

    def __init__(self, status: int, reason: str, request: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {request}: {message}")
        self.status = status
        """HTTP status; 0: no answer."""
        self.reason = reason
        self.message = message
        """The API server's own words."""

    @property
    def refused(self) -> bool:
        """The request itself is at fault, or forbidden: it takes a person to change that."""
        return self.status in (400, 403, 422)


class KubeClient:
    """Reads and writes objects; raises ApiError."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self.server: str = api.configuration.host
        """URL of the API server."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        """The object, or None when there is none."""
        try:
            return await self._request("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = "", *, metadata_only: bool = False
    ) -> list[Document]:
        """All objects of a namespace (None: of all namespaces) with the labels selected."""
        accept = "application/json"
        if metadata_only:
            accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        query = {"limit": str(LIST_CHUNK), "labelSelector": selector}
        items: list[Document] = []
        while True:
            page = await self._request("GET", kind.path(namespace), query, accept=accept)
            items += page.get("items") or []
            rest = page.get("metadata", {}).get("continue")
            if not rest:
                return items
            query["continue"] = rest

    async def apply(self, kind: Kind, document: Document, subresource: str | None = None) -> Document:
        """Server-side apply: what the document says is so, whoever said otherwise; what it does not say is left."""
        metadata = document["metadata"]
        return await self._request(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"], subresource),
            {"fieldManager": FIELD_MANAGER, "force": "true"},
            {"apiVersion": kind.api_version, "kind": kind.kind, **document},
            content_type="application/apply-patch+yaml",
        )

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Document) -> Document:
        """JSON merge patch: change only what the patch says."""
        return await self._request(
            "PATCH",
            kind.path(namespace, name),
            {"fieldManager": FIELD_MANAGER},
            patch,
            content_type="application/merge-patch+json",
        )

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        """Create an object, or ask for a review."""
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **document}
        return await self._request("POST", kind.path(namespace), {"fieldManager": FIELD_MANAGER}, body)

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete an object; one that is gone already is fine."""
        try:
            await self._request("DELETE", kind.path(namespace, name))
        except ApiError as error:
            if error.status != 404:
                raise

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
        *,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> Document:
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=[(key, value) for key, value in (query or {}).items() if value],
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=REQUEST_TIMEOUT)
            data = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "Unreachable", f"{method} {path}", str(error) or type(error).__name__) from error
        if 200 <= response.status < 300:
            document: Document = json.loads(data)
            return document
        raise _refusal(method, path, response.status, data)


def _refusal(method: str, path: str, status: int, data: bytes) -> ApiError:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = {}
    return ApiError(status, answer.get("reason", "Refused"), f"{method} {path}", answer.get("message", ""))


@asynccontextmanager
async def connect() -> AsyncIterator[KubeClient]:
    """A client for the cluster this process runs in, else for the one of KUBECONFIG."""
    configuration = client.Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
        )
    async with client.ApiClient(configuration=configuration) as api:
        yield KubeClient(api)

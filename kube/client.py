"""The API server's verbs on plain JSON documents, over ``kubernetes.aio``'s transport and authentication.

The generated typed methods validate every object with pydantic both ways and know no server-side apply; documents do
not need either.
"""

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config
from pydantic_core import from_json

from kube.kinds import Kind
from kube.retries import pause

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
WATCH_SECONDS = 300
"""After so long the API server ends a watch, and the next one goes on where it stood."""
SILENCE_SECONDS = 70
"""Bookmarks come every 60 s: a watch that is silent for longer is dead, whatever TCP says."""
WATCH_TIMEOUT = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30, sock_connect=10, sock_read=SILENCE_SECONDS)
LONGEST_EVENT = 16 * 1024**2
"""Bytes. etcd keeps objects of up to 1.5 MiB; JSON with its escapes may be six times as long."""
APPLY_PATCH = "application/apply-patch+yaml; charset=utf-8"
"""With the character set the library sends a text as it is; without, it makes JSON of a document itself."""
LIST_CHUNK = 500
"""Objects a list request returns at most; longer lists come in several."""

_TO_ESCAPE = re.compile("[\x7f-\uffff]")

Document = dict[str, Any]
Documents = list[Document]
WatchEvent = tuple[str, Document]
"""Type (ADDED, MODIFIED, DELETED, BOOKMARK) and object."""


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

    def __init__(self, api: client.ApiClient, field_manager: str) -> None:
        """`field_manager` names the writer: Kubernetes records it for every field that is applied."""
        self._api = api
        self._field_manager = field_manager
        self.server: str = api.configuration.host
        """URL of the API server."""
        self._may_write: Callable[[], bool] = lambda: True

    def write_only_while(self, condition: Callable[[], bool]) -> None:
        """Refuse writes, unsent, whenever the condition does not hold: those of a leader that is one no more."""
        self._may_write = condition

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
        items, _ = await self.list_at(kind, namespace, selector, metadata_only=metadata_only)
        return items

    async def list_at(
        self, kind: Kind, namespace: str | None, selector: str = "", *, metadata_only: bool = False
    ) -> tuple[Documents, str]:
        """The same, and the resource version that they are of: a watch from there misses nothing."""
        query = {"limit": str(LIST_CHUNK), "labelSelector": selector}
        items: list[Document] = []
        while True:
            accept = _accepted("PartialObjectMetadataList" if metadata_only else None)
            page = await self._request("GET", kind.path(namespace), query, accept=accept)
            items += page.get("items") or []
            rest = page["metadata"].get("continue")
            if not rest:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = rest

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        version: str,
        selector: str = "",
        *,
        metadata_only: bool = False,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[WatchEvent]:
        """What happens after a resource version; ends when the API server ends it. `opened` is called when it is
        accepted, before anything happens.

        Raises ApiError: 410 when the version is too old, 0 when the stream broke or was silent for too long.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            "labelSelector": selector,
        }
        accept = _accepted("PartialObjectMetadata" if metadata_only else None)
        path = kind.path(namespace)
        try:
            async with await self._send("GET", path, query, accept=accept, limits=WATCH_TIMEOUT) as response:
                if response.status != 200:
                    raise _refusal("WATCH", path, response.status, await response.read())
                opened()
                while line := await response.content.readline(max_line_length=LONGEST_EVENT):
                    event = from_json(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        code, reason = status.get("code") or 500, status.get("reason", "")
                        raise ApiError(code, reason, f"WATCH {path}", status.get("message", ""))
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(0, "Unreachable", f"WATCH {path}", str(error) or type(error).__name__) from error

    async def apply(self, kind: Kind, document: Document, subresource: str | None = None) -> Document:
        """Server-side apply: what the document says is so, whoever said otherwise; what it does not say is left."""
        metadata = document["metadata"]
        return await self._request(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"], subresource),
            {"fieldManager": self._field_manager, "force": "true"},
            as_yaml({"apiVersion": kind.api_version, "kind": kind.kind, **document}),
            content_type=APPLY_PATCH,
        )

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Document) -> Document:
        """JSON merge patch: change only what the patch says."""
        return await self._request(
            "PATCH",
            kind.path(namespace, name),
            {"fieldManager": self._field_manager},
            patch,
            content_type="application/merge-patch+json",
        )

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        """Create an object, or ask for a review."""
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **document}
        return await self._request("POST", kind.path(namespace), {"fieldManager": self._field_manager}, body)

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
        body: Document | str | None = None,
        *,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> Document:
        repeated = 0
        while True:
            try:
                async with await self._send(
                    method, path, query, body, accept=accept, content_type=content_type
                ) as response:
                    data = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise ApiError(0, "Unreachable", f"{method} {path}", str(error) or type(error).__name__) from error
            if 200 <= response.status < 300:
                return _document(method, path, data)
            seconds = pause(method, response.status, response.headers.get("Retry-After", ""), repeated)
            if seconds is None:
                raise _refusal(method, path, response.status, data)
            await asyncio.sleep(seconds)
            repeated += 1

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Document | str | None = None,
        *,
        accept: str,
        content_type: str = "application/json",
        limits: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
    ) -> aiohttp.ClientResponse:
        """By the library's transport and authentication, past its serialisation: these are documents already."""
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": self._field_manager}
        for setting in (await self._api.configuration.auth_settings()).values():
            headers[setting["key"]] = setting["value"]
        parameters = urlencode({key: value for key, value in (query or {}).items() if value})
        url = f"{self.server}{path}?{parameters}" if parameters else f"{self.server}{path}"
        if method != "GET" and not self._may_write():
            raise ApiError(0, "NotLeading", f"{method} {path}", "this controller does not lead any more")
        answer = await self._api.rest_client.request(  # type: ignore[no-untyped-call]
            method, url, headers, body, _request_timeout=limits
        )
        response: aiohttp.ClientResponse = answer.response
        return response


def as_yaml(document: Document) -> str:
    """JSON that is YAML as well, for server-side apply takes nothing else. YAML knows no surrogate pairs, by which JSON
    usually escapes what is beyond U+FFFF, such as an emoji, and wants some other characters escaped.
    """
    text = json.dumps(document, ensure_ascii=False)
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _accepted(metadata: str | None) -> str:
    """What to ask for: whole objects, or this shape with their metadata alone."""
    return "application/json" if metadata is None else f"application/json;as={metadata};g=meta.k8s.io;v=v1"


def _document(method: str, path: str, data: bytes) -> Document:
    try:
        document: Document = from_json(data)
    except ValueError as error:  # something in between answers in the API server's place
        raise ApiError(0, "NotUnderstood", f"{method} {path}", str(error)) from error
    return document


def _refusal(method: str, path: str, status: int, data: bytes) -> ApiError:
    try:
        answer = from_json(data)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    return ApiError(status, answer.get("reason", "Refused"), f"{method} {path}", answer.get("message", ""))


@asynccontextmanager
async def connect(field_manager: str) -> AsyncIterator[KubeClient]:
    """A client for the cluster this process runs in, else for the one of KUBECONFIG."""
    configuration = client.Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
        )
    # Looking for a proxy and a password file takes two threads for each request, and finds none inside a cluster.
    configuration.client_session_kwargs = {"trust_env": False}
    async with client.ApiClient(configuration=configuration) as api:
        yield KubeClient(api, field_manager)

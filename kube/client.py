"""Sends requests to the API server and returns plain JSON documents, over `kubernetes.aio`'s transport.

The package's docstring says why the library's own API classes are not used.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config
from pydantic_core import from_json

from kube.kinds import Kind
from kube.retries import retry_delay
from kube.versions import read_versions

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
WATCH_SECONDS = 300
"""The API server ends a watch after this time; the next watch continues at the same resource version."""
WATCH_IDLE_SECONDS = 70
"""The API server sends a bookmark every 60 s; a watch that is silent for longer is dead, even if TCP is not."""
WATCH_TIMEOUT = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30, sock_connect=10, sock_read=WATCH_IDLE_SECONDS)
MAX_EVENT_BYTES = 16 * 1024**2
"""etcd stores objects of up to 1.5 MiB; as JSON with escapes they may be six times as long."""
APPLY_PATCH = "application/apply-patch+yaml; charset=utf-8"
"""With a character set `kubernetes.aio` sends text unchanged; without one it encodes the body as JSON itself."""
LIST_PAGE_SIZE = 500
"""Objects in one page of a list; longer lists are fetched page by page."""

_MUST_ESCAPE = re.compile("[\x7f-\uffff]")

T = TypeVar("T")
Document = dict[str, Any]
Documents = list[Document]
WatchEvent = tuple[str, Document]
"""Type (ADDED, MODIFIED, DELETED, BOOKMARK) and object."""
RequestObserver = Callable[[str, int, float], None]
"""Receives verb, HTTP status and seconds of each attempt of a request. The verb is the HTTP method, or WATCH for the
opening of a watch. The status is 0 when there was no response."""


class ApiError(Exception):
    """A request failed: the API server rejected it or did not answer. A later attempt may succeed."""

    def __init__(self, status: int, reason: str, request: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {request}: {message}")
        self.status = status
        """HTTP status; 0 when there was no response."""
        self.reason = reason
        self.message = message
        """The message of the API server, unchanged."""

    @property
    def is_rejection(self) -> bool:
        """Whether the request is invalid or forbidden, so that retrying is useless until someone changes that."""
        return self.status in (400, 403, 422)


class KubeClient:
    """Reads and writes objects; all methods raise ApiError."""

    def __init__(self, api: client.ApiClient, field_manager: str) -> None:
        """`field_manager` is the name that Kubernetes records as the manager of every applied field."""
        self._api = api
        self._field_manager = field_manager
        self.server: str = api.configuration.host
        """URL of the API server."""
        self._may_write: Callable[[], bool] = lambda: True
        self._observe: RequestObserver = lambda verb, status, seconds: None

    def allow_writes_while(self, condition: Callable[[], bool]) -> None:
        """Send writes only while the condition holds, so that a former leader cannot write; others raise ApiError."""
        self._may_write = condition

    def observe_requests(self, observe: RequestObserver) -> None:
        """Call `observe` after each attempt of a request, except cancelled ones and writes that are not sent."""
        self._observe = observe

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        """The object, or None when it does not exist."""
        try:
            return await self._request("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def is_discoverable(self, kind: Kind) -> bool:
        """Whether API discovery lists a kind that has a group.

        It lists a new CustomResourceDefinition's kind moments after the API server has begun to serve it.
        """
        groups: Document = await self._request("GET", "/apis")
        versions = {version["groupVersion"] for group in groups["groups"] for version in group["versions"]}
        if kind.api_version not in versions:
            return False
        found: Document = await self._request("GET", f"/apis/{kind.api_version}")
        return kind.plural in {resource["name"] for resource in found["resources"]}

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Document]:
        """All objects of a namespace (None: of all namespaces) that match the label selector."""
        items, _ = await self.list_with_version(kind, namespace, selector)
        return items

    async def list_versions(self, kind: Kind, namespace: str | None) -> dict[tuple[str, str], int]:
        """The resource version of every object, by namespace and name.

        It costs a tenth of `list`, because nothing else of the answer becomes a Python object.
        """
        query, path = {"limit": str(LIST_PAGE_SIZE)}, kind.path(namespace)
        versions: dict[tuple[str, str], int] = {}
        while True:
            accept = _accept_header("PartialObjectMetadataList")
            page, continue_token = await self._request("GET", path, query, accept=accept, parse=read_versions)
            versions |= page
            if not continue_token:
                return versions
            query["continue"] = continue_token

    async def list_with_version(
        self, kind: Kind, namespace: str | None, selector: str = "", *, metadata_only: bool = False
    ) -> tuple[Documents, str]:
        """Like `list`, with the list's resource version: a watch that starts there misses no change."""
        query = {"limit": str(LIST_PAGE_SIZE), "labelSelector": selector}
        items: list[Document] = []
        while True:
            accept = _accept_header("PartialObjectMetadataList" if metadata_only else None)
            page: Document = await self._request("GET", kind.path(namespace), query, accept=accept)
            items += page.get("items") or []
            continue_token = page["metadata"].get("continue")
            if not continue_token:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = continue_token

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
        """All changes after a resource version, until the API server ends the watch.

        `on_open` is called when the API server accepts the watch, before the first event.

        Raises ApiError: 410 when the version is too old, 0 when the stream broke or was silent for too long.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            "labelSelector": selector,
        }
        accept = _accept_header("PartialObjectMetadata" if metadata_only else None)
        path = kind.path(namespace)
        started, answered = time.monotonic(), False
        try:
            async with await self._send("GET", path, query, accept=accept, limits=WATCH_TIMEOUT) as response:
                answered = True
                self._observe("WATCH", response.status, time.monotonic() - started)
                if response.status != 200:
                    raise _error_of("WATCH", path, response.status, await response.read())
                on_open()
                while line := await response.content.readline(max_line_length=MAX_EVENT_BYTES):
                    event = from_json(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        code, reason = status.get("code") or 500, status.get("reason", "")
                        raise ApiError(code, reason, f"WATCH {path}", status.get("message", ""))
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if not answered:
                self._observe("WATCH", 0, time.monotonic() - started)
            raise ApiError(0, "Unreachable", f"WATCH {path}", str(error) or type(error).__name__) from error

    async def apply(self, kind: Kind, document: Document, subresource: str | None = None) -> Document:
        """Server-side apply: set the document's fields, take them over from other managers, leave all other fields."""
        metadata = document["metadata"]
        return await self._request(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"], subresource),
            {"fieldManager": self._field_manager, "force": "true"},
            as_yaml({"apiVersion": kind.api_version, "kind": kind.kind, **document}),
            content_type=APPLY_PATCH,
        )

    async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Document) -> Document:
        """JSON merge patch: change only the fields in the patch."""
        return await self._request(
            "PATCH",
            kind.path(namespace, name),
            {"fieldManager": self._field_manager},
            patch,
            content_type="application/merge-patch+json",
        )

    async def create(self, kind: Kind, namespace: str | None, document: Document) -> Document:
        """Create an object, or send a review such as a TokenReview."""
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **document}
        return await self._request("POST", kind.path(namespace), {"fieldManager": self._field_manager}, body)

    async def delete(self, kind: Kind, namespace: str, name: str, *, grace_seconds: int | None = None) -> None:
        """Delete an object; succeeds when it does not exist.

        `grace_seconds`: how long a pod's processes have to end; None: as long as the pod says.
        """
        query = {} if grace_seconds is None else {"gracePeriodSeconds": str(grace_seconds)}
        try:
            await self._request("DELETE", kind.path(namespace, name), query)
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
        parse: Callable[[bytes], T] = from_json,
    ) -> T:
        """Send, repeat what may be repeated, and return the parsed body of the answer."""
        retries = 0
        while True:
            started = time.monotonic()
            try:
                async with await self._send(
                    method, path, query, body, accept=accept, content_type=content_type
                ) as response:
                    data = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._observe(method, 0, time.monotonic() - started)
                raise ApiError(0, "Unreachable", f"{method} {path}", str(error) or type(error).__name__) from error
            self._observe(method, response.status, time.monotonic() - started)
            if 200 <= response.status < 300:
                return _parsed(parse, method, path, data)
            delay = retry_delay(method, response.status, response.headers.get("Retry-After", ""), retries)
            if delay is None:
                raise _error_of(method, path, response.status, data)
            await asyncio.sleep(delay)
            retries += 1

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
        """Send with the library's transport and authentication, without its serialisation of models."""
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": self._field_manager}
        for setting in (await self._api.configuration.auth_settings()).values():
            headers[setting["key"]] = setting["value"]
        parameters = urlencode({key: value for key, value in (query or {}).items() if value})
        url = f"{self.server}{path}?{parameters}" if parameters else f"{self.server}{path}"
        if method != "GET" and not self._may_write():
            raise ApiError(0, "NotLeading", f"{method} {path}", "this process is no longer the leader")
        answer = await self._api.rest_client.request(  # type: ignore[no-untyped-call]
            method, url, headers, body, _request_timeout=limits
        )
        response: aiohttp.ClientResponse = answer.response
        return response


def as_yaml(document: Document) -> str:
    """Encode as JSON that is also valid YAML, which is the only format that server-side apply accepts.

    JSON usually escapes characters beyond U+FFFF, such as an emoji, as surrogate pairs. YAML has none of these, and
    requires escapes for some other characters.
    """
    text = json.dumps(document, ensure_ascii=False)
    return _MUST_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _accept_header(metadata_kind: str | None) -> str:
    """The Accept header for whole objects, or for objects of this kind, which holds metadata alone."""
    return "application/json" if metadata_kind is None else f"application/json;as={metadata_kind};g=meta.k8s.io;v=v1"


def _parsed(parse: Callable[[bytes], T], method: str, path: str, data: bytes) -> T:
    try:
        return parse(data)
    except ValueError as error:  # a proxy may have answered instead of the API server
        raise ApiError(0, "InvalidResponse", f"{method} {path}", str(error)) from error


def _error_of(method: str, path: str, status: int, data: bytes) -> ApiError:
    try:
        answer = from_json(data)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    return ApiError(status, answer.get("reason", "Refused"), f"{method} {path}", answer.get("message", ""))


@asynccontextmanager
async def connect(field_manager: str) -> AsyncIterator[KubeClient]:
    """A client for the cluster that this process runs in; outside a cluster, for the one in KUBECONFIG."""
    configuration = client.Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
        )
    # The library looks for proxies and a netrc file in two threads per request; inside a cluster there are none.
    configuration.client_session_kwargs = {"trust_env": False}
    async with client.ApiClient(configuration=configuration) as api:
        yield KubeClient(api, field_manager)

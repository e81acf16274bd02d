"""Kubernetes: a watched cache of AvatarAgents, and Secrets read by name."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Sequence
from typing import Any, cast

import aiohttp
from kubernetes.aio import client, config, watch

from agentspec import API_GROUP, API_VERSION, PLURAL
from gateway.agents import Agent, InvalidAgent, parse_agent
from gateway.connections import SecretError, SecretsUnavailable

WATCH_SECONDS = 120
"""The API server ends a watch after so long, and everything is listed again: a stalled watch heals itself."""
REQUEST_SECONDS = 10.0
PAUSE_SECONDS = 2.0
PAGE_SIZE = 500

logger = logging.getLogger(__name__)

_TROUBLE = (client.ApiException, aiohttp.ClientError, OSError, TimeoutError)


async def load_configuration() -> None:
    """Use the pod's ServiceAccount; outside a cluster the kubeconfig."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config()  # type: ignore[no-untyped-call]


class KubernetesAgents:
    """`AgentDirectory` that follows the cluster."""

    def __init__(self, objects: client.CustomObjectsApi, namespace: str) -> None:
        self._objects = objects
        self._namespace = namespace
        self._agents: dict[tuple[str, str], Agent | InvalidAgent] = {}
        self._synced = asyncio.Event()

    @property
    def synced(self) -> bool:
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def get(self, namespace: str, name: str) -> Agent | InvalidAgent | None:
        return self._agents.get((namespace, name))

    def all(self) -> list[Agent | InvalidAgent]:
        return list(self._agents.values())

    async def run(self) -> None:
        """List and watch for ever."""
        while True:
            try:
                version = await self._list()
                await self._watch(version)
            except _TROUBLE as error:
                # 410 Gone is part of a watch's life; the next list heals it as it heals everything else.
                logger.warning(
                    "watching agents interrupted", extra={"problem": str(error)[:200] or type(error).__name__}
                )
                await asyncio.sleep(PAUSE_SECONDS)

    def _request(self) -> tuple[Any, dict[str, Any]]:
        where = {"group": API_GROUP, "version": API_VERSION, "plural": PLURAL}
        if self._namespace:
            return self._objects.list_namespaced_custom_object, {**where, "namespace": self._namespace}
        return self._objects.list_cluster_custom_object, where

    async def _list(self) -> str:
        request, where = self._request()
        found: dict[tuple[str, str], Agent | InvalidAgent] = {}
        page: dict[str, Any] = {"metadata": {"continue": ""}}
        while True:
            following = page["metadata"].get("continue", "")
            page = await request(
                **where, limit=PAGE_SIZE, _continue=following or None, _request_timeout=REQUEST_SECONDS
            )
            for item in page["items"]:
                agent = parse_agent(item)
                found[agent.namespace, agent.name] = agent
            if not page["metadata"].get("continue"):
                break
        self._agents = found
        self._synced.set()
        return cast(str, page["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> None:
        request, where = self._request()
        async with watch.Watch() as events:  # type: ignore[no-untyped-call]
            stream = events.stream(
                request,
                **where,
                resource_version=version,
                timeout_seconds=WATCH_SECONDS,
                _request_timeout=WATCH_SECONDS + REQUEST_SECONDS,
            )
            async for event in stream:
                self._apply(event["type"], event["raw_object"])

    def _apply(self, kind: str, resource: dict[str, Any]) -> None:
        agent = parse_agent(resource)
        if kind == "DELETED":
            self._agents.pop((agent.namespace, agent.name), None)
        else:
            self._agents[agent.namespace, agent.name] = agent


class KubernetesSecrets:
    """`SecretStore` that reads single Secrets by name."""

    def __init__(self, core: client.CoreV1Api) -> None:
        self._core = core

    async def read(self, namespace: str, name: str, keys: Sequence[str]) -> dict[str, str]:
        try:
            secret = await self._core.read_namespaced_secret(name, namespace, _request_timeout=REQUEST_SECONDS)
        except client.ApiException as error:
            if error.status == 404:
                raise SecretError(f"Secret {namespace}/{name} does not exist") from error
            if error.status == 403:
                raise SecretError(f"the gateway may not read Secret {namespace}/{name}") from error
            raise SecretsUnavailable(f"the API server answered {error.status}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise SecretsUnavailable(f"the API server did not answer: {type(error).__name__}") from error
        try:
            found = {key: value for key, value in (secret.data or {}).items() if key in keys}
            return {key: base64.b64decode(value).decode().strip() for key, value in found.items()}
        except (binascii.Error, UnicodeDecodeError) as error:
            raise SecretError(f"Secret {namespace}/{name} holds something that is not text") from error

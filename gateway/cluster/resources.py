"""The gateway's view of the cluster: AvatarAgents that an informer keeps in memory, and Secrets read by name."""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Any

from gateway.agents import Agent, InvalidAgent, parse_agent
from gateway.livekit.connections import SecretError, SecretsUnavailable
from kube.client import ApiError, KubeClient
from kube.informer import Informer
from kube.kinds import AVATAR_AGENT, SECRET

FIELD_MANAGER = "avatar-agent-gateway"
"""The gateway's name in requests to the API server. It only reads, so no field is ever recorded under it."""
SECRET_SECONDS = 10.0
"""Time limit for reading one Secret, retries included: a call may be waiting for it."""


class ClusterAgents:
    """`AgentDirectory` of the cluster's AvatarAgents, grouped by namespace."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        """`namespace` is the only one to watch; empty: all."""
        self._informer: Informer[str, Agent | InvalidAgent] = Informer(
            client, AVATAR_AGENT, namespace or None, group_of=_namespace_of, parse=parse_agent
        )

    @property
    def synced(self) -> bool:
        return self._informer.synced

    async def wait_synced(self) -> None:
        await self._informer.wait_synced()

    def get(self, namespace: str, name: str) -> Agent | InvalidAgent | None:
        return self._informer.group(namespace).get(name)

    def all(self) -> list[Agent | InvalidAgent]:
        # A scrape calls this in another thread; `list` copies each dictionary in one step.
        groups = [self._informer.group(namespace) for namespace in list(self._informer.group_keys())]
        return [agent for group in groups for agent in list(group.values())]

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        await self._informer.run()


class ClusterSecrets:
    """`SecretStore` that reads single Secrets by name."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def read(self, namespace: str, name: str, keys: Sequence[str]) -> dict[str, str]:
        try:
            async with asyncio.timeout(SECRET_SECONDS):
                secret = await self._client.get(SECRET, namespace, name)
        except TimeoutError as error:
            raise SecretsUnavailable(f"the API server did not answer within {SECRET_SECONDS:.0f} s") from error
        except ApiError as error:
            if error.status == 403:
                raise SecretError(f"the gateway may not read Secret {namespace}/{name}") from error
            if error.status == 0:
                raise SecretsUnavailable(f"the API server did not answer: {error.message}") from error
            raise SecretsUnavailable(f"the API server answered {error.status}") from error
        if secret is None:
            raise SecretError(f"Secret {namespace}/{name} does not exist")
        try:
            values = {key: value for key, value in (secret.get("data") or {}).items() if key in keys}
            return {key: base64.b64decode(value).decode().strip() for key, value in values.items()}
        except (binascii.Error, UnicodeDecodeError) as error:
            raise SecretError(f"Secret {namespace}/{name} holds something that is not text") from error


def _namespace_of(document: dict[str, Any]) -> str:
    namespace: str = document["metadata"]["namespace"]
    return namespace

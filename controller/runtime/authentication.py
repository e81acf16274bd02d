"""Checks that a demand comes from the gateway: its ServiceAccount token, made for this audience."""

import hashlib
import time

from agentspec.names import DEMAND_AUDIENCE
from controller.runtime.tokens import username_of
from kube.client import KubeClient

_REMEMBERED_SECONDS = 60.0
_REMEMBERED_TOKENS = 256


class GatewayAuthentication:
    """Knows the gateway by its token; answers are remembered for a minute, by the token's hash."""

    def __init__(self, client: KubeClient, gateway: str | None) -> None:
        self._client = client
        self._gateway = gateway
        self._known: dict[str, tuple[float, bool]] = {}

    async def is_gateway(self, authorization: str) -> bool:
        """Whether the Authorization header carries the gateway's token. Raises ApiError when nobody can tell."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or self._gateway is None:
            return False
        now = time.monotonic()
        fingerprint = hashlib.sha256(token.encode()).hexdigest()
        until, known = self._known.get(fingerprint, (0.0, False))
        if now < until:
            return known
        answer = await username_of(self._client, token, DEMAND_AUDIENCE) == self._gateway
        self._known = {name: entry for name, entry in self._known.items() if now < entry[0]}
        if len(self._known) < _REMEMBERED_TOKENS:
            self._known[fingerprint] = (now + _REMEMBERED_SECONDS, answer)
        return answer

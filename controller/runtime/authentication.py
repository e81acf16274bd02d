"""Authenticates gateways by their ServiceAccount token, issued for the controller's audience."""

import hashlib
import time

from agentspec.names import DEMAND_AUDIENCE
from kube.client import KubeClient
from kube.kinds import TOKEN_REVIEW

_CACHE_SECONDS = 60.0
_MAX_CACHED_TOKENS = 256


class GatewayAuthentication:
    """Recognizes the gateway's token. Results are cached for a minute by the token's hash."""

    def __init__(self, client: KubeClient, gateway: str | None) -> None:
        """`gateway`: user name of the gateway's ServiceAccount; None: no gateway may report demand."""
        self._client = client
        self._gateway = gateway
        self._cache: dict[str, tuple[float, bool]] = {}
        """Expiry and result by hash."""

    async def is_gateway(self, authorization: str) -> bool:
        """Whether the Authorization header has the gateway's token. Raises ApiError when a TokenReview fails."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or self._gateway is None:
            return False
        now = time.monotonic()
        fingerprint = hashlib.sha256(token.encode()).hexdigest()
        expires_at, cached = self._cache.get(fingerprint, (0.0, False))
        if now < expires_at:
            return cached
        result = await self._username(token) == self._gateway
        self._cache = {name: entry for name, entry in self._cache.items() if now < entry[0]}
        if len(self._cache) < _MAX_CACHED_TOKENS:
            self._cache[fingerprint] = (now + _CACHE_SECONDS, result)
        return result

    async def _username(self, token: str) -> str | None:
        """The user that the token was issued to for our audience; None: it is invalid for it. Raises ApiError."""
        request = {"spec": {"token": token, "audiences": [DEMAND_AUDIENCE]}}
        review = await self._client.create(TOKEN_REVIEW, None, request)
        status = review.get("status") or {}
        if not status.get("authenticated") or DEMAND_AUDIENCE not in (status.get("audiences") or []):
            return None
        return str((status.get("user") or {}).get("username", "")) or None

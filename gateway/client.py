"""The sender of a request, as logs name it."""

from dataclasses import dataclass
from typing import Final

PUBLIC_SCOPE: Final = "public"
"""Scope of all clients without an API key."""


@dataclass(frozen=True)
class Client:
    """The authorized sender of a request."""

    scope: str = ""
    """Namespace of the client's idempotency keys: ``key/<key id>`` or ``public``."""
    key_id: str = ""
    """Name of the key that the client sent; empty: a browser page, which needs none."""
    address: str = ""
    """Address of the client, without a port."""

    def log_fields(self) -> dict[str, object]:
        """Return the client's log fields."""
        return {"key_id": self.key_id, "address": self.address}

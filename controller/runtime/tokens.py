"""Who a bearer token belongs to, by the API server's TokenReview."""

from kube.client import KubeClient
from kube.kinds import TOKEN_REVIEW


async def username_of(client: KubeClient, token: str, audience: str) -> str | None:
    """The user that the token was issued to for this audience; None: it is not valid for it. Raises ApiError."""
    review = await client.create(TOKEN_REVIEW, None, {"spec": {"token": token, "audiences": [audience]}})
    status = review.get("status") or {}
    if not status.get("authenticated") or audience not in (status.get("audiences") or []):
        return None
    return str((status.get("user") or {}).get("username", "")) or None

"""Tokens: the one that lets a caller into the room, and the one with which a call is asked after and hung up."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import timedelta

from livekit import api

JOIN_TOKEN_LIFETIME = timedelta(seconds=70)
"""How long a caller may take to connect; a connected one stays connected after it.

A little longer than `calls.CONNECT_TIMEOUT_SECONDS`: LiveKit makes a new room for a valid token whose room is gone, and
nobody would look after that one.
"""


@dataclass(frozen=True)
class Credentials:
    """A key pair of a LiveKit server; the secret is kept out of every representation."""

    api_key: str
    api_secret: str = field(repr=False)


def join_token(credentials: Credentials, *, room: str, identity: str, name: str) -> str:
    """A LiveKit access token for one identity in one room: microphone and listening, nothing else."""
    grants = api.VideoGrants(
        room_join=True,
        room=room,
        can_publish=True,
        can_publish_sources=["microphone"],
        can_subscribe=True,
        can_publish_data=False,
        can_update_own_metadata=False,
    )
    token = api.AccessToken(credentials.api_key, credentials.api_secret)
    return token.with_identity(identity).with_name(name).with_grants(grants).with_ttl(JOIN_TOKEN_LIFETIME).to_jwt()


def call_token(credentials: Credentials, call_id: str) -> str:
    """Proof of having been given this call: made anew by any gateway with the same key, of no use to LiveKit."""
    key = hmac.digest(credentials.api_secret.encode(), b"avatar-agent call token", hashlib.sha256)
    return hmac.new(key, call_id.encode(), hashlib.sha256).hexdigest()


def is_call_token(credentials: Credentials, call_id: str, token: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(call_token(credentials, call_id).encode(), token.encode())


def fingerprint(token: str) -> str:
    """What tells that a call token is the right one after its key was rotated, and gives nobody the token."""
    return hashlib.sha256(token.encode()).hexdigest()


def has_fingerprint(token: str, known: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(fingerprint(token), known)

"""The two tokens of a call: the join token for the LiveKit room, and the call token for the gateway's API."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from livekit import api

JOIN_TOKEN_LIFETIME = timedelta(seconds=70)
"""Time in which a caller must connect; a connected caller stays connected afterwards.

A little longer than `calls.CONNECT_TIMEOUT_SECONDS`, and no more: LiveKit creates a new room for a valid token whose
room is closed, and no gateway would follow that room.
"""

ROOM_TOKEN_LIFETIME = timedelta(minutes=10)
"""Time in which a caller must connect with a token of the token endpoint.

LiveKit's clients ask for a token when a page loads, and use it again until 60 s before it expires.
"""

ROOMS_TOKEN_LIFETIME = timedelta(minutes=5)
"""Validity of the gateway's own token for creating and listing rooms."""


@dataclass(frozen=True)
class Credentials:
    """A key pair of a LiveKit server. The repr does not show the secret."""

    api_key: str
    api_secret: str = field(repr=False)


def join_token(credentials: Credentials, *, room: str, identity: str, name: str) -> str:
    """Create a LiveKit access token for one identity in one room. It allows the microphone and listening only."""
    return _caller_token(credentials, room, identity, name).with_ttl(JOIN_TOKEN_LIFETIME).to_jwt()


def room_token(
    credentials: Credentials,
    *,
    room: str,
    identity: str,
    name: str,
    metadata: str,
    attributes: Mapping[str, str],
    configuration: api.RoomConfiguration,
) -> str:
    """Create a token like `join_token` that also makes the room when its caller joins and the room does not exist.

    ``metadata`` and ``attributes`` are those of the participant.
    """
    token = _caller_token(credentials, room, identity, name).with_ttl(ROOM_TOKEN_LIFETIME)
    return token.with_metadata(metadata).with_attributes(dict(attributes)).with_room_config(configuration).to_jwt()


def _caller_token(credentials: Credentials, room: str, identity: str, name: str) -> api.AccessToken:
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
    return token.with_identity(identity).with_name(name).with_grants(grants)


def rooms_token(credentials: Credentials) -> str:
    """Create the gateway's own token for creating and listing rooms."""
    token = api.AccessToken(credentials.api_key, credentials.api_secret)
    grants = api.VideoGrants(room_create=True, room_list=True)
    return token.with_grants(grants).with_ttl(ROOMS_TOKEN_LIFETIME).to_jwt()


def call_token(credentials: Credentials, call_id: str) -> str:
    """Create the API token of a call. Gateways with the same key create the same token; LiveKit does not accept it."""
    key = hmac.digest(credentials.api_secret.encode(), b"avatar-agent call token", hashlib.sha256)
    return hmac.new(key, call_id.encode(), hashlib.sha256).hexdigest()


def is_call_token(credentials: Credentials, call_id: str, token: str) -> bool:
    """Return whether a token is the call token of a call. Compares in constant time."""
    return hmac.compare_digest(call_token(credentials, call_id).encode(), token.encode())


def fingerprint(token: str) -> str:
    """Return the hash of a call token. It verifies the token after a key rotation, and does not reveal it."""
    return hashlib.sha256(token.encode()).hexdigest()


def has_fingerprint(token: str, known: str) -> bool:
    """Return whether a token has this fingerprint. Compares in constant time."""
    return hmac.compare_digest(fingerprint(token), known)

"""Avatars that are open at a provider, and whose they are. Nothing here depends on the provider.

An avatar is billed and holds a seat from the request on, also when its answer is lost. So each one has a name that says
whose it is. A process that finds it open later can tell whether it is still in use.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol, Self

_PREFIX: Final = "avatar-agent"
_MAX_NAME_LENGTH: Final = 200


def owner(uid: str, livekit_url: str) -> str:
    """Return the owner of avatars: the agent on one LiveKit server. Empty without a UID.

    Workers of an agent that moves to another server must not judge the calls on the old one.
    """
    return f"{uid}.{hashlib.sha256(livekit_url.encode()).hexdigest()[:8]}" if uid else ""


def uid_of(owner: str) -> str:
    """Return the UID of the agent in an owner."""
    return owner.partition(".")[0]


@dataclass(frozen=True)
class AvatarName:
    """Whose an avatar is."""

    owner: str
    job_id: str
    room: str
    """Empty when the room's name is too long."""

    def __str__(self) -> str:
        parts = f"{_PREFIX}/{self.owner}/{self.job_id}"
        full = f"{parts}/{self.room}"
        return full if len(full) <= _MAX_NAME_LENGTH else f"{parts}/"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Return the name in its parts; None when it is not such a name."""
        prefix, *parts = name.split("/", 3)
        return cls(*parts) if prefix == _PREFIX and len(parts) == 3 and parts[1] else None


@dataclass(frozen=True)
class OpenAvatar:
    """An avatar of one of this product's agents that is open at its provider."""

    id: str
    name: AvatarName
    created_at: str
    """As the provider writes it: texts of one format, which sort by time."""


class OpenAvatars(Protocol):
    """A provider's own list of open avatars."""

    async def active(self) -> list[OpenAvatar]:
        """Return the open avatars of this product's agents. Raises APIConnectionError or APIStatusError."""
        ...

    async def end(self, avatar_id: str, *, attempts: int, seconds: float) -> str:
        """End an avatar; returns an empty text, or why that failed. `seconds` bounds all attempts together."""
        ...

"""What a call needs of an avatar's provider: start, end, and whether a seat is free."""

from typing import Protocol

from livekit import rtc
from livekit.agents import AgentSession


class ProviderAvatar(Protocol):
    """One call's avatar at its provider. It joins the room as a participant, and speaks with the agent's voice.

    `start`, `wait_for_join` and `aclose` may fail or hang: the call bounds them. The other methods never raise, and
    return in bounded time.
    """

    @property
    def provider(self) -> str:
        """Name of the provider, for people."""
        ...

    @property
    def identity(self) -> str:
        """Identity of the avatar's participant in the room."""
        ...

    async def has_seat(self) -> bool:
        """Return whether a seat is free for this call, before the avatar is requested."""
        ...

    async def start(self, session: AgentSession[None], room: rtc.Room) -> None:
        """Request the avatar, and set the session's last audio output to one that plays through it."""
        ...

    async def keeps_seat(self) -> bool:
        """Return whether the requested avatar may stay: calls that start together may exceed the limit."""
        ...

    async def wait_for_join(self, *, timeout: float) -> None:  # noqa: ASYNC109 - the SDK's parameter
        """Wait until the avatar has joined the room and published its video. Raises TimeoutError."""
        ...

    async def end(self) -> bool:
        """End the avatar at the provider, which frees its seat; returns whether none can be open."""
        ...

    async def aclose(self) -> None:
        """Release what the avatar holds in this process, and remove it from the room."""
        ...

    def refusal(self, error: BaseException) -> str:
        """Return why `start` failed, for people. Never quotes the provider's answer, which may quote the request."""
        ...

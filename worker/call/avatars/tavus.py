"""An avatar of Tavus.

The plugin (livekit-plugins-tavus 1.8.9) never ends a conversation, which is billed and holds a seat until it times out.
It also repeats a request whose answer was lost, so that a second conversation may be open. So this module creates and
ends the conversation itself (`worker.tavus_api`).
"""

import logging
from typing import Final

from livekit import rtc
from livekit.agents import AgentSession, APIStatusError
from livekit.plugins import tavus

from agentspec import TavusSpec
from worker import sdk
from worker.avatar_sessions import AvatarName
from worker.call import budget
from worker.call.avatar_seat import ListedSeat
from worker.tavus_api import ConversationRequest, TavusAPI

logger = logging.getLogger(__name__)

_END_ATTEMPTS: Final = 2


class TavusAvatar:
    """One call's avatar at Tavus."""

    provider = "Tavus"

    def __init__(
        self,
        spec: TavusSpec,
        api: TavusAPI,
        name: AvatarName,
        *,
        limit: int | None,
        max_call_seconds: float,
        livekit_url: str,
    ) -> None:
        """`limit` is the number of seats, None without a limit. `max_call_seconds` is the longest duration of the call.

        `livekit_url` is the address at which Tavus reaches LiveKit.
        """
        self._api = api
        self._seat = ListedSeat(api, name.owner, limit)
        self._livekit_url = livekit_url
        self._request = ConversationRequest(
            api,
            name,
            max_seconds=max_call_seconds + budget.AVATAR_OVERTIME_SECONDS,
            answer_seconds=budget.AVATAR_START_SECONDS + budget.AVATAR_CLOSE_SECONDS,
        )
        self._tavus = tavus.AvatarSession(
            face_id=spec.face_id, pal_id=spec.pal_id, api_url=spec.base_url, api_key="unused: the request has it"
        )
        sdk.set_tavus_api(self._tavus, self._request)

    @property
    def identity(self) -> str:
        """Identity of the avatar's participant in the room."""
        return self._tavus.avatar_identity

    async def has_seat(self) -> bool:
        """Return whether a seat is free, by Tavus' list."""
        return await self._seat.is_free()

    async def start(self, session: AgentSession[None], room: rtc.Room) -> None:
        """Create the conversation, and set the session's audio output."""
        await self._tavus.start(session, room=room, livekit_url=self._livekit_url)

    async def keeps_seat(self) -> bool:
        """Return whether the conversation may stay, by Tavus' list."""
        return await self._seat.is_kept(self._tavus.conversation_id or "")

    async def wait_for_join(self, *, timeout: float) -> None:  # noqa: ASYNC109 - the SDK's parameter
        """Wait until the avatar has joined and published its video."""
        await self._tavus.wait_for_join(timeout=timeout)

    async def end(self) -> bool:
        """End the conversation, which frees the seat and stops the bill; returns whether none can be open."""
        if self._tavus.conversation_id is not None:
            return await self._end_conversation(self._tavus.conversation_id)
        if self._request.may_be_open:
            logger.warning("answer of Tavus was lost, a conversation may be open")
        return not self._request.may_be_open

    async def aclose(self) -> None:
        """Close the plugin's session."""
        await self._tavus.aclose()

    def refusal(self, error: BaseException) -> str:
        """Return why Tavus refused, without the body of its answer."""
        return refusal(error)

    async def _end_conversation(self, conversation: str) -> bool:
        error = await self._api.end(conversation, attempts=_END_ATTEMPTS, seconds=budget.AVATAR_CLOSE_SECONDS)
        if not error:
            logger.info("avatar conversation ended", extra={"conversation_id": conversation})
            return True
        logger.error(
            "could not end avatar conversation, the worker retries",
            extra={"conversation_id": conversation, "error": error},
        )
        return False


def refusal(error: BaseException) -> str:
    """Return why Tavus refused, without the body of its answer, which may quote the request."""
    if not isinstance(error, APIStatusError):
        return f"Tavus is unreachable: {type(error).__name__}"
    if "maximum concurrent" in str(error.body).lower():
        return "Tavus has no free seat: the account's maximum of concurrent conversations is reached"
    hints = {
        400: "check faceID and palID",
        401: "check the apiKey of the Tavus Secret",
        402: "check the account's balance",
        403: "check the apiKey of the Tavus Secret",
        429: "too many requests",
    }
    hint = hints.get(error.status_code, "see Tavus' status page")
    return f"Tavus answered HTTP {error.status_code}: {hint}"

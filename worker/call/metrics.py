"""Prometheus series that call processes count; `worker.server.metrics` serves them."""

from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Histogram

_PREFIX: Final = "avatar_agent_worker_"


class AvatarOutcome(StrEnum):
    """What happened to the avatar of a call: a label of `avatars`."""

    JOINED = "joined"
    REFUSED = "refused"
    """The provider's API refused the request, failed or timed out."""
    NEVER_JOINED = "never_joined"
    LEFT = "left"
    """It left the room during the call."""
    STALLED = "stalled"
    """It was in the room and did not play the agent's audio in time."""
    NO_SEAT = "no_seat"
    """It was not requested, because the gateway knew of no free seat (avatar.maxSessions)."""


STARTED = Counter(_PREFIX + "calls_started", "Calls whose agent joined the room.")
ENDED = Counter(_PREFIX + "calls_ended", "Calls that ended, by outcome.", ["outcome"])
JOIN_SECONDS = Histogram(
    _PREFIX + "join_seconds",
    "Seconds from the job offer until the agent joined the room.",
    buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5, 10),
)
ANSWER_SECONDS = Histogram(
    _PREFIX + "answer_seconds",
    "Seconds from the caller's arrival until the agent started to speak.",
    buckets=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
TURN_SECONDS = Histogram(
    _PREFIX + "turn_seconds",
    "Seconds from the end of the caller's speech until the agent started to reply.",
    buckets=(0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
PROVIDER_ERRORS = Counter(
    _PREFIX + "provider_errors",
    "Provider requests that failed after all retries, by stage: stt, llm or tts.",
    ["stage"],
)
AVATARS = Counter(_PREFIX + "avatars", "Avatars of calls, by outcome.", ["outcome"])

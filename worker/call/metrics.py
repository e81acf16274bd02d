"""Prometheus series that call processes write; `worker.metrics` serves them. Each label value is explained here."""

from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Histogram

_PREFIX: Final = "avatar_agent_worker_"


class AvatarOutcome(StrEnum):
    """What became of an avatar that was asked for."""

    JOINED = "joined"
    REFUSED = "refused"
    """The provider's API refused, failed or did not answer."""
    NEVER_JOINED = "never_joined"
    LEFT = "left"
    """It left during the call."""
    STALLED = "stalled"
    """It was there and did not play what it was given."""
    NO_SEAT = "no_seat"
    """It was not asked for: the gateway knew of no free seat (avatar.maxSessions)."""


STARTED = Counter(_PREFIX + "calls_started", "Calls whose process joined the room.")
ENDED = Counter(_PREFIX + "calls_ended", "Calls ended, by how.", ["outcome"])
JOIN_SECONDS = Histogram(
    _PREFIX + "join_seconds",
    "From the job's offer to the agent being in the room.",
    buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5, 10),
)
ANSWER_SECONDS = Histogram(
    _PREFIX + "answer_seconds",
    "From the caller being in the room to the greeting's first sound being sent.",
    buckets=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
TURN_SECONDS = Histogram(
    _PREFIX + "turn_seconds",
    "From the caller's last word to the reply's first sound.",
    buckets=(0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
)
PROVIDER_ERRORS = Counter(
    _PREFIX + "provider_errors", "Requests that failed for good, by stage: stt, llm or tts.", ["stage"]
)
AVATARS = Counter(_PREFIX + "avatars", "Avatars that calls were to have, by what became of them.", ["outcome"])

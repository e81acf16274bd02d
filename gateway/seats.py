"""Seats for avatars: an agent's `avatar.maxSessions`, counted by the controller, handed out here. Pure.

The controller's count follows a dispatch by some tenths of a second: until then the gateway counts what it handed out
itself. Both together would count a call twice once the controller knows of it, and refuse the last seats to calls that
come close together; so of two limits the lower counts: what the controller says is free now, and what was free when
the first of the seats that it may not know of was handed out, less those seats.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from agentspec import CallMetadata


@dataclass(frozen=True)
class Seat:
    """A counted seat, handed out with a dispatch."""

    free: int
    """Seats that were free then, this one included."""
    assigned_at: float
    """Unix seconds."""


def free_seats(reported: int | None, unseen: Iterable[Seat]) -> int | None:
    """Seats free now: by the controller's count and the seats that it may not know of yet; None: nobody counts."""
    if reported is None:
        return None
    handed_out = sorted(unseen, key=lambda seat: (seat.assigned_at, -seat.free))
    return min(reported, handed_out[0].free - len(handed_out)) if handed_out else reported


def with_avatar(metadata: str, avatar: bool) -> str:
    """A dispatch's metadata that says whether the call may have an avatar; unchanged when it is not a gateway's.

    That it may is left unsaid, as workers of an earlier release expect it.
    """
    try:
        facts = CallMetadata.model_validate_json(metadata)
    except ValidationError:
        return metadata
    facts = facts.model_copy(update={"avatar": avatar})
    return facts.model_dump_json(by_alias=True, exclude={"avatar"} if avatar else None)

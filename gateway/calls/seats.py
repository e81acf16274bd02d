"""Avatar seats: the controller counts the free ones (`avatar.maxSessions`), and the gateway assigns them. Pure.

The controller's count includes a new call some tenths of a second after its dispatch. Until then the gateway also
counts the seats that it assigned itself. The sum would count a call twice, and withhold the last seats from calls that
arrive close together. Therefore the gateway takes the lower of two limits:

- the number of free seats that the controller reports now;
- the number that was free before the first unreported seat was assigned, minus all unreported seats.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Seat:
    """A counted avatar seat, assigned with a dispatch."""

    free: int
    """Number of free seats at that time, this one included."""
    assigned_at: float
    """Unix seconds."""


def free_seats(reported: int | None, unreported: Iterable[Seat]) -> int | None:
    """Return the number of free seats; None: the agent has no limit.

    ``reported`` is the controller's count, and ``unreported`` the seats that it may not include yet.
    """
    if reported is None:
        return None
    assigned = sorted(unreported, key=lambda seat: (seat.assigned_at, -seat.free))
    return min(reported, assigned[0].free - len(assigned)) if assigned else reported

"""The state machine of one call. Pure: no client and no clock. All times are arguments, in Unix seconds.

```
waiting -> dispatched -> joined -> ended
   ^------------'  ^--------'          (each state can also change to failed or ended)
```
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from agentspec.wire import CallOutcome, read_dispatch_metadata, with_avatar
from gateway.agents import Agent
from gateway.calls.call import OUTCOMES, Call, CallReason, CallState, Cause
from gateway.calls.seats import Seat

SEARCH_TIMEOUT_SECONDS = 120.0
"""Longest search for an agent for one call, with all waiting and all dispatches."""
ACCEPT_TIMEOUT_SECONDS = 2.5
"""The gateway withdraws a dispatch that no worker has accepted after this long; workers accept within 0.5 s."""
CONNECT_TIMEOUT_SECONDS = 60.0
"""A call ends when its caller has not connected this long after the request, or after the adoption of its room."""
WAITING_CALLER_GRACE_SECONDS = 10.0
"""A waiting call ends when its caller has been disconnected for this long; a page reload is quicker."""
JOINED_CALLER_GRACE_SECONDS = 30.0
"""The same limit for a joined call."""
AGENT_GRACE_SECONDS = 5.0
"""An agent is lost when it has been absent for this long while its caller is present; a reconnection is quicker."""
UNCONFIRMED_SECONDS = 60.0
"""If no further read confirms an absence, it counts after this time."""
OVERTIME_SECONDS = 60.0
"""The worker ends a call at maxCallMinutes and says goodbye. The gateway closes the room this long afterwards."""
RETRY_PAUSE_SECONDS = 1.0
"""Delay before the next dispatch of a call whose dispatch no worker accepted."""
MAX_DECLINES = 8
"""A call fails when workers with a free slot have left this many dispatches unanswered. They take 27 s.

Meanwhile the controller notices a worker that hangs or whose node is lost, reports no free slot, and starts another.
LiveKit then offers each dispatch to either of the two at random for as long as it keeps the connection of the first,
which it may do for minutes when the network was cut: of 8 offers, one in 256 calls has none to the second.
"""
ACTIVE_LOOK_SECONDS = 0.25
"""Interval between two looks at a joined call without its agent or its caller."""
WAITING_LOOK_SECONDS = 1.0
"""The same for a waiting call, and for one whose LiveKit server does not answer. A free slot is heard of at once."""
JOINED_LOOK_SECONDS = 30.0
"""The same for a call that goes well: only its maximum duration can end it unheard."""


@dataclass(frozen=True)
class RoomSnapshot:
    """A call's room at one moment, as LiveKit reports it."""

    exists: bool
    caller_present: bool
    agent_present: bool
    accepted: bool
    """A worker accepted the dispatch. The gateway reads this only when the accept timeout is over."""
    outcome: CallOutcome | str = ""
    """How the worker ended the call, from the room record. The gateway reads this only when the agent is absent."""
    surplus_agents: tuple[str, ...] = ()
    """Identities of agents other than the first."""
    agent_lost: bool = False
    """The agent is lost for certain, so nobody needs to wait for its return."""
    checked_at: float | None = None
    """When LiveKit last showed who is absent; None: now. Reads are bounded, so it may be long ago."""


class Admission(StrEnum):
    """Whether a waiting call may be dispatched now."""

    WAIT = "wait"
    """No: no slot is free for the call, or the agent's name is not checked yet."""
    FREE_SLOT = "free-slot"
    """Yes: a slot is free for the call."""
    SLOTS_UNKNOWN = "slots-unknown"
    """Yes: the number of free slots is unknown, so LiveKit finds a worker or none."""


class Effect(StrEnum):
    """The action on the room that makes it match the new state."""

    NONE = "none"
    DISPATCH = "dispatch"
    """Withdraw every earlier dispatch and dispatch the agent."""
    HOLD = "hold"
    """Withdraw every dispatch; the call waits again."""
    HANG_UP = "hang-up"
    """Close the room."""


@dataclass(frozen=True)
class Step:
    """The next state of a call and the action that it needs."""

    call: Call
    effect: Effect = Effect.NONE


def finish(call: Call, state: CallState, reason: CallReason, now: float) -> Step:
    """End a call and close its room, so that no late agent stays in an empty room."""
    return Step(replace(call, state=state, reason=reason, state_since=now), Effect.HANG_UP)


def unavailable_reason(agent: Agent | None) -> CallReason:
    """Return why an agent takes no new calls; NONE while it takes calls. An agent of None was deleted."""
    if agent is None:
        return CallReason.AGENT_NOT_FOUND
    if agent.spec.suspend:
        return CallReason.SUSPENDED
    return CallReason.NAME_TAKEN if agent.name_taken else CallReason.NONE


def assign_seat(call: Call, free: int | None, now: float) -> Call:
    """Return a call about to be dispatched with an avatar seat, or without an avatar when no seat is free.

    ``free`` is the number of free seats; None means that the agent has no limit. A caller without video needs no seat.
    """
    if read_dispatch_metadata(call.dispatch_metadata)[0].has_video is False:
        free = None
    avatar = free is None or free > 0
    return replace(
        call,
        avatar=avatar,
        seat=Seat(free, now) if free is not None and avatar else None,
        dispatch_metadata=with_avatar(call.dispatch_metadata, avatar),
    )


def seen(call: Call, caller_at: float | None, agent_at: float | None) -> Call:
    """Return the call with the times at which caller and agent were last in the room; None: not seen since."""
    caller_at, agent_at = caller_at or call.caller_seen_at, agent_at or call.agent_seen_at
    if (caller_at, agent_at) == (call.caller_seen_at, call.agent_seen_at):
        return call  # as most looks find it, and copies are a large part of a look's cost
    return replace(call, caller_seen_at=caller_at, agent_seen_at=agent_at)


def step(
    call: Call, room: RoomSnapshot | None, admission: Admission, now: float, unavailable: CallReason = CallReason.NONE
) -> Step:
    """Return the next step of a call, given a snapshot of its room; None when LiveKit did not answer.

    ``unavailable`` says why the agent takes no new calls. Waiting calls then fail; calls in progress continue.
    """
    if not call.is_live:
        return Step(call)
    if room is None:
        return _without_livekit(call, now, unavailable)
    if not room.exists:
        return finish(call, CallState.ENDED, _missing_room_reason(call), now)
    if room.outcome in OUTCOMES:
        return finish(call, *OUTCOMES[room.outcome], now)
    call = seen(call, now if room.caller_present else None, now if room.agent_present else None)
    if reason := _absent_caller_reason(call, room, now):
        return finish(call, CallState.ENDED, reason, now)
    match call.state:
        case CallState.WAITING:
            return _waiting(call, room, admission, now, unavailable)
        case CallState.DISPATCHED:
            return _dispatched(call, room, admission, now)
        case _:
            return _joined(call, room, admission, now)


def _without_livekit(call: Call, now: float, unavailable: CallReason) -> Step:
    """A joined call continues until its maximum duration; any other call fails after the search timeout."""
    if call.state is CallState.JOINED:
        return finish(call, CallState.ENDED, CallReason.TOO_LONG, now) if _is_too_long(call, now) else Step(call)
    if unavailable and call.state is CallState.WAITING:
        return finish(call, CallState.FAILED, unavailable, now)
    if now - call.search_started_at > SEARCH_TIMEOUT_SECONDS:
        return finish(call, CallState.FAILED, unavailable or CallReason.LIVEKIT_UNREACHABLE, now)
    return Step(call)


def _missing_room_reason(call: Call) -> CallReason:
    if call.caller_seen_at is None:
        return CallReason.CALLER_NEVER_CAME
    return CallReason.FINISHED if call.state is CallState.JOINED else CallReason.CALLER_LEFT


def _checked_at(room: RoomSnapshot, now: float) -> float:
    """Return until when an absence counts. The caller or the agent may have come back after the last read.

    No read can confirm an absence when, for example, the agent's Secret was deleted. It then counts after
    UNCONFIRMED_SECONDS.
    """
    return now if room.checked_at is None else max(room.checked_at, now - UNCONFIRMED_SECONDS)


def _absent_caller_reason(call: Call, room: RoomSnapshot, now: float) -> CallReason:
    if call.caller_seen_at is None:
        # A back end may dispatch the agent long after it made the room, so the age of the room says nothing.
        is_late = now - call.search_started_at > CONNECT_TIMEOUT_SECONDS
        return CallReason.CALLER_NEVER_CAME if is_late else CallReason.NONE
    grace = JOINED_CALLER_GRACE_SECONDS if call.state is CallState.JOINED else WAITING_CALLER_GRACE_SECONDS
    return CallReason.CALLER_LEFT if _checked_at(room, now) - call.caller_seen_at > grace else CallReason.NONE


def _waiting(call: Call, room: RoomSnapshot, admission: Admission, now: float, unavailable: CallReason) -> Step:
    if room.agent_present:
        # A worker that accepts after ACCEPT_TIMEOUT_SECONDS joins despite the withdrawal (livekit-agents 1.8.9).
        return Step(replace(call, state=CallState.JOINED, state_since=now))
    if unavailable:
        return finish(call, CallState.FAILED, unavailable, now)
    if now - call.search_started_at > SEARCH_TIMEOUT_SECONDS:
        return finish(call, CallState.FAILED, CallReason.NO_FREE_SLOT, now)
    if admission is Admission.WAIT:
        # The slots of the workers that declined no longer count, so a later free slot is another worker's.
        return Step(replace(call, times_declined=0) if call.times_declined else call)
    if now < call.not_before or (call.needs_caller and not room.caller_present):
        return Step(call)
    return _dispatch(call, Cause.NOT_TAKEN if call.causes else Cause.FIRST, admission, now)


def _dispatched(call: Call, room: RoomSnapshot, admission: Admission, now: float) -> Step:
    if room.agent_present:
        return Step(replace(call, state=CallState.JOINED, state_since=now))
    waited = now - call.state_since
    if not room.accepted and not room.agent_lost and waited >= accept_timeout_seconds(call):
        return _not_accepted(call, now)
    if waited < call.agent.spec.dispatch.join_timeout_seconds and not room.agent_lost:
        return Step(call)
    if Cause.JOB_DIED in call.causes:
        return finish(call, CallState.FAILED, CallReason.AGENT_DID_NOT_JOIN, now)
    return _dispatch(call, Cause.JOB_DIED, admission, now)


def dispatch_failed(call: Call, now: float) -> Call:
    """Return a call whose dispatch LiveKit did not take: no worker has declined anything, so nothing is counted."""
    return replace(
        call,
        state=CallState.WAITING,
        state_since=now,
        causes=call.causes[:-1],
        seat=None,
        not_before=now + RETRY_PAUSE_SECONDS,
    )


def look_again_seconds(call: Call, room: RoomSnapshot | None, now: float) -> float:
    """Return how long a call can be left alone when nothing is heard of it."""
    match call.state:
        case CallState.DISPATCHED if room is not None:
            limit = call.agent.spec.dispatch.join_timeout_seconds if room.accepted else accept_timeout_seconds(call)
            return max(ACTIVE_LOOK_SECONDS, call.state_since + limit - now)
        case CallState.JOINED if room is not None:
            return JOINED_LOOK_SECONDS if room.agent_present and room.caller_present else ACTIVE_LOOK_SECONDS
        case CallState.JOINED:
            return JOINED_LOOK_SECONDS
        case _:
            return WAITING_LOOK_SECONDS


def must_inquire(call: Call, room: RoomSnapshot, now: float) -> bool:
    """Return whether LiveKit has to be asked if a worker accepted: nothing was heard, and it is overdue."""
    if call.state is not CallState.DISPATCHED or room.accepted or room.agent_present or room.agent_lost:
        return False
    # LiveKit 1.13 answers such a question about a closed room with 503, however often.
    return room.exists and now - call.state_since >= accept_timeout_seconds(call)


def accept_timeout_seconds(call: Call) -> float:
    """Return how long after the dispatch the gateway gives up on a worker accepting it."""
    return min(ACCEPT_TIMEOUT_SECONDS, call.agent.spec.dispatch.join_timeout_seconds)


def _not_accepted(call: Call, now: float) -> Step:
    """Return to waiting. Fail after MAX_DECLINES with a free slot: the workers would decline every dispatch."""
    declined = call.times_declined + (1 if call.free_slot_known else 0)
    if declined >= MAX_DECLINES:
        return finish(call, CallState.FAILED, CallReason.NOT_ANSWERED, now)
    if now - call.search_started_at > SEARCH_TIMEOUT_SECONDS:
        return finish(call, CallState.FAILED, CallReason.NO_FREE_SLOT, now)
    pause = now + RETRY_PAUSE_SECONDS
    return Step(
        replace(call, state=CallState.WAITING, state_since=now, times_declined=declined, not_before=pause), Effect.HOLD
    )


def _joined(call: Call, room: RoomSnapshot, admission: Admission, now: float) -> Step:
    if _is_too_long(call, now):
        return finish(call, CallState.ENDED, CallReason.TOO_LONG, now)
    agent_seen_at = call.state_since if call.agent_seen_at is None else call.agent_seen_at
    may_return = not room.agent_lost and _checked_at(room, now) - agent_seen_at <= AGENT_GRACE_SECONDS
    if room.agent_present or may_return or not room.caller_present:
        return Step(call)
    if Cause.AGENT_LOST in call.causes:
        return finish(call, CallState.FAILED, CallReason.AGENT_LOST, now)
    return _dispatch(replace(call, search_started_at=now), Cause.AGENT_LOST, admission, now)


def _is_too_long(call: Call, now: float) -> bool:
    return now - call.state_since > call.agent.spec.worker.max_call_minutes * 60 + OVERTIME_SECONDS


def _dispatch(call: Call, cause: Cause, admission: Admission, now: float) -> Step:
    return Step(
        replace(
            call,
            state=CallState.DISPATCHED,
            state_since=now,
            causes=(*call.causes, cause),
            free_slot_known=admission is Admission.FREE_SLOT,
        ),
        Effect.DISPATCH,
    )

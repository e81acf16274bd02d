"""The state machine of one call. Pure: no client and no clock. All times are arguments, in Unix seconds.

```
waiting -> dispatched -> joined -> ended
   ^------------'  ^--------'          (each state can also change to failed or ended)
```
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from agentspec.wire import CallOutcome, read_dispatch_metadata, with_avatar
from gateway.agents import Agent
from gateway.seats import Seat

SEARCH_TIMEOUT_SECONDS = 120.0
"""Longest search for an agent for one call, with all waiting and all dispatches."""
ACCEPT_TIMEOUT_SECONDS = 2.5
"""The gateway withdraws a dispatch that no worker has accepted after this long; workers accept within 0.5 s."""
CONNECT_TIMEOUT_SECONDS = 60.0
"""A call ends when its caller has not connected this long after the request."""
WAITING_CALLER_GRACE_SECONDS = 10.0
"""A waiting call ends when its caller has been disconnected for this long; a page reload is quicker."""
JOINED_CALLER_GRACE_SECONDS = 30.0
"""The same limit for a joined call."""
AGENT_GRACE_SECONDS = 5.0
"""An agent is lost when it has been absent for this long while its caller is present; a reconnection is quicker."""
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


class CallState(StrEnum):
    """The states of a call, as the API reports them."""

    WAITING = "waiting"
    """The call waits for a free slot."""
    DISPATCHED = "dispatched"
    """The agent is dispatched to the room and has not joined yet."""
    JOINED = "joined"
    """LiveKit lists the agent as a participant of the room."""
    FAILED = "failed"
    """No agent joined, or the agent was lost; the reason says why."""
    ENDED = "ended"
    """The call ended normally, for example because the caller left."""


class CallReason(StrEnum):
    """Why a call failed or ended; empty while the call is live."""

    NONE = ""
    NO_FREE_SLOT = "NoFreeSlot"
    NOT_ANSWERED = "NotAnswered"
    AGENT_DID_NOT_JOIN = "AgentDidNotJoin"
    AGENT_LOST = "AgentLost"
    LIVEKIT_UNREACHABLE = "LiveKitUnreachable"
    HUNG_UP = "HungUp"
    FINISHED = "Finished"
    CALLER_LEFT = "CallerLeft"
    CALLER_NEVER_CAME = "CallerNeverCame"
    CALLER_IDLE = "CallerIdle"
    TOO_LONG = "TooLong"
    PROVIDER_FAILED = "ProviderFailed"
    AVATAR_FAILED = "AvatarFailed"
    NO_AVATAR_SEAT = "NoAvatarSeat"
    SUSPENDED = "Suspended"
    NAME_TAKEN = "NameTaken"
    AGENT_NOT_FOUND = "AgentNotFound"


class Cause(StrEnum):
    """Why the agent is dispatched to a call. The gateway retries JobDied and AgentLost once in a call."""

    FIRST = "First"
    """The first dispatch of the call."""
    NOT_TAKEN = "NotTaken"
    """No worker accepted the job of the previous dispatch."""
    JOB_DIED = "JobDied"
    """A worker accepted the job and did not join the room in time."""
    AGENT_LOST = "AgentLost"
    """The agent had joined and was lost."""


MESSAGES = {
    CallReason.NO_FREE_SLOT: "All agents are busy. Call again later. To serve more calls at once, raise "
    "scaling.maxWorkers or worker.callsPerWorker.",
    CallReason.NOT_ANSWERED: "Workers with free slots did not accept the call. See the workers' logs. Often the "
    "workers were started with a different roomNamePattern.",
    CallReason.AGENT_DID_NOT_JOIN: "Workers accepted the call twice and did not join the room in time. See the "
    "workers' logs.",
    CallReason.AGENT_LOST: "The agent left the call unexpectedly, and its replacement did too. See the workers' logs.",
    CallReason.LIVEKIT_UNREACHABLE: "The LiveKit server is unreachable. Call again in a moment.",
    CallReason.HUNG_UP: "The call was hung up.",
    CallReason.FINISHED: "The call is over.",
    CallReason.CALLER_LEFT: "The caller left the call.",
    CallReason.CALLER_NEVER_CAME: "The caller did not connect to the room in time.",
    CallReason.CALLER_IDLE: "The caller was silent for longer than conversation.idlePromptSeconds and "
    "conversation.idleHangUpSeconds allow.",
    CallReason.TOO_LONG: "The call reached the maximum duration, worker.maxCallMinutes.",
    CallReason.PROVIDER_FAILED: "A speech or language provider failed, so the agent could not continue. See the "
    "worker's log.",
    CallReason.AVATAR_FAILED: "The avatar failed, and avatar.onFailure is EndCall. See the worker's log.",
    CallReason.NO_AVATAR_SEAT: "All avatar seats are taken (avatar.maxSessions), and avatar.onFailure is EndCall. "
    "Call again later, or set avatar.onFailure: VoiceOnly to serve such calls without an avatar.",
    CallReason.SUSPENDED: "The agent is suspended and takes no calls. Set spec.suspend: false to resume it.",
    CallReason.NAME_TAKEN: "The agent takes no calls because an older AvatarAgent uses the same agentName on the same "
    "LiveKit server. The condition NameUnique names it. Set a different spec.agentName.",
    CallReason.AGENT_NOT_FOUND: "The agent was deleted while the call waited.",
}
"""What happened and what to do about it, for every reason."""

OUTCOMES: Final[Mapping[str, tuple[CallState, CallReason]]] = {
    CallOutcome.CALLER_IDLE: (CallState.ENDED, CallReason.CALLER_IDLE),
    CallOutcome.MAX_LENGTH: (CallState.ENDED, CallReason.TOO_LONG),
    CallOutcome.PROVIDER_FAILED: (CallState.FAILED, CallReason.PROVIDER_FAILED),
    CallOutcome.AVATAR_FAILED: (CallState.FAILED, CallReason.AVATAR_FAILED),
    CallOutcome.NO_AVATAR_SEAT: (CallState.FAILED, CallReason.NO_AVATAR_SEAT),
}
"""State and reason of a call by the outcome in the room record: one for each of `agentspec.wire.REPORTED_OUTCOMES`."""


@dataclass(frozen=True)
class Call:
    """One caller in one room with one agent."""

    id: str
    agent: Agent = field(repr=False)
    agent_name: str
    """Name that the call is dispatched to. It stays the same when `agent` gets a new name during the call."""
    room: str
    identity: str
    """The caller's participant identity in the room."""
    request_hash: str
    """Digest of the request that opened the call."""
    call_token_hash: str
    """Fingerprint of the first call token issued, which stays valid after the LiveKit key is rotated."""
    dispatch_metadata: str = field(repr=False)
    state: CallState
    created_at: float
    search_started_at: float
    """Start of the current search for an agent: the creation of the call, or the loss of its agent."""
    state_since: float
    """Start of the current state."""
    free_slot_known: bool = False
    """The controller reported a free slot at the last dispatch."""
    times_declined: int = 0
    """Number of dispatches that no worker accepted although the controller reported a free slot, since it last reported
    none."""
    caller_seen_at: float | None = None
    """Last time that the caller was in the room; None: never."""
    agent_seen_at: float | None = None
    """Last time that the agent was in the room; None: never."""
    not_before: float = 0.0
    """Earliest time of the next dispatch from waiting."""
    causes: tuple[Cause, ...] = ()
    """The cause of each dispatch, in order."""
    avatar: bool = True
    """The dispatch allows the agent's avatar, if the agent has one."""
    seat: Seat | None = None
    """The avatar seat assigned to the call; None when the agent has no limit."""
    reason: CallReason = CallReason.NONE

    @property
    def is_live(self) -> bool:
        return self.state not in (CallState.FAILED, CallState.ENDED)

    @property
    def message(self) -> str:
        return MESSAGES.get(self.reason, "")


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
    call = replace(
        call,
        caller_seen_at=now if room.caller_present else call.caller_seen_at,
        agent_seen_at=now if room.agent_present else call.agent_seen_at,
    )
    if reason := _absent_caller_reason(call, now):
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


def _absent_caller_reason(call: Call, now: float) -> CallReason:
    if call.caller_seen_at is None:
        return CallReason.CALLER_NEVER_CAME if now - call.created_at > CONNECT_TIMEOUT_SECONDS else CallReason.NONE
    grace = JOINED_CALLER_GRACE_SECONDS if call.state is CallState.JOINED else WAITING_CALLER_GRACE_SECONDS
    return CallReason.CALLER_LEFT if now - call.caller_seen_at > grace else CallReason.NONE


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
        return Step(replace(call, times_declined=0))
    if now < call.not_before or not room.caller_present:
        return Step(call)
    return _dispatch(call, Cause.NOT_TAKEN if call.causes else Cause.FIRST, admission, now)


def _dispatched(call: Call, room: RoomSnapshot, admission: Admission, now: float) -> Step:
    if room.agent_present:
        return Step(replace(call, state=CallState.JOINED, state_since=now))
    waited = now - call.state_since
    if not room.accepted and waited >= accept_timeout_seconds(call):
        return _not_accepted(call, now)
    if waited < call.agent.spec.dispatch.join_timeout_seconds:
        return Step(call)
    if Cause.JOB_DIED in call.causes:
        return finish(call, CallState.FAILED, CallReason.AGENT_DID_NOT_JOIN, now)
    return _dispatch(call, Cause.JOB_DIED, admission, now)


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
    if now - agent_seen_at <= AGENT_GRACE_SECONDS or not room.caller_present:
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

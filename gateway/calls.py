"""A call and what may become of it. Pure: no client, no clock; times are Unix seconds handed in.

```
waiting -> dispatched -> joined -> ended
   ^------------'  ^--------'          (each state can also end in failed or ended)
```
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.agents import Agent
from gateway.seats import Seat, with_avatar

SEARCH_TIMEOUT_SECONDS = 120.0
"""Longest time a call waits for an agent altogether."""
ACCEPT_TIMEOUT_SECONDS = 2.5
"""A worker accepts within 0.5 s; a dispatch that none accepted after this is withdrawn, with a job that comes late."""
CONNECT_TIMEOUT_SECONDS = 60.0
"""A caller that was handed a token and did not connect for so long will not come."""
WAITING_CALLER_GRACE_SECONDS = 10.0
"""A waiting caller may be away for so long, to load the page again, before the call is given up."""
JOINED_CALLER_GRACE_SECONDS = 30.0
"""The same for a caller who was already talking to the agent."""
AGENT_GRACE_SECONDS = 5.0
"""An agent that vanished for so long, while its caller stays, was lost; a reconnection is quicker."""
OVERTIME_SECONDS = 60.0
"""The worker ends a call at maxCallMinutes, politely; so much later the room is closed."""
RETRY_PAUSE_SECONDS = 1.0


class CallState(StrEnum):
    WAITING = "waiting"
    """For a free slot."""
    DISPATCHED = "dispatched"
    """The agent was called into the room and has not joined yet."""
    JOINED = "joined"
    """The agent is in the room, by LiveKit's own record."""
    FAILED = "failed"
    """The caller got no agent, or lost it; the reason says why."""
    ENDED = "ended"
    """Over: hung up, or the caller left."""


class CallReason(StrEnum):
    """Why a call failed or ended."""

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
    TOO_LONG = "TooLong"
    PROVIDER_FAILED = "ProviderFailed"
    AVATAR_FAILED = "AvatarFailed"
    NO_AVATAR_SEAT = "NoAvatarSeat"
    SUSPENDED = "Suspended"
    NAME_TAKEN = "NameTaken"
    AGENT_NOT_FOUND = "AgentNotFound"


class Cause(StrEnum):
    """Why the agent is dispatched to a call; each cause but the first counts once."""

    FIRST = "First"
    NOT_TAKEN = "NotTaken"
    """No worker accepted the job."""
    JOB_DIED = "JobDied"
    """A worker accepted it and did not join."""
    AGENT_LOST = "AgentLost"
    """It had joined and vanished."""


MESSAGES = {
    CallReason.NO_FREE_SLOT: "All agents are busy. Please call again later; more calls at once need a higher "
    "scaling.maxWorkers or worker.callsPerWorker.",
    CallReason.NOT_ANSWERED: "Workers with free slots did not accept the call. The workers' logs say why; most often "
    "roomNamePattern differs from the one the workers started with.",
    CallReason.AGENT_DID_NOT_JOIN: "A worker accepted the call twice and did not join in time. See the workers' logs.",
    CallReason.AGENT_LOST: "The agent left the call unexpectedly, and its replacement too. See the workers' logs.",
    CallReason.LIVEKIT_UNREACHABLE: "The LiveKit server does not answer. Please call again in a moment.",
    CallReason.HUNG_UP: "The call was hung up.",
    CallReason.FINISHED: "The call is over.",
    CallReason.CALLER_LEFT: "The caller left.",
    CallReason.CALLER_NEVER_CAME: "The caller did not connect in time.",
    CallReason.TOO_LONG: "The call reached its longest duration, worker.maxCallMinutes.",
    CallReason.PROVIDER_FAILED: "The agent could not hear, think or speak any more. See the worker's log.",
    CallReason.AVATAR_FAILED: "The avatar failed, and avatar.onFailure is EndCall. See the worker's log.",
    CallReason.NO_AVATAR_SEAT: "All avatar seats are taken (avatar.maxSessions), and avatar.onFailure is EndCall. "
    "Please call again later; VoiceOnly goes on by voice.",
    CallReason.SUSPENDED: "The agent is suspended and takes no calls: write spec.suspend: false to open it again.",
    CallReason.NAME_TAKEN: "The agent takes no calls: an older AvatarAgent has its agentName at the same LiveKit "
    "server; the condition NameUnique says which. Write another spec.agentName.",
    CallReason.AGENT_NOT_FOUND: "The agent was deleted while the call waited.",
}

OUTCOMES = {
    "max_length": (CallState.ENDED, CallReason.TOO_LONG),
    "provider_failed": (CallState.FAILED, CallReason.PROVIDER_FAILED),
    "avatar_failed": (CallState.FAILED, CallReason.AVATAR_FAILED),
    "no_avatar_seat": (CallState.FAILED, CallReason.NO_AVATAR_SEAT),
}
"""What a call becomes by the outcome that the worker wrote into the room's record before the agent left
(worker/call.py)."""


@dataclass(frozen=True)
class Call:
    """One person in one room with one agent."""

    id: str
    agent: Agent = field(repr=False)
    agent_name: str
    """What it is dispatched to; `agent` may carry another name by now, and a call in progress keeps its own."""
    room: str
    identity: str
    request_hash: str
    call_token_hash: str
    """Fingerprint of the call token that was given out first, by which it is known after its key was rotated."""
    dispatch_metadata: str = field(repr=False)
    state: CallState
    created_at: float
    search_started_at: float
    """When the search for an agent began: at creation, and again when the agent was lost."""
    state_since: float
    """When the state began."""
    free_slot_known: bool = False
    """A slot was known to be free when it was dispatched last."""
    times_declined: int = 0
    """Times that no worker took it although a slot was known to be free."""
    caller_seen_at: float | None = None
    agent_seen_at: float | None = None
    not_before: float = 0.0
    """Earliest time of the next dispatch from waiting."""
    causes: tuple[Cause, ...] = ()
    """Why it was dispatched, again and again."""
    avatar: bool = True
    """It was dispatched to have the agent's avatar, if the agent has one."""
    seat: Seat | None = None
    """The avatar's seat, where somebody counts them."""
    reason: CallReason = CallReason.NONE

    @property
    def is_live(self) -> bool:
        return self.state not in (CallState.FAILED, CallState.ENDED)

    @property
    def message(self) -> str:
        return MESSAGES.get(self.reason, "")


@dataclass(frozen=True)
class RoomSnapshot:
    """LiveKit's own record of a call's room at one moment."""

    exists: bool
    caller_present: bool
    agent_present: bool
    accepted: bool
    """A worker accepted the dispatch; only looked up once it matters."""
    outcome: str = ""
    """How the worker ended the call, by the room's record; only looked up once the agent is not there."""
    surplus_agents: tuple[str, ...] = ()
    """Agents too many, by identity."""


class Admission(StrEnum):
    """Whether a waiting call may be dispatched."""

    WAIT = "wait"
    FREE_SLOT = "free-slot"
    """A slot is free for it."""
    SLOTS_UNKNOWN = "slots-unknown"
    """Nobody knows of free slots: LiveKit is asked."""


class Effect(StrEnum):
    """What has to be done to the room so that the new state is true."""

    NONE = "none"
    DISPATCH = "dispatch"
    """Call the agent in, after withdrawing every earlier dispatch."""
    HOLD = "hold"
    """Withdraw every dispatch; the call waits again."""
    HANG_UP = "hang-up"
    """Close the room."""


@dataclass(frozen=True)
class Step:
    call: Call
    effect: Effect = Effect.NONE


def finish(call: Call, state: CallState, reason: CallReason, now: float) -> Step:
    """End a call; its room is closed, so that nothing later enters an empty one."""
    return Step(replace(call, state=state, reason=reason, state_since=now), Effect.HANG_UP)


def unavailable_reason(agent: Agent | None) -> CallReason:
    """Why no call to an agent is begun any more; none while it takes calls. None is an agent that was deleted."""
    if agent is None:
        return CallReason.AGENT_NOT_FOUND
    if agent.spec.suspend:
        return CallReason.SUSPENDED
    return CallReason.NAME_TAKEN if agent.name_taken else CallReason.NONE


def assign_seat(call: Call, free: int | None, now: float) -> Call:
    """A call about to be dispatched, with an avatar unless seats are counted and none is free."""
    avatar = free is None or free > 0
    return replace(
        call,
        avatar=avatar,
        seat=Seat(free, now) if free is not None and avatar else None,
        dispatch_metadata=with_avatar(call.dispatch_metadata, avatar),
    )


def step(
    call: Call, seen: RoomSnapshot | None, admission: Admission, now: float, unavailable: CallReason = CallReason.NONE
) -> Step:
    """What follows from one look at the room; ``seen`` is None when LiveKit did not answer.

    ``unavailable`` says why the agent takes no calls any more: those that wait for it end, those in progress go on.
    """
    if not call.is_live:
        return Step(call)
    if seen is None:
        return _without_livekit(call, now, unavailable)
    if not seen.exists:
        return finish(call, CallState.ENDED, _missing_room_reason(call), now)
    if seen.outcome in OUTCOMES:
        return finish(call, *OUTCOMES[seen.outcome], now)
    call = replace(
        call,
        caller_seen_at=now if seen.caller_present else call.caller_seen_at,
        agent_seen_at=now if seen.agent_present else call.agent_seen_at,
    )
    if reason := _absent_caller_reason(call, now):
        return finish(call, CallState.ENDED, reason, now)
    match call.state:
        case CallState.WAITING:
            return _waiting(call, seen, admission, now, unavailable)
        case CallState.DISPATCHED:
            return _dispatched(call, seen, admission, now)
        case _:
            return _joined(call, seen, admission, now)


def _without_livekit(call: Call, now: float, unavailable: CallReason) -> Step:
    """A call in progress goes on while LiveKit's API is away, as long as it may last; any other gives up sooner."""
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
    patience = JOINED_CALLER_GRACE_SECONDS if call.state is CallState.JOINED else WAITING_CALLER_GRACE_SECONDS
    return CallReason.CALLER_LEFT if now - call.caller_seen_at > patience else CallReason.NONE


def _waiting(call: Call, seen: RoomSnapshot, admission: Admission, now: float, unavailable: CallReason) -> Step:
    if seen.agent_present:
        # A worker that accepted after ACCEPT_TIMEOUT_SECONDS comes in spite of the withdrawal (livekit-agents 1.8.9).
        return Step(replace(call, state=CallState.JOINED, state_since=now))
    if unavailable:
        return finish(call, CallState.FAILED, unavailable, now)
    if now - call.search_started_at > SEARCH_TIMEOUT_SECONDS:
        return finish(call, CallState.FAILED, CallReason.NO_FREE_SLOT, now)
    if admission is Admission.WAIT or now < call.not_before or not seen.caller_present:
        return Step(call)
    return _dispatch(call, Cause.NOT_TAKEN if call.causes else Cause.FIRST, admission, now)


def _dispatched(call: Call, seen: RoomSnapshot, admission: Admission, now: float) -> Step:
    if seen.agent_present:
        return Step(replace(call, state=CallState.JOINED, state_since=now))
    waited = now - call.state_since
    if not seen.accepted and waited >= accept_timeout_seconds(call):
        return _not_accepted(call, now)
    if waited < call.agent.spec.dispatch.join_timeout_seconds:
        return Step(call)
    if Cause.JOB_DIED in call.causes:
        return finish(call, CallState.FAILED, CallReason.AGENT_DID_NOT_JOIN, now)
    return _dispatch(call, Cause.JOB_DIED, admission, now)


def accept_timeout_seconds(call: Call) -> float:
    """How long after the dispatch it is clear that no worker takes it."""
    return min(ACCEPT_TIMEOUT_SECONDS, call.agent.spec.dispatch.join_timeout_seconds)


def _not_accepted(call: Call, now: float) -> Step:
    """Wait in line again; but workers that decline twice with a slot free will decline for ever."""
    declined = call.times_declined + (1 if call.free_slot_known else 0)
    if declined > 1:
        return finish(call, CallState.FAILED, CallReason.NOT_ANSWERED, now)
    if now - call.search_started_at > SEARCH_TIMEOUT_SECONDS:
        return finish(call, CallState.FAILED, CallReason.NO_FREE_SLOT, now)
    pause = now + RETRY_PAUSE_SECONDS
    return Step(
        replace(call, state=CallState.WAITING, state_since=now, times_declined=declined, not_before=pause), Effect.HOLD
    )


def _joined(call: Call, seen: RoomSnapshot, admission: Admission, now: float) -> Step:
    if _is_too_long(call, now):
        return finish(call, CallState.ENDED, CallReason.TOO_LONG, now)
    agent_seen_at = call.state_since if call.agent_seen_at is None else call.agent_seen_at
    if now - agent_seen_at <= AGENT_GRACE_SECONDS or not seen.caller_present:
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

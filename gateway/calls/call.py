"""One call as the gateway knows it: its state, why it ended, and its dispatches. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from agentspec.wire import CallOutcome
from gateway.agents import Agent
from gateway.calls.seats import Seat
from gateway.client import Client


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

STATE_MESSAGES = {
    CallState.WAITING: "call is waiting for a free slot",
    CallState.DISPATCHED: "call dispatched",
    CallState.JOINED: "agent joined call",
    CallState.FAILED: "call failed",
    CallState.ENDED: "call ended",
}
"""The log message of a call that has just reached a state."""

OUTCOMES: Final[Mapping[str, tuple[CallState, CallReason]]] = {
    CallOutcome.AGENT_ENDED: (CallState.ENDED, CallReason.FINISHED),
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
    """The caller's participant identity in the room; empty in a foreign room: every participant that is no agent."""
    request_hash: str
    """Digest of the request that opened the call."""
    call_token_hash: str
    """Fingerprint of the first call token issued, which stays valid after the LiveKit key is rotated."""
    dispatch_metadata: str = field(repr=False)
    state: CallState
    created_at: float
    search_started_at: float
    """Start of the current search for an agent: the creation or adoption of the call, or the loss of its agent."""
    state_since: float
    """Start of the current state."""
    client: Client = field(default_factory=Client)
    """The sender of the request that opened the call; unknown for a call that another gateway opened."""
    free_slot_known: bool = False
    """The controller reported a free slot at the last dispatch."""
    times_declined: int = 0
    """Number of dispatches that no worker accepted although the controller reported a free slot, since it last reported
    none."""
    caller_seen_at: float | None = None
    """Last time that the caller was in the room; None: never."""
    agent_seen_at: float | None = None
    """Last time that the agent was in the room; None: never."""
    joined_at: float | None = None
    """Time at which the first agent joined; None: no agent has, or before this gateway followed the call."""
    not_before: float = 0.0
    """Earliest time of the next dispatch from waiting."""
    causes: tuple[Cause, ...] = ()
    """The cause of each dispatch, in order."""
    avatar: bool = True
    """The dispatch allows the agent's avatar, if the agent has one."""
    seat: Seat | None = None
    """The avatar seat assigned to the call; None when the agent has no limit."""
    foreign: bool = False
    """Another program opened the room and dispatched the agent. The room has no room record, and stays at the end."""
    needs_caller: bool = True
    """The call is dispatched only while its caller is in the room; False: a request asked for the agent before."""
    reason: CallReason = CallReason.NONE

    @property
    def server(self) -> str:
        """URL of the LiveKit server that has the call's room."""
        return self.agent.spec.livekit.url

    @property
    def is_live(self) -> bool:
        return self.state not in (CallState.FAILED, CallState.ENDED)

    @property
    def may_begin_again(self) -> bool:
        """Whether a caller who enters the room now begins another call: the foreign room stays, and none had come."""
        return self.foreign and self.reason is CallReason.CALLER_NEVER_CAME

    @property
    def message(self) -> str:
        return MESSAGES.get(self.reason, "")

    def log_fields(self) -> dict[str, object]:
        """Return the log fields of the call; ``seconds`` is the time from its creation to its present state."""
        return {
            "call_id": self.id,
            "room": self.room,
            "agent": self.agent.key,
            "agent_name": self.agent_name,
            "reason": self.reason.value,
            "causes": [cause.value for cause in self.causes],
            "seconds": round(self.state_since - self.created_at, 3),
            **self.client.log_fields(),
        }

"""What the gateway knows of the room of one call, put together from what it hears and what it reads. Pure.

Three sources inform about a room, and none of them is enough alone:

- **The list of rooms**, once a second for each LiveKit server. It says which rooms exist, and by its counts which have
  changed. It says nothing about who is in a room.
- **The participants of one room**, read when its counts have changed, and else as seldom as the number of rooms asks.
- **The workers' reports**, which the controller passes on at once. They say which job has the room, whether its agent
  has joined, how it ended, and that its worker is lost.

LiveKit's events, where they arrive, are no source: an event only makes a read due.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from agentspec.wire import CallOutcome, JobReport, JobState, agent_identity, read_room_record
from gateway.calls.call import Call, CallState
from gateway.calls.step import RoomSnapshot
from gateway.livekit.server import Participant, Room

MISSING_ROOM_SECONDS: Final = 10.0
"""A room is gone when LiveKit has not listed it for this long: after a restart of LiveKit, a room comes back when its
first participant has reconnected (measured: 2.7 s)."""
_LOST: Final = frozenset({"", CallOutcome.CRASHED})
"""Outcomes of jobs that ended without ending their call. Jobs whose room was closed often end as `stopped`."""

DISPATCHED_READ_SECONDS: Final = 0.2
"""Interval between two reads of the participants of a dispatched call's room."""
HEARD_READ_SECONDS: Final = 1.5
"""The same while workers' reports arrive: they say sooner that the agent has joined."""
ABSENT_READ_SECONDS: Final = 1.0
"""The same while the caller or the agent of a call is absent. A caller who never came is expected for
`ARRIVAL_SECONDS`."""
ARRIVAL_SECONDS: Final = 10.0
LIST_LAG_SECONDS: Final = 5.0
"""How long the list of rooms may count nobody after a participant has come (pkg/rtc/room.go)."""
ROUTINE_READ_SECONDS: Final = 2.0
"""The same for every other call, as far as `reads.READS_PER_SECOND` allows."""


@dataclass(slots=True)
class CallRoom:
    """What is known of one call's room. All times are Unix seconds."""

    identity: str
    """The caller's; empty: any participant that is no agent is the caller."""
    agent_name: str
    caller_present: bool = False
    caller_seen_at: float | None = None
    agent_seen_at: float | None = None
    agents: dict[str, int] = field(default_factory=dict)
    """Identities of the agents in the room, each with the Unix milliseconds of its join; 0: not known."""
    ghosts: set[str] = field(default_factory=set)
    """Identities of agents whose worker is lost. LiveKit keeps them in the room for 20 s more."""
    accepted: bool = False
    """A worker accepted the current dispatch."""
    lost: bool = False
    """The agent is lost for certain: its worker is gone, or its job ended and the call did not."""
    finished: bool = False
    """The job ended, so a room that is no longer listed is closed."""
    outcome: CallOutcome | str = ""
    metadata: str | None = None
    """The room's metadata; None: it has not been listed yet."""
    has_record: bool = True
    """The metadata holds a room record. A restart of LiveKit loses it."""
    missing_since: float | None = None
    read_at: float = 0.0
    """When the participants were read last; 0: never."""
    checked_at: float | None = None
    """When LiveKit last showed who is absent, by a read or by a list that counts nobody; None: never."""
    retry_at: float = 0.0
    """Earliest time of the next read, after one that failed."""
    changed: bool = True
    """Something has changed since the last read began."""
    news_at: float = 0.0
    """When the last news arrived; 0: never."""
    _jobs: dict[str, JobState] = field(default_factory=dict)
    """Jobs of the current dispatch, each with its state."""
    _earlier_jobs: set[str] = field(default_factory=set)
    _counts: tuple[int, int, str] | None = None

    def dispatched(self, now: float) -> None:
        """Start over with a dispatch that is about to be made: earlier jobs no longer matter."""
        self._earlier_jobs |= self._jobs.keys()
        self._jobs = {}
        self.accepted = self.lost = self.finished = False
        self.read_at, self.changed = now, False  # the agent needs some time

    def listed(self, room: Room, began: float, now: float) -> None:
        """Take in what the list of rooms says. ``began``: when it was requested. ``now``: when it arrived.

        It counts the participants, and a call's room is made for its caller. In a crowd, the bounded reads would tell
        only after many seconds that the caller has come.
        """
        if room.participants and self.caller_seen_at is None:
            self.caller_present, self.caller_seen_at = True, began
        if not (room.participants or self.caller_present):
            self.checked_at = max(self.checked_at or 0.0, began - LIST_LAG_SECONDS)
        counts = (room.participants, room.publishers, room.sid)
        if counts != self._counts or self.missing_since is not None:
            self._record_news(now)
        self._counts, self.missing_since = counts, None
        if room.metadata != self.metadata:
            self.metadata = room.metadata
            record = read_room_record(room.metadata)
            self.has_record = record is not None
            self.outcome = record.outcome if record else self.outcome

    def not_listed(self, now: float) -> None:
        """Take in that the list of rooms does not have the room."""
        if self.missing_since is None:
            self.missing_since = now

    def event(self, now: float) -> None:
        """Take in that LiveKit reported an event in the room, which may be late or repeated. Only a read says more."""
        self._record_news(now)

    def participants(self, found: Iterable[Participant], began: float) -> None:
        """Take in who is in the room. ``began``: when the read began. News since then make the room due again.

        A read may be slower than a list or a report that began later. It then says nothing of a caller or an agent
        whom these have seen.
        """
        present = list(found)
        self.read_at, self.changed = began, self.news_at > began
        self.checked_at = began
        is_here = any(self._is_caller(one) for one in present)
        if is_here or began >= (self.caller_seen_at or 0.0):
            if is_here or self.caller_present:
                self.caller_seen_at = began
            self.caller_present = is_here
        self.ghosts &= {one.identity for one in present}
        agents = {one.identity: one.joined_at for one in present if one.agent_name == self.agent_name}
        if began < (self.agent_seen_at or 0.0):
            agents = self.agents | agents
        self._set_agents({identity: at for identity, at in agents.items() if identity not in self.ghosts}, began)

    def reported(self, job: JobReport, now: float) -> bool:
        """Take in what a worker says about its job in this room; return whether it is news.

        A worker repeats all its jobs with every change of one.
        """
        if self._jobs.get(job.job_id) is job.state or job.job_id in self._earlier_jobs:
            return False
        self._jobs[job.job_id] = job.state
        identity = agent_identity(job.job_id)
        if job.state is JobState.ENDED:
            self._ended(job, now)
            return True
        self.accepted = True
        self.news_at = now
        self.ghosts.discard(identity)
        if job.state is JobState.JOINED:
            self._set_agents({identity: 0} | self.agents, now)
        return True

    def ignore(self, job: JobReport) -> None:
        """Take in nothing of a job, now and later: it belongs to an earlier call in the room."""
        self._earlier_jobs.add(job.job_id)

    def worker_lost(self, job: JobReport, now: float) -> bool:
        """Take in that the worker of a job in this room is gone; return whether it is news."""
        known = self._jobs.pop(job.job_id, None)
        if known is JobState.ENDED or job.job_id in self._earlier_jobs:
            return False
        self._earlier_jobs.add(job.job_id)
        identity = agent_identity(job.job_id)
        self.ghosts.add(identity)
        self._without(identity, now)
        self.lost = not self.agents
        return True

    def snapshot(self, now: float) -> RoomSnapshot:
        """Return the room as `step` sees it."""
        missing = 0.0 if self.missing_since is None else now - self.missing_since
        gone = self.missing_since is not None and (self.finished or missing >= MISSING_ROOM_SECONDS)
        # An agent that writes an outcome is still in the room for a moment.
        outcome = "" if self.agents else self.outcome
        return RoomSnapshot(
            exists=not gone,
            caller_present=self.caller_present,
            agent_present=bool(self.agents),
            accepted=self.accepted,
            outcome=outcome,
            surplus_agents=self._surplus_agents(),
            agent_lost=self.lost,
            checked_at=self.checked_at,
        )

    def read_due(self, call: Call, *, heard: bool) -> float:
        """Return when the participants should be read next. ``heard``: the workers' reports arrive."""
        return max(self.retry_at, self._read_wanted(call, heard=heard))

    def _read_wanted(self, call: Call, *, heard: bool) -> float:
        if self.changed or not self.read_at:
            return self.read_at
        if call.state is CallState.DISPATCHED:
            return self.read_at + (HEARD_READ_SECONDS if heard else DISPATCHED_READ_SECONDS)
        return self.read_at + (ABSENT_READ_SECONDS if self._is_somebody_absent(call) else ROUTINE_READ_SECONDS)

    def is_routine(self, call: Call) -> bool:
        """Return whether nothing has changed, and nobody is absent: a read may wait for its turn."""
        if self.changed or not self.read_at:
            return False
        return call.state is not CallState.DISPATCHED and not self._is_somebody_absent(call)

    def _is_somebody_absent(self, call: Call) -> bool:
        """Whether the caller or the agent should be in the room and is not. Only further reads say if they return."""
        if call.state is CallState.JOINED and not self.agents:
            return True
        if self.caller_seen_at is None:
            return call.state is CallState.WAITING and self.read_at - call.created_at < ARRIVAL_SECONDS
        return not self.caller_present

    def _record_news(self, now: float) -> None:
        self.news_at, self.changed = now, True

    def _is_caller(self, participant: Participant) -> bool:
        return participant.identity == self.identity if self.identity else not participant.is_agent

    def _set_agents(self, agents: dict[str, int], now: float) -> None:
        if agents or self.agents:
            self.agent_seen_at = max(now, self.agent_seen_at or 0.0)
        self.agents = agents
        if agents:
            self.lost = self.finished = False

    def _ended(self, job: JobReport, now: float) -> None:
        self._without(agent_identity(job.job_id), now)
        self.outcome = job.outcome or self.outcome
        self._record_news(now)
        if all(state is JobState.ENDED for state in self._jobs.values()) and not self.agents:
            self.lost = job.outcome in _LOST
            if self.lost:  # LiveKit may not know yet that it has left
                self.ghosts.add(agent_identity(job.job_id))
            self.finished = True

    def _without(self, identity: str, now: float) -> None:
        self._set_agents({other: at for other, at in self.agents.items() if other != identity}, now)

    def _surplus_agents(self) -> tuple[str, ...]:
        """Return the identities of all agents except the first that joined.

        A worker that was frozen while its dispatch was withdrawn still joins when it resumes (observed with
        livekit-agents 1.8.9 and livekit-server 1.13.5). Two reports alone are no proof: only a read has times of joins.
        """
        known = sorted((at, identity) for identity, at in self.agents.items() if at)
        return tuple(identity for _, identity in known[1:])

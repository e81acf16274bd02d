"""The workers' reports of their jobs: which room each has, and how far it is. The controller passes them on at once."""

import time
from collections.abc import Callable

from agentspec.wire import JobReport, JobState, WorkerCalls
from gateway.agents import Agent, AgentDirectory
from gateway.calls.ledger import Ledger
from gateway.calls.room import CallRoom
from gateway.calls.watch import RoomWatch

_Worker = tuple[str, str]
"""Agent key, and name of the worker's pod."""
_Room = tuple[str, str]
"""Agent key, and name of the room."""


class WorkerReports:
    """Keeps what each worker reported last, and tells the calls that it is about."""

    def __init__(
        self, agents: AgentDirectory, ledger: Ledger, watch: RoomWatch, on_change: Callable[[str], None]
    ) -> None:
        """``on_change`` receives the id of every call whose room has changed by a report."""
        self._agents = agents
        self._ledger = ledger
        self._watch = watch
        self._on_change = on_change
        self._rooms: dict[_Worker, frozenset[_Room]] = {}
        """The rooms of each worker's jobs."""
        self._jobs: dict[_Room, dict[_Worker, list[JobReport]]] = {}
        """The jobs in each room. An adopted call then costs the same with any number of jobs in other rooms."""

    def begin(self) -> None:
        """Forget all workers: a new stream begins with those that have jobs."""
        self._rooms.clear()
        self._jobs.clear()

    def receive(self, calls: WorkerCalls) -> None:
        """Take in all jobs of one worker, as it reported them last."""
        self._keep((calls.agent, calls.worker), [] if calls.lost else calls.jobs)
        for job in calls.jobs:
            self._apply(calls.agent, job, lost=calls.lost)

    def apply_to(self, room: CallRoom, agent_key: str, name: str, *, is_repeat: bool) -> None:
        """Apply what is known of the jobs in a room to a call that is new to this gateway.

        ``is_repeat``: another call in the room is over. Its jobs say nothing about this one, and workers repeat them
        for some seconds after their end.
        """
        for jobs in self._jobs.get((agent_key, name), {}).values():
            for job in jobs:
                if is_repeat and job.state is JobState.ENDED:
                    room.ignore(job)
                else:
                    room.reported(job, time.time())

    def _keep(self, worker: _Worker, jobs: list[JobReport]) -> None:
        """Keep the jobs that a worker has now, instead of those that it reported before."""
        for room in self._rooms.pop(worker, ()):
            del self._jobs[room][worker]
            if not self._jobs[room]:
                del self._jobs[room]
        agent_key, _ = worker
        for job in jobs:
            self._jobs.setdefault((agent_key, job.room), {}).setdefault(worker, []).append(job)
        if jobs:
            self._rooms[worker] = frozenset((agent_key, job.room) for job in jobs)

    def _apply(self, agent_key: str, job: JobReport, *, lost: bool) -> None:
        server = self._server_of(agent_key)
        call_id = self._ledger.in_room(server, job.room)
        room = self._watch.room(call_id) if call_id else None
        if call_id is None or room is None:
            if server and not lost and job.state is not JobState.ENDED:
                self._watch.list_soon(server)  # it may be the room of a call that no gateway knows yet
            return
        news = room.worker_lost(job, time.time()) if lost else room.reported(job, time.time())
        if not news:
            return
        if room.finished:
            self._watch.list_soon(server)
        self._watch.changed(call_id, server)
        self._on_change(call_id)

    def _server_of(self, agent_key: str) -> str:
        """Return the URL of the agent's LiveKit server; empty when it is not known."""
        namespace, _, name = agent_key.partition("/")
        agent = self._agents.get(namespace, name)
        if isinstance(agent, Agent):
            return agent.spec.livekit.url
        return next((call.server for call in self._ledger.of_agent(agent_key)), "")

"""Watches the rooms on every LiveKit server: one list of all rooms a second, and a bounded number of reads of one room.

So the load on LiveKit does not grow with the number of calls. While there are few calls, the reads suffice to look into
every room each 2 s. With thousands, the workers' reports and the counts in the list say which rooms to look into.

Rooms without a known call have a bound of their own, so that live calls, however many, delay no adoption.

LiveKit's webhooks, where they are set up, say so sooner. An event is a hint only: its room is read, within a bound.
Lost, late, repeated and reordered events therefore do no harm.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from agentspec.wire import read_room_record
from gateway.agents import Agent, AgentDirectory
from gateway.calls.call import CallState
from gateway.calls.ledger import Ledger
from gateway.calls.looks import Looks
from gateway.calls.reads import MAX_READS, Need, Reads
from gateway.calls.room import CallRoom
from gateway.livekit.connections import Connection, Connections, SecretError
from gateway.livekit.server import LiveKitError, LiveKitRefused, Room, RoomMissing

LIST_SECONDS: Final = 1.0
"""Interval between two lists of the rooms of a server that has calls."""
IDLE_LIST_SECONDS: Final = 3.0
"""The same for a server without calls: other programs may open rooms there for a declared agent."""
MIN_LIST_SECONDS: Final = 0.3
"""Shortest interval between two lists, however much happens."""
READ_TICK_SECONDS: Final = 0.1
"""How often the watch looks for due reads while an agent is on its way or a room has changed."""
ROUTINE_TICK_SECONDS: Final = 0.5
"""The same while all calls go well."""

READ_RETRY_SECONDS: Final = 1.0
"""Pause after a failed read of a room, so that it takes no reads from others."""

ELSEWHERE_SECONDS: Final = 60.0
"""A call of another gateway is not offered for so long, unless the owners change."""

OnUnknown = Callable[[Connection, str, Room], Awaitable[float]]
"""Receives a connection, the URL of its server, and a room without a known call. Returns after how many seconds the
room should be offered again if it is still no call."""

logger = logging.getLogger(__name__)


@dataclass
class _Server:
    """One LiveKit server."""

    url: str
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    wants_list: bool = False
    """The rooms should be listed before the interval is over."""
    connection: Connection | None = None
    """The connection of the last list that arrived."""
    looks: Looks = field(default_factory=Looks)
    """Rooms that may be new calls, and those that were none."""
    answers: bool = True
    """The last list of rooms arrived."""
    listed_at: float = 0.0
    reads: Reads = field(default_factory=Reads)
    offering: bool = False
    following_hints: bool = False
    searches: int = 0
    """How often a search for calls was asked for, because the owners of agents have changed."""
    searched: int = 0
    """The last of these searches that is complete."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def list_soon(self) -> None:
        """List the rooms before the interval is over."""
        self.wants_list = True
        self.wake.set()


class RoomWatch:
    """Keeps a `CallRoom` for every live call, and says when one has changed."""

    def __init__(self, agents: AgentDirectory, connections: Connections, ledger: Ledger) -> None:
        self._agents = agents
        self._connections = connections
        self._ledger = ledger
        self._servers: dict[str, _Server] = {}
        self._rooms: dict[str, CallRoom] = {}
        self.on_change: Callable[[str], None] = lambda call_id: None
        """Receives the id of a call whose room has changed."""
        self.on_unknown: OnUnknown | None = None
        self.is_elsewhere: Callable[[Room], bool] = lambda room: False
        """Returns whether another gateway follows the call in a room."""
        self.is_heard: Callable[[], bool] = lambda: False
        """Returns whether the workers' reports arrive."""

    def add(self, call_id: str, server: str, room: CallRoom) -> None:
        """Watch the room of a call that the ledger has."""
        self._rooms[call_id] = room
        watched = self._cover(server)
        watched.reads.add(call_id)

    def forget(self, call_id: str, server: str) -> None:
        """Stop watching the room of a call that is over."""
        self._rooms.pop(call_id, None)
        if (watched := self._servers.get(server)) is not None:
            watched.reads.forget(call_id)

    def room(self, call_id: str) -> CallRoom | None:
        """Return what is known of a call's room; None: the call is over."""
        return self._rooms.get(call_id)

    def changed(self, call_id: str, server: str) -> None:
        """Look into a call's room before its turn."""
        if (watched := self._servers.get(server)) is not None and call_id in self._rooms:
            watched.reads.active.add(call_id)

    def answers(self, server: str) -> bool:
        """Return whether a LiveKit server answered the last request for its rooms."""
        return server not in self._servers or self._servers[server].answers

    def hint(self, server: str, room: str, *, may_be_new: bool) -> None:
        """Look into a room soon, because LiveKit reported an event in it.

        ``may_be_new``: after such an event, an unknown room may be a call.
        """
        if (watched := self._servers.get(server)) is None:
            return
        call_id = self._ledger.in_room(server, room)
        if call_id is None:
            if not may_be_new:
                return
            watched.looks.hint(room)
        elif (known := self._rooms.get(call_id)) is not None:
            known.event(time.time())
            watched.reads.active.add(call_id)
        watched.wake.set()

    def list_soon(self, server: str) -> None:
        """List the rooms of a server at once."""
        if (watched := self._servers.get(server)) is not None:
            watched.list_soon()

    def offer_again(self) -> None:
        """List the rooms of all servers at once, and offer those that were no calls of this gateway again."""
        for server in self._servers.values():
            server.looks.forget()
            server.searches += 1
            server.list_soon()

    def has_searched(self, server: str) -> bool:
        """Return whether all calls of this gateway on a server are known, since the owners changed last."""
        return server not in self._servers or self._servers[server].searched == self._servers[server].searches

    def cover_declared(self) -> None:
        """Watch the servers of all declared agents, and no longer those without agents and calls."""
        needed = dict.fromkeys([*(agent.spec.livekit.url for agent in self._declared()), *self._ledger.servers()])
        for url in needed:
            self._cover(url)
        for url in self._servers.keys() - needed.keys():
            self._stop(self._servers.pop(url))

    async def list_now(self) -> None:
        """List the rooms of all servers once, side by side, so that the calls of a stopped gateway are known."""
        self.cover_declared()
        servers = list(self._servers.values())
        for server in servers:
            server.listed_at = time.time()
        await asyncio.gather(*(self._guarded(server, self._list) for server in servers))

    async def stop(self) -> None:
        """Stop watching all servers."""
        tasks = [task for server in self._servers.values() for task in self._stop(server)]
        self._servers.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _declared(self) -> Iterable[Agent]:
        return (agent for agent in self._agents.all() if isinstance(agent, Agent))

    def _cover(self, url: str) -> _Server:
        server = self._servers.get(url)
        if server is None:
            server = self._servers[url] = _Server(url)
            server.task = asyncio.create_task(self._watch(server), name=f"rooms of {url}")
        return server

    def _stop(self, server: _Server) -> list[asyncio.Task[None]]:
        tasks = [*server.tasks, *([server.task] if server.task else [])]
        for task in tasks:
            task.cancel()
        return tasks

    async def _watch(self, server: _Server) -> None:
        while True:
            now = time.time()
            server.wake.clear()
            interval = LIST_SECONDS if server.reads.rotation else IDLE_LIST_SECONDS
            since = now - server.listed_at
            if since >= interval or (server.wants_list and since >= MIN_LIST_SECONDS):
                server.wants_list = False
                server.listed_at = now
                self._start(server, self._list)
            self._read_due(server, now)
            if server.looks.has_hints and not server.following_hints:
                server.following_hints = True
                self._start(server, self._follow_hints)
            await self._pause(server, interval)

    async def _pause(self, server: _Server, interval: float) -> None:
        """Wait until a list or a read may be due."""
        if server.reads.active or server.wants_list:
            await asyncio.sleep(READ_TICK_SECONDS)
            return
        try:
            async with asyncio.timeout(min(interval, ROUTINE_TICK_SECONDS if server.reads.rotation else interval)):
                await server.wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(READ_TICK_SECONDS)

    def _start(self, server: _Server, work: Callable[[_Server], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(self._guarded(server, work))
        server.tasks.add(task)
        task.add_done_callback(server.tasks.discard)

    async def _guarded(self, server: _Server, work: Callable[[_Server], Awaitable[None]]) -> None:
        try:
            await work(server)
        except Exception:  # one unexpected error must not stop the watch
            logger.exception("watching rooms failed", extra={"url": server.url})

    async def _list(self, server: _Server) -> None:
        """List the rooms of a server, with the credentials of its first agent whose credentials LiveKit accepts."""
        agents = [agent for agent in self._declared() if agent.spec.livekit.url == server.url]
        agents += [call.agent for call_id in list(server.reads.rotation)[:1] if (call := self._ledger.get(call_id))]
        began, search = time.time(), server.searches
        for agent in agents:
            try:
                connection = await self._connections.open(agent)
                rooms = await connection.livekit.rooms()
            except (LiveKitRefused, SecretError) as error:
                logger.warning("listing rooms failed", extra={"agent": agent.key, "error": str(error)})
            except LiveKitError as error:
                logger.warning("listing rooms failed", extra={"agent": agent.key, "error": str(error)})
                break  # the credentials of other agents do not help against an unreachable server
            else:
                server.answers, server.connection = True, connection
                self._compare(server, rooms, began)
                return await self._find_calls(server, connection, rooms, search)
        server.answers = False

    def _compare(self, server: _Server, rooms: list[Room], began: float) -> None:
        """Compare a list with the rooms of the live calls. ``began``: when it was requested, in Unix seconds."""
        live, now = self._ledger.rooms(server.url), time.time()
        listed: set[str] = set()
        for room in rooms:
            call_id = live.get(room.name)
            if call_id is None or (known := self._rooms.get(call_id)) is None:
                continue
            listed.add(call_id)
            before = (known.outcome, known.missing_since, known.has_record, known.caller_present)
            known.listed(room, began, now)
            if known.changed:
                server.reads.active.add(call_id)
            if before != (known.outcome, known.missing_since, known.has_record, known.caller_present):
                self.on_change(call_id)
        for call_id in set(live.values()) - listed:
            call, missing = self._ledger.get(call_id), self._rooms.get(call_id)
            if call is not None and missing is not None and call.created_at < began:
                missing.not_listed(began)
                self.on_change(call_id)

    async def _find_calls(self, server: _Server, connection: Connection, rooms: list[Room], search: int) -> None:
        """Offer the rooms without a known call.

        Those with a room record are calls: all of them are offered, for example 2,000 after a restart of the gateway.
        Of the others, which may be another program's, as many as the bounds of requests allow.

        ``search``: the search that the list belongs to.
        """
        if self.on_unknown is None:
            return
        if server.offering:
            if server.searched < search:  # the owners have changed during the search before
                server.list_soon()
            return
        server.offering = True
        try:
            no_calls = (room for room in rooms if not self._ledger.in_room(server.url, room.name))
            unknown = server.looks.due(no_calls, time.time())
            recorded = [room for room in unknown if read_room_record(room.metadata) is not None]
            known = {room.sid for room in recorded}
            for batch in (recorded[at : at + MAX_READS] for at in range(0, len(recorded), MAX_READS)):
                await asyncio.gather(*(self._offer(server, connection, room) for room in batch))
            for room in unknown:
                if room.sid not in known and not await self._look(server, connection, room):
                    break
            server.searched = max(server.searched, search)
        finally:
            server.offering = False

    async def _look(self, server: _Server, connection: Connection, room: Room) -> bool:
        """Offer a room without a record within the bounds: its own one, and what the reads of calls leave of theirs.

        Return False when both are used up.
        """
        has_turn = server.looks.may_begin(room, time.time())
        if not has_turn and not server.reads.take():
            return False
        await self._offer(server, connection, room)
        if has_turn and not self._ledger.in_room(server.url, room.name):
            server.looks.count_in_vain(1)
        return True

    async def _offer(self, server: _Server, connection: Connection, room: Room) -> None:
        assert self.on_unknown is not None
        wait = ELSEWHERE_SECONDS if self.is_elsewhere(room) else await self.on_unknown(connection, server.url, room)
        server.looks.record(room, time.time() + wait)

    async def _follow_hints(self, server: _Server) -> None:
        """Offer the rooms that hints are about, as far as their bound allows. The list has the others."""
        try:
            while (name := server.looks.take_hint(time.time())) is not None:
                if server.connection is None or self._ledger.in_room(server.url, name):
                    continue
                found = await server.connection.livekit.rooms([name])
                for room in found:
                    await self._offer(server, server.connection, room)
                if not self._ledger.in_room(server.url, name):
                    server.looks.count_in_vain(1 + len(found))
        except LiveKitError as error:
            logger.warning("reading a room failed", extra={"url": server.url, "error": str(error)})
        finally:
            server.following_hints = False
            server.looks.clear_hints()

    def _read_due(self, server: _Server, now: float) -> None:
        """Start the reads that are due, as far as the bounds allow."""
        heard = self.is_heard()

        def need_of(call_id: str) -> Need | None:
            call, room = self._ledger.get(call_id), self._rooms.get(call_id)
            if call is None or room is None:
                return None
            return Need(room.is_routine(call), room.read_due(call, heard=heard))

        for call_id in server.reads.begin_due(now, need_of):
            self._start(server, partial(self._read, call_id=call_id))

    async def _read(self, server: _Server, call_id: str) -> None:
        """Read who is in a call's room."""
        call, room = self._ledger.get(call_id), self._rooms.get(call_id)
        try:
            if call is None or room is None:
                return
            began = time.time()
            livekit = (await self._connections.open(call.agent)).livekit
            found = await livekit.participants(call.room)
            if room.read_at > began:
                return  # a dispatch began meanwhile, and the answer may be older
            room.participants(found, began)
            if not room.is_routine(call):
                server.reads.active.add(call_id)
            if not found and call.state is CallState.JOINED:
                self.list_soon(server.url)
            self.on_change(call_id)
        except RoomMissing:
            self.list_soon(server.url)
        except (LiveKitError, SecretError) as error:
            logger.warning("reading a room failed", extra={"call_id": call_id, "error": str(error)})
            if room is not None:
                room.retry_at = time.time() + READ_RETRY_SECONDS
        finally:
            server.reads.done(call_id)

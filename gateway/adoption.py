"""Finds calls in LiveKit's record that this gateway does not know: those of a gateway that was here before."""

import asyncio
import logging
import time

from gateway.agents import Agent, AgentDirectory
from gateway.connections import Connections, SecretProblem
from gateway.desk import Desk
from gateway.ledger import Ledger
from gateway.livekit import LiveKitError
from gateway.rooms import parse_record

ADOPT_SECONDS = 15.0
"""Between searches. The first comes at start; later ones find calls of a gateway that was still there then."""
NEW_SECONDS = 5.0
"""A room younger than this may belong to a request in progress at another gateway."""

log = logging.getLogger(__name__)


async def adopt_calls(agents: AgentDirectory, connections: Connections, desk: Desk) -> None:
    """Search every LiveKit server once; trouble with one does not keep the others from being searched."""
    known = {agent.key: agent for agent in agents.all() if isinstance(agent, Agent)}
    searched: set[str] = set()
    for agent in known.values():
        if agent.spec.livekit.url in searched:
            continue
        try:
            connection = await connections.open(agent)
            rooms = await connection.livekit.rooms()
            searched.add(agent.spec.livekit.url)
            for room in rooms:
                record = parse_record(room.metadata)
                owner = known.get(record.agent) if record else None
                if record is not None and owner is not None and time.time() - record.created_at > NEW_SECONDS:
                    await desk.adopt(owner, await connections.open(owner), room.name, record)
        except (LiveKitError, SecretProblem) as error:
            log.warning("search for calls failed", extra={"agent": agent.key, "problem": str(error)})


async def keep_house(agents: AgentDirectory, connections: Connections, desk: Desk, ledger: Ledger) -> None:
    """Adopt calls and forget old ones, for ever."""
    await agents.wait_synced()
    while True:
        await adopt_calls(agents, connections, desk)
        ledger.forget_finished(time.time())
        await asyncio.sleep(ADOPT_SECONDS)

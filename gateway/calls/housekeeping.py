"""Watches the servers of declared agents, and removes what is no longer used."""

import asyncio
import time

from gateway.agents import Agent, AgentDirectory
from gateway.calls.ledger import Ledger
from gateway.calls.watch import RoomWatch
from gateway.livekit.connections import SecretConnections

INTERVAL_SECONDS = 2.0


async def run(agents: AgentDirectory, connections: SecretConnections, ledger: Ledger, watch: RoomWatch) -> None:
    """Do so at a fixed interval, until cancelled."""
    await agents.wait_synced()
    await watch.list_now()
    while True:
        watch.cover_declared()
        drop_unused(agents, connections, ledger)
        await asyncio.sleep(INTERVAL_SECONDS)


def drop_unused(agents: AgentDirectory, connections: SecretConnections, ledger: Ledger) -> None:
    """Remove finished calls after their retention, and credentials of agents that are not declared and have no call."""
    ledger.remove_finished(time.time())
    declared = (agent for agent in agents.all() if isinstance(agent, Agent))
    connections.drop_unused([*declared, *(call.agent for call in ledger)])

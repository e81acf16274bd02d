"""Adopts calls that another gateway opened, from the room records in LiveKit, and removes unused data."""

import asyncio
import logging
import time

from agentspec.wire import read_room_record
from gateway.agents import Agent, AgentDirectory
from gateway.calls.ledger import Ledger
from gateway.calls.opening import CallOpener
from gateway.livekit.connections import Connections, SecretConnections, SecretError
from gateway.livekit.server import LiveKitError, LiveKitRefused, Room

ADOPTION_INTERVAL_SECONDS = 15.0
"""Interval between two searches. The first runs at start; later ones find calls of gateways that stopped since."""
MIN_ROOM_AGE_SECONDS = 5.0
"""The search ignores younger rooms, because another gateway may still be answering their request."""

logger = logging.getLogger(__name__)


async def adopt_calls(agents: AgentDirectory, connections: Connections, opener: CallOpener) -> None:
    """Search every LiveKit server once, concurrently, so that a failing server does not delay the others."""
    by_key = {agent.key: agent for agent in agents.all() if isinstance(agent, Agent)}
    by_server: dict[str, list[Agent]] = {}
    for agent in by_key.values():
        by_server.setdefault(agent.spec.livekit.url, []).append(agent)
    await asyncio.gather(*(_search(candidates, by_key, connections, opener) for candidates in by_server.values()))


async def _search(
    candidates: list[Agent], by_key: dict[str, Agent], connections: Connections, opener: CallOpener
) -> None:
    """Search one server, with the credentials of its first agent whose credentials LiveKit accepts."""
    for agent in candidates:
        try:
            rooms = await (await connections.open(agent)).livekit.rooms()
        except (LiveKitRefused, SecretError) as error:
            logger.warning("search for calls failed", extra={"agent": agent.key, "error": str(error)})
        except LiveKitError as error:
            logger.warning("search for calls failed", extra={"agent": agent.key, "error": str(error)})
            return  # the credentials of other agents do not help against an unreachable server
        except Exception:  # an unexpected error on one server must not stop the search on the others
            logger.exception("search for calls failed", extra={"agent": agent.key})
            return
        else:
            for room in rooms:
                await _adopt(room, by_key, connections, opener)
            return


async def _adopt(room: Room, by_key: dict[str, Agent], connections: Connections, opener: CallOpener) -> None:
    record = read_room_record(room.metadata)
    agent = by_key.get(record.agent) if record else None
    if record is None or agent is None:
        return
    if not record.from_token and time.time() - record.created_at <= MIN_ROOM_AGE_SECONDS:
        return
    try:
        await opener.adopt(agent, await connections.open(agent), room.name, record)
    except (LiveKitError, SecretError) as error:
        fields = {"agent": agent.key, "call_id": record.call_id, "room": room.name, "error": str(error)}
        logger.warning("could not adopt call", extra=fields)
    except Exception:
        fields = {"agent": agent.key, "call_id": record.call_id, "room": room.name}
        logger.exception("could not adopt call", extra=fields)


async def run_housekeeping(
    agents: AgentDirectory, connections: SecretConnections, opener: CallOpener, ledger: Ledger
) -> None:
    """Adopt calls and remove unused data at a fixed interval, until cancelled."""
    await agents.wait_synced()
    while True:
        await adopt_calls(agents, connections, opener)
        drop_unused(agents, connections, ledger)
        await asyncio.sleep(ADOPTION_INTERVAL_SECONDS)


def drop_unused(agents: AgentDirectory, connections: SecretConnections, ledger: Ledger) -> None:
    """Remove finished calls after their retention, and credentials of agents that are not declared and have no call."""
    ledger.remove_finished(time.time())
    declared = (agent for agent in agents.all() if isinstance(agent, Agent))
    connections.drop_unused([*declared, *(call.agent for call in ledger)])

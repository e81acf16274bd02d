"""Finds calls in LiveKit's record that this gateway does not know: those of a gateway that was here before."""

import asyncio
import logging
import time

from gateway.agents import Agent, AgentDirectory
from gateway.connections import Connections, SecretConnections, SecretError
from gateway.ledger import Ledger
from gateway.livekit import LiveKitError, LiveKitRefused, Room
from gateway.opening import CallOpener
from gateway.rooms import parse_record

ADOPTION_INTERVAL_SECONDS = 15.0
"""Between searches. The first comes at start; later ones find calls of a gateway that was still there then."""
MIN_ROOM_AGE_SECONDS = 5.0
"""A room younger than this may belong to a request in progress at another gateway."""

logger = logging.getLogger(__name__)


async def adopt_calls(agents: AgentDirectory, connections: Connections, opener: CallOpener) -> None:
    """Search every LiveKit server once, all side by side: trouble with one does not keep the others waiting."""
    known = {agent.key: agent for agent in agents.all() if isinstance(agent, Agent)}
    by_server: dict[str, list[Agent]] = {}
    for agent in known.values():
        by_server.setdefault(agent.spec.livekit.url, []).append(agent)
    await asyncio.gather(*(_search(owners, known, connections, opener) for owners in by_server.values()))


async def _search(owners: list[Agent], known: dict[str, Agent], connections: Connections, opener: CallOpener) -> None:
    """Search one server with the credentials of the first of its agents whose credentials are good."""
    for agent in owners:
        try:
            rooms = await (await connections.open(agent)).livekit.rooms()
        except (LiveKitRefused, SecretError) as error:
            logger.warning("search for calls failed", extra={"agent": agent.key, "error": str(error)})
        except LiveKitError as error:
            logger.warning("search for calls failed", extra={"agent": agent.key, "error": str(error)})
            return  # its other agents would wait as long
        except Exception:  # a mistake about one server must not cost the calls of all others
            logger.exception("search for calls failed", extra={"agent": agent.key})
            return
        else:
            for room in rooms:
                await _adopt(room, known, connections, opener)
            return


async def _adopt(room: Room, known: dict[str, Agent], connections: Connections, opener: CallOpener) -> None:
    record = parse_record(room.metadata)
    owner = known.get(record.agent) if record else None
    if record is None or owner is None or time.time() - record.created_at <= MIN_ROOM_AGE_SECONDS:
        return
    try:
        await opener.adopt(owner, await connections.open(owner), room.name, record)
    except (LiveKitError, SecretError) as error:
        logger.warning("call not taken over", extra={"agent": owner.key, "room": room.name, "error": str(error)})
    except Exception:
        logger.exception("call not taken over", extra={"agent": owner.key, "room": room.name})


async def run_housekeeping(
    agents: AgentDirectory, connections: SecretConnections, opener: CallOpener, ledger: Ledger
) -> None:
    """Adopt calls, and forget old ones and credentials that nobody uses, for ever."""
    await agents.wait_synced()
    while True:
        await adopt_calls(agents, connections, opener)
        drop_unused(agents, connections, ledger)
        await asyncio.sleep(ADOPTION_INTERVAL_SECONDS)


def drop_unused(agents: AgentDirectory, connections: SecretConnections, ledger: Ledger) -> None:
    """Drop the calls that were over long ago, and the credentials of agents that are neither declared nor called."""
    ledger.remove_finished(time.time())
    declared = (agent for agent in agents.all() if isinstance(agent, Agent))
    connections.drop_unused([*declared, *(call.agent for call in ledger)])

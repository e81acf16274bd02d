"""The agent of one call: the stock agent, or one that own code makes. Both get what the manifest says of the call."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from livekit.agents import Agent

from agentspec.wire import DispatchMetadata, WorkerConfig, agent_key
from worker import own_code
from worker.call import conversation, prompt
from worker.contract import CallContext, Knowledge


async def make_agent(config: WorkerConfig, metadata: DispatchMetadata, *, room: str = "", job_id: str = "") -> Agent:
    """Return the agent as declared. Raises what own code raises.

    Facts about the call are a message of the lowest rank, the user's.
    """
    if config.agent_code:
        agent = own_code.load(config.agent_code)(call_context(config, metadata, room=room, job_id=job_id))
    else:
        agent = Agent(instructions=prompt.instructions(config))
    if config.time_zone:
        await conversation.add_facts(agent, prompt.time_facts(datetime.now(UTC), config.time_zone))
    await conversation.add_facts(agent, prompt.facts(metadata, config.language))
    return agent


def call_context(config: WorkerConfig, metadata: DispatchMetadata, *, room: str = "", job_id: str = "") -> CallContext:
    """Return what own code receives for a call."""
    return CallContext(
        call_id=metadata.call_id,
        job_id=job_id,
        room=room,
        agent=agent_key(config.namespace, config.name),
        agent_name=config.agent_name,
        caller_identity=metadata.caller_identity,
        user_id=metadata.user_id,
        language=config.language,
        caller_language=metadata.language,
        capabilities=tuple(metadata.capabilities),
        facts=dict(metadata.metadata),
        instructions=prompt.instructions(config),
        greeting=config.greeting,
        knowledge=tuple(Knowledge(document.name, document.text) for document in config.knowledge),
        settings=config.settings,
        started=datetime.now(ZoneInfo(config.time_zone or "UTC")),
    )

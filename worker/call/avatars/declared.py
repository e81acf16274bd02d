"""The avatar that an agent's configuration declares, for one call.

This module is the only one that knows which providers there are. It imports the plugin of a declared avatar only.
"""

import os

from livekit.agents import utils
from livekit.protocol.agent import Job

from agentspec import AvatarProvider
from agentspec.names import AGENT_UID_VARIABLE
from agentspec.wire import WorkerConfig
from worker import avatar_limit, avatar_sessions
from worker.avatar_sessions import AvatarName
from worker.call.avatar_seat import WorkerSeat
from worker.call.avatars.plugin import PluginAvatar
from worker.call.avatars.provider import ProviderAvatar
from worker.call.avatars.tavus import TavusAvatar
from worker.tavus_api import TavusAPI


def avatar_of(config: WorkerConfig, job: Job) -> ProviderAvatar | None:
    """Return the avatar for the call of a job; None when the agent has none."""
    if config.avatar.provider is AvatarProvider.TAVUS and config.avatar.tavus is not None:
        spec, key = config.avatar.tavus, os.environ["TAVUS_API_KEY"]
        owner = avatar_sessions.owner(os.environ.get(AGENT_UID_VARIABLE, ""), config.livekit_url)
        return TavusAvatar(
            spec,
            TavusAPI(utils.http_context.http_session, spec.base_url, key),
            AvatarName(owner, job.id, job.room.name),
            limit=avatar_limit.read(),
            max_call_seconds=config.max_call_minutes * 60,
            livekit_url=config.avatar_livekit_url or config.livekit_url,
        )
    if config.avatar.provider is AvatarProvider.PLUGIN and config.avatar.plugin is not None:
        seat = WorkerSeat(job.id, avatar_limit.read())
        return PluginAvatar(config.avatar.plugin, seat, config.avatar_livekit_url or config.livekit_url)
    return None

"""Starts what the main process does about open avatars, and stops it with the worker."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from livekit import api

from agentspec import AvatarProvider
from agentspec.names import AGENT_UID_VARIABLE
from agentspec.wire import agent_identity
from worker import avatar_sessions
from worker.avatar_reports import Avatars
from worker.config import WorkerSettings
from worker.server.open_avatars import AvatarCloser, OrphanReaper
from worker.tavus_api import TavusAPI

FINISH_SECONDS: Final = 10.0
"""How long a worker that stops may take to close abandoned avatars."""
_REQUEST_SECONDS: Final = 5.0


@asynccontextmanager
async def open_avatars(
    settings: WorkerSettings, avatars: Avatars, held_jobs: Callable[[], Collection[str]]
) -> AsyncIterator[AvatarCloser | None]:
    """Search for open avatars within the context. Yields None when the agent has no avatar."""
    config = settings.config
    if config.avatar.provider is not AvatarProvider.TAVUS or config.avatar.tavus is None:
        yield None
        return
    async with aiohttp.ClientSession() as session, _livekit(settings) as livekit:
        tavus = TavusAPI(lambda: session, config.avatar.tavus.base_url, settings.tavus_key)
        owner = avatar_sessions.owner(os.environ.get(AGENT_UID_VARIABLE, ""), config.livekit_url)

        async def is_in_room(room: str, job_id: str) -> bool:
            return await may_be_in_room(livekit, room, job_id)

        closer = AvatarCloser(tavus, avatars)
        reaper = OrphanReaper(tavus, owner, held_jobs=held_jobs, is_in_room=is_in_room)
        reaping = asyncio.create_task(reaper.run(), name="reap_avatars")
        try:
            yield closer
        finally:
            reaping.cancel()
            await closer.finish(FINISH_SECONDS)
            with contextlib.suppress(asyncio.CancelledError):
                await reaping


@asynccontextmanager
async def _livekit(settings: WorkerSettings) -> AsyncIterator[api.LiveKitAPI]:
    url, key, secret = settings.config.livekit_url, settings.livekit_key, settings.livekit_secret
    async with api.LiveKitAPI(url, key, secret) as livekit:
        yield livekit


async def may_be_in_room(livekit: api.LiveKitAPI, room: str, job_id: str) -> bool:
    """Return whether the agent of a job is in a room; True when LiveKit does not answer."""
    try:
        async with asyncio.timeout(_REQUEST_SECONDS):
            await livekit.room.get_participant(api.RoomParticipantIdentity(room=room, identity=agent_identity(job_id)))
    except api.TwirpError as error:
        return error.code != api.TwirpErrorCode.NOT_FOUND
    except (aiohttp.ClientError, TimeoutError):
        return True
    return True

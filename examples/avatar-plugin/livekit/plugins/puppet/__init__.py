"""An avatar plugin as livekit-agents has them for its providers, reduced to the steps that each of them takes.

Its provider is the simulated Tavus of this repository: it renders an avatar that joins the room.
"""

import os

import aiohttp
from livekit import api, rtc
from livekit.agents import AgentSession, APIStatusError, get_job_context, utils
from livekit.agents.voice.avatar import AvatarSession as BaseAvatarSession
from livekit.agents.voice.avatar import DataStreamAudioOutput
from livekit.agents.voice.room_io import ATTRIBUTE_PUBLISH_ON_BEHALF

__all__ = ["AvatarSession"]

_IDENTITY = "puppet-avatar"
_SAMPLE_RATE = 24_000
_SECONDS = 10.0


class AvatarSession(BaseAvatarSession[str]):
    """An avatar of the provider at `api_url`."""

    def __init__(self, *, avatar_id: str, api_url: str, api_key: str, max_call_seconds: int = 3600) -> None:
        super().__init__()
        self._avatar_id = avatar_id
        self._url = f"{api_url.rstrip('/')}/conversations"
        self._headers = {"x-api-key": api_key}
        self._max_call_seconds = max_call_seconds

    @property
    def avatar_identity(self) -> str:
        """Identity of the avatar's participant in the room."""
        return _IDENTITY

    @property
    def provider(self) -> str:
        """Name of the provider in livekit-agents' metrics."""
        return "puppet"

    async def start(self, agent_session: AgentSession[None], room: rtc.Room, *, livekit_url: str) -> None:
        """Send the provider a token for the room, and give the agent's audio to the avatar."""
        await super().start(agent_session, room)
        token = (
            api.AccessToken(os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"])
            .with_kind("agent")
            .with_identity(_IDENTITY)
            .with_grants(api.VideoGrants(room_join=True, room=room.name))
            .with_attributes({ATTRIBUTE_PUBLISH_ON_BEHALF: get_job_context().local_participant_identity})
            .to_jwt()
        )
        properties = {"livekit_ws_url": livekit_url, "livekit_room_token": token}
        properties |= {"max_call_duration": self._max_call_seconds}
        body = {"face_id": self._avatar_id, "conversation_name": room.name, "properties": properties}
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        http = utils.http_context.http_session()
        async with http.post(self._url, json=body, headers=self._headers, timeout=timeout) as response:
            if not response.ok:
                raise APIStatusError("the provider refused the avatar", status_code=response.status)
        agent_session.output.replace_audio_tail(
            DataStreamAudioOutput(
                room=room,
                destination_identity=_IDENTITY,
                sample_rate=_SAMPLE_RATE,
                wait_remote_track=rtc.TrackKind.KIND_VIDEO,
            )
        )

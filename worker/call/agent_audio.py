"""The agent's own audio track, published before the caller comes.

The SDK's room output publishes it when the caller has arrived: a round trip and a negotiation, some 150 ms, that the
caller would wait for the first word. This uses the SDK's output as it is, only sooner.
"""

import asyncio
from typing import Final

from livekit import rtc
from livekit.agents.voice.room_io import _ParticipantAudioOutput

SAMPLE_RATE: Final = 24000
"""OpenAI's speech is at this rate, and so is what the avatar takes: nothing is resampled."""
TRACK_NAME: Final = "agent"


class OwnVoice:
    """An audio output to the room."""

    def __init__(self, room: rtc.Room) -> None:
        self.output = _ParticipantAudioOutput(
            room,
            sample_rate=SAMPLE_RATE,
            num_channels=1,
            track_publish_options=rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE),
            track_name=TRACK_NAME,
        )

    async def publish(self) -> None:
        """Publish the track, and return when someone has subscribed to it."""
        await self.output.start()

    async def subscribed(self) -> None:
        """Wait until someone takes the track."""
        await asyncio.shield(self.output.subscribed)

    async def close(self) -> None:
        """Stop playing and free the track's buffers."""
        await self.output.aclose()

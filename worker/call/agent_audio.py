"""The agent's audio track, published before the caller arrives.

The SDK's room output publishes the track when the caller has arrived. The caller would wait for that round trip and
negotiation, some 150 ms, before the first word.
"""

from typing import Final

from livekit import rtc

from worker import sdk

SAMPLE_RATE: Final = 24000
"""Hertz. OpenAI's speech and the avatar's input have this rate too, so nothing is resampled."""
TRACK_NAME: Final = "agent"


class AgentAudio:
    """An audio output of the session to the room."""

    def __init__(self, room: rtc.Room) -> None:
        self.output = sdk.make_room_audio_output(room, sample_rate=SAMPLE_RATE, track_name=TRACK_NAME)

    async def publish(self) -> None:
        """Publish the track, and return when a participant has subscribed to it."""
        await self.output.start()

    async def wait_for_subscription(self) -> None:
        """Wait until a participant has subscribed to the track."""
        await self.output.wait_for_subscription()

    async def close(self) -> None:
        """Stop playing and free the track's buffers."""
        await self.output.aclose()

"""Fakes of LiveKit's room, of audio outputs, and of the job that closes a session."""

import asyncio
import contextvars
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from livekit import rtc
from livekit.agents.voice import AgentSession
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities

ACTIVE = rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE
JOINED = rtc.ParticipantState.PARTICIPANT_STATE_JOINED
STANDARD = rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD
SIP = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT


@dataclass
class FakePublication:
    """A published track."""

    kind: int = rtc.TrackKind.KIND_AUDIO
    subscribed: bool = False
    track: "FakeTrack | None" = None

    def set_subscribed(self, subscribed: bool) -> None:
        self.subscribed = subscribed


@dataclass
class FakeTrack:
    """A subscribed track whose sound the test sets."""

    energy: float = 0.0
    packets: int = 0
    packets_per_reading: int = 0

    async def get_stats(self) -> list[Any]:
        self.packets += self.packets_per_reading
        received = SimpleNamespace(packets_received=self.packets)
        inbound = SimpleNamespace(inbound=SimpleNamespace(total_audio_energy=self.energy), received=received)
        return [SimpleNamespace(inbound_rtp=inbound)]


@dataclass
class FakeParticipant:
    """A participant of the room."""

    identity: str
    kind: int = STANDARD
    state: int = ACTIVE
    attributes: dict[str, str] = field(default_factory=dict)
    metadata: str = ""
    track_publications: dict[str, FakePublication] = field(default_factory=dict)


class FakeRoom(rtc.EventEmitter[Any]):
    """A room whose participants join and leave as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.remote_participants: dict[str, FakeParticipant] = {}
        self.connected = True
        self.connection_state = rtc.ConnectionState.CONN_CONNECTED
        self.local_participant = self
        self.identity = "agent-AJ_1"
        """Of the local participant, which is this object."""
        self.pulses = 0
        self.answers_pulses = True
        """A frozen participant never answers."""
        self.sends = True
        """Whether the own connection can send."""

    async def perform_rpc(self, *, destination_identity: str, method: str, payload: str) -> str:
        """Answer as a participant that has no such method."""
        self.pulses += 1
        if not self.sends:
            raise rtc.RpcError(rtc.RpcError.ErrorCode.SEND_FAILED, "not connected")
        if not self.answers_pulses:
            await asyncio.Event().wait()
        raise rtc.RpcError(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, f"no {method} at {destination_identity}")

    def isconnected(self) -> bool:
        return self.connected

    def join(self, participant: FakeParticipant) -> None:
        self.remote_participants[participant.identity] = participant
        self.emit("participant_connected", participant)

    def leave(self, identity: str) -> None:
        self.emit("participant_disconnected", self.remote_participants.pop(identity))

    def change(self, identity: str, attributes: dict[str, str]) -> None:
        """Change attributes of a participant, as LiveKit reports it."""
        participant = self.remote_participants[identity]
        participant.attributes = participant.attributes | attributes
        self.emit("participant_attributes_changed", attributes, participant)

    def as_room(self) -> rtc.Room:
        return cast(rtc.Room, self)


class FakeSink(AudioOutput):
    """An audio output that plays only when the test says."""

    def __init__(self, sample_rate: int = 24000) -> None:
        super().__init__(label="fake", capabilities=AudioOutputCapabilities(pause=False), sample_rate=sample_rate)
        self.frames = 0
        self.flushed = 0
        self.cleared = 0
        self.takes_frames = asyncio.Event()
        self.takes_frames.set()
        self.failure: rtc.StreamError | AssertionError | None = None
        """Raised for every frame."""

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        await self.takes_frames.wait()
        if self.failure is not None:
            raise self.failure
        self.frames += 1

    def flush(self) -> None:
        super().flush()
        self.flushed += 1

    def clear_buffer(self) -> None:
        self.cleared += 1

    def play(self, seconds: float) -> None:
        self.on_playback_finished(playback_position=seconds, interrupted=False)


class FakeWrapper(AudioOutput):
    """An output in front of another, as the SDK's transcript synchroniser is in front of the room's."""

    def __init__(self, inner: AudioOutput) -> None:
        super().__init__(label="wrapper", capabilities=AudioOutputCapabilities(pause=False), next_in_chain=inner)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)

    def flush(self) -> None:
        super().flush()

    def clear_buffer(self) -> None:
        return


def silence(seconds: float, sample_rate: int = 24000) -> rtc.AudioFrame:
    """Return a silent frame."""
    samples = int(seconds * sample_rate)
    return rtc.AudioFrame(data=bytes(2 * samples), sample_rate=sample_rate, num_channels=1, samples_per_channel=samples)


async def close_as_the_job(session: AgentSession[None]) -> None:
    """Close a session as the SDK does when the job ends: outside the tasks of the call. Waits until it has closed."""
    await asyncio.create_task(session.aclose(), context=contextvars.Context())

"""Notices within 3 s that an avatar in the room is frozen, whatever the call does meanwhile.

The SDK waits for the avatar's report that it has played a segment, and an interruption replaces that report by a time
limit. So a frozen avatar looks like a slow one. Two observations do not depend on reports:

- The pulse: an RPC with a method that no avatar has. A living participant answers at once that it has no such method.
  One that is only slow sends audio packets, if only of silence; a frozen one sends nothing.
- The sound: while the agent's speech should be audible, the energy of the avatar's audio track must grow.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from livekit import rtc

from worker.call import budget

logger = logging.getLogger(__name__)

PULSE_METHOD: Final = "avatar-agent.pulse"
_ALIVE_CODES: Final = (rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, rtc.RpcError.ErrorCode.APPLICATION_ERROR)
"""Errors that the other participant sends itself. All others come from the own side or from the server."""
_USUAL_SHARE: Final = 0.3
"""Part of the time for an answer after which packets count instead. WebRTC sends silence in packets 0.4 s apart."""
_MISSED_PULSES: Final = 2
"""Pulses that an avatar may miss in a row: one can be lost with a pause of its event loop."""


@dataclass
class Pulse:
    """Decides by the answers to pulses. An avatar that has never answered one is not judged by them. Pure."""

    answers: bool = False
    missed: int = 0

    def note(self, answered: bool) -> bool:
        """Note one pulse; returns whether the avatar is frozen."""
        self.answers = self.answers or answered
        self.missed = 0 if answered else self.missed + 1
        return self.answers and self.missed >= _MISSED_PULSES


@dataclass
class Sound:
    """Decides by the energy of the avatar's audio. Pure.

    The time in which speech was due and nothing sounded is added up over interruptions. Else each would restart it.
    """

    limit_seconds: float
    energy: float = 0.0
    silent_seconds: float = 0.0

    def note(self, energy: float, seconds: float) -> bool:
        """Note the energy after `seconds` in which speech was due; returns whether the avatar is mute."""
        self.silent_seconds = 0.0 if energy > self.energy else self.silent_seconds + seconds
        self.energy = energy
        return self.silent_seconds >= self.limit_seconds


class AvatarWatch:
    """Watches an avatar that has joined, from `start` to `stop`, and calls `on_stalled` once when it is frozen."""

    def __init__(
        self,
        room: rtc.Room,
        identity: str,
        *,
        speech_is_due: Callable[[], bool],
        on_stalled: Callable[[str], None],
    ) -> None:
        """`speech_is_due` returns whether the avatar should be audible now. `on_stalled` receives the reason."""
        self._room = room
        self._identity = identity
        self._speech_is_due = speech_is_due
        self._on_stalled = on_stalled
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start to watch."""
        self._tasks = [
            asyncio.create_task(self._watch_pulse(), name="avatar_pulse"),
            asyncio.create_task(self._watch_sound(), name="avatar_sound"),
        ]

    def stop(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _watch_pulse(self) -> None:
        pulse = Pulse()
        while True:
            answered = await self._answers()
            if answered is None or not self._is_connected():  # the own connection says nothing about the avatar
                pulse.missed = 0
            elif pulse.note(answered):
                break
            if not pulse.missed:
                await asyncio.sleep(budget.AVATAR_PULSE_SECONDS)
        self._stalled("the avatar does not respond")

    def _is_connected(self) -> bool:
        return self._room.connection_state == rtc.ConnectionState.CONN_CONNECTED

    async def _answers(self) -> bool | None:
        """Return whether the avatar answers a pulse, or at least sends packets instead; None when it never got one."""
        pulse = asyncio.create_task(self._send_pulse(), name="pulse")
        try:
            await asyncio.wait({pulse}, timeout=budget.AVATAR_PULSE_ANSWER_SECONDS * _USUAL_SHARE)
            if pulse.done():
                return pulse.result()
            received = await self._packets()
            await asyncio.wait({pulse}, timeout=budget.AVATAR_PULSE_ANSWER_SECONDS * (1 - _USUAL_SHARE))
            return pulse.result() if pulse.done() else await self._packets() > received
        finally:
            pulse.cancel()

    async def _send_pulse(self) -> bool | None:
        try:
            await self._room.local_participant.perform_rpc(
                destination_identity=self._identity, method=PULSE_METHOD, payload=""
            )
        except rtc.RpcError as error:
            return True if error.code in _ALIVE_CODES else None
        return True

    async def _packets(self) -> int:
        return sum(item.inbound_rtp.received.packets_received for item in await self._stats())

    async def _watch_sound(self) -> None:
        self._subscribe()
        sound = Sound(budget.AVATAR_SILENT_SECONDS)
        while True:
            if self._speech_is_due() and sound.note(await self._energy(), budget.AVATAR_SOUND_SECONDS):
                break
            await asyncio.sleep(budget.AVATAR_SOUND_SECONDS)
        self._stalled("the avatar does not play the agent's audio")

    def _subscribe(self) -> None:
        for publication in self._audio():
            if not publication.subscribed:
                publication.set_subscribed(True)

    def _audio(self) -> list[rtc.RemoteTrackPublication]:
        participant = self._room.remote_participants.get(self._identity)
        publications = participant.track_publications.values() if participant is not None else ()
        return [found for found in publications if found.kind == rtc.TrackKind.KIND_AUDIO]

    async def _energy(self) -> float:
        """Return the energy of the avatar's audio so far. Without an audio track it is 0, as the caller hears none."""
        return sum(float(item.inbound_rtp.inbound.total_audio_energy) for item in await self._stats())

    async def _stats(self) -> list[Any]:
        self._subscribe()  # the avatar may have published its audio after its video
        tracks = [publication.track for publication in self._audio()]
        return [item for track in tracks if track is not None for item in await track.get_stats()]

    def _stalled(self, reason: str) -> None:
        self.stop()
        self._on_stalled(reason)

"""A client of LiveKit that changes nothing while its gateway may not act."""

from collections.abc import Callable, Sequence

from gateway.livekit.server import Dispatch, LiveKit, LiveKitError, Participant, Room


class Fenced(LiveKitError):
    """The gateway may not act: it was frozen or cut off, or another gateway owns the call."""


class FencedLiveKit:
    """`LiveKit` that asks before each change whether the gateway may act."""

    def __init__(self, livekit: LiveKit, may_act: Callable[[], bool]) -> None:
        self._livekit = livekit
        self._may_act = may_act

    async def create_room(self, name: str, metadata: str, agent_name: str, dispatch_metadata: str) -> None:
        await self._checked().create_room(name, metadata, agent_name, dispatch_metadata)

    async def rooms(self, names: Sequence[str] = ()) -> list[Room]:
        return await self._livekit.rooms(names)

    async def participants(self, room: str) -> list[Participant]:
        return await self._livekit.participants(room)

    async def dispatches(self, room: str) -> list[Dispatch]:
        return await self._livekit.dispatches(room)

    async def create_dispatch(self, room: str, agent_name: str, metadata: str) -> None:
        await self._checked().create_dispatch(room, agent_name, metadata)

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        await self._checked().delete_dispatch(room, dispatch_id)

    async def remove_participant(self, room: str, identity: str) -> None:
        await self._checked().remove_participant(room, identity)

    async def set_metadata(self, room: str, metadata: str) -> None:
        await self._checked().set_metadata(room, metadata)

    async def delete_room(self, room: str) -> None:
        await self._checked().delete_room(room)

    def _checked(self) -> LiveKit:
        if not self._may_act():
            raise Fenced("this gateway may not act now: it has no recent answer of the controller")
        return self._livekit

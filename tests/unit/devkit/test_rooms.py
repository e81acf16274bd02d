"""Connecting to a room: a cancelled call waits for the native library and leaves the room."""

import asyncio
from typing import cast

import pytest
from livekit import rtc

from devkit import rooms


class StubRoom:
    """Connects when told to; records whether its `connect` was cancelled and whether it was left."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None
        self.cancelled = self.left = False

    async def connect(self, url: str, token: str, options: rtc.RoomOptions) -> None:
        self.asked.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error:
            raise self.error

    async def disconnect(self) -> None:
        self.left = True


def connect(room: StubRoom, within_seconds: float = 5) -> "asyncio.Task[None]":
    return asyncio.create_task(rooms.connect(cast(rtc.Room, room), "ws://x", "token", within_seconds))


async def test_connected_room_stays_connected() -> None:
    room = StubRoom()
    room.answer.set()
    await connect(room)
    assert not room.left


@pytest.mark.parametrize(("error", "left"), [(None, True), (rtc.ConnectError("refused"), False)])
async def test_cancelled_call_waits_for_the_answer_and_leaves(error: Exception | None, left: bool) -> None:
    room = StubRoom()
    room.error = error
    task = connect(room)
    await room.asked.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done(), "it waits for the native library"
    room.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (room.left, room.cancelled) == (left, False)


async def test_wait_for_the_answer_has_a_bound() -> None:
    room = StubRoom()
    task = connect(room, within_seconds=0.01)
    await room.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (room.left, room.cancelled) == (False, False)
    room.answer.set()


async def test_error_is_raised() -> None:
    room = StubRoom()
    room.error = rtc.ConnectError("refused")
    room.answer.set()
    with pytest.raises(rtc.ConnectError, match="refused"):
        await connect(room)

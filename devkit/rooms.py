"""Joins LiveKit rooms."""

import asyncio

from livekit import rtc


async def connect(room: rtc.Room, url: str, token: str, within_seconds: float, *, auto_subscribe: bool = True) -> None:
    """Connect `room`; a cancelled call leaves the room before it returns. Raises `rtc.ConnectError`.

    A cancelled `rtc.Room.connect` would end the whole process 15 s later: the native library waits for a confirmation
    that Python no longer sends, reports a panic, and Python answers a panic with SIGTERM (livekit 1.1.21,
    rtc/_ffi_client.py).
    """
    options = rtc.RoomOptions(connect_timeout=within_seconds, auto_subscribe=auto_subscribe)
    connecting = asyncio.ensure_future(room.connect(url, token, options))
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        await asyncio.wait({connecting}, timeout=within_seconds)
        if connecting.done() and connecting.exception() is None:
            await room.disconnect()
        raise

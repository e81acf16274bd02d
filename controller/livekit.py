"""Tries LiveKit credentials with a cheap authenticated request, and remembers the answer for a while."""

import asyncio
import hashlib
import time

import aiohttp
from google.protobuf.message import DecodeError
from livekit import api
from livekit.protocol.room import ListRoomsRequest

from controller.observation import LiveKitAnswer, LiveKitVerdict

TIMEOUT_SECONDS = 5.0
GOOD_SECONDS = 60.0
"""How long accepted credentials are taken as good."""
BAD_SECONDS = 8.0
"""How long a failure is believed: shorter than the next look at an agent that is not ready."""

_NO_ROOM = "avatar-agent-credentials-check"
"""ListRooms is asked for one room that does not exist, so that the answer is small on a busy server."""


class LiveKitCheck:
    """Answers whether a server accepts a pair of keys."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._known: dict[str, tuple[float, LiveKitAnswer]] = {}

    async def check(self, url: str, key: str, secret: str) -> LiveKitAnswer:
        """The answer, at most a minute old. Never raises for what a server or a manifest may do."""
        now = time.monotonic()
        fingerprint = hashlib.sha256("\n".join((url, key, secret)).encode()).hexdigest()
        self._known = {name: known for name, known in self._known.items() if now < known[0]}
        known = self._known.get(fingerprint)
        if known is not None:
            return known[1]
        answer = await self._ask(url, key, secret)
        lasting = GOOD_SECONDS if answer.verdict is LiveKitVerdict.ACCEPTED else BAD_SECONDS
        self._known[fingerprint] = (time.monotonic() + lasting, answer)
        return answer

    async def _ask(self, url: str, key: str, secret: str) -> LiveKitAnswer:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                server = api.LiveKitAPI(url, key, secret, session=self._session, failover=False)
                await server.room.list_rooms(ListRoomsRequest(names=[_NO_ROOM]))
        except api.ServerError as error:
            if error.status in (401, 403):
                return LiveKitAnswer(LiveKitVerdict.REJECTED, error.message or f"HTTP {error.status}")
            return LiveKitAnswer(LiveKitVerdict.UNREACHABLE, f"HTTP {error.status} {error.message}".strip())
        except TimeoutError:
            return LiveKitAnswer(LiveKitVerdict.UNREACHABLE, f"no answer within {TIMEOUT_SECONDS:.0f} s")
        except DecodeError:
            return LiveKitAnswer(LiveKitVerdict.UNREACHABLE, "something answers there, but not as LiveKit does")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return LiveKitAnswer(LiveKitVerdict.UNREACHABLE, str(error) or type(error).__name__)
        return LiveKitAnswer(LiveKitVerdict.ACCEPTED)

"""Questions to servers outside, remembered: nothing that waits for the answers, scaling above all, waits for a server.

Only the first answer to a question is waited for. Later the last one is given at once; when it is old it is asked again
meanwhile, and whoever was given another answer than the new one is told to look again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from controller.observation import Key, ProviderAnswer, ProviderVerdict

GOOD_SECONDS = 60.0
"""How long accepted credentials are taken as good."""
BAD_SECONDS = 8.0
"""How long a failure is believed: shorter than the next look at an agent that is not ready."""
MEMORY_SECONDS = 900.0
"""How long an answer is kept that nobody asks for: longer than the next look at an agent that is ready."""
PACE_SECONDS = 0.05
"""Least time between two requests to one server, however many agents use it."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question to a server."""

    server: str
    fingerprint: str
    """Of everything that the answer depends on."""
    ask: Callable[[], Awaitable[ProviderAnswer]] = field(repr=False)
    """Bounded, and raises nothing that a server may cause."""


@dataclass(slots=True)
class _Known:
    answer: ProviderAnswer
    at: float
    asked_for: float
    told: set[Key] = field(default_factory=set)
    """Agents that were given it while it was asked again."""

    def old(self, now: float) -> bool:
        good = self.answer.verdict is ProviderVerdict.ACCEPTED
        return now - self.at >= (GOOD_SECONDS if good else BAD_SECONDS)


class Inquiries:
    """All questions asked lately. `changed` is called for each agent that was given an answer that is no longer so."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self._changed = changed
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[ProviderAnswer]] = {}
        self._turns: dict[str, float] = {}

    async def answer(self, key: Key, inquiry: Inquiry) -> ProviderAnswer:
        """The last answer, or the first."""
        now = asyncio.get_running_loop().time()
        known = self._known.get(inquiry.fingerprint)
        if known is None or known.old(now):
            self._start(inquiry)
        if known is None:
            # One who stops waiting does not stop the others.
            return await asyncio.shield(self._asking[inquiry.fingerprint])
        known.asked_for = now
        if inquiry.fingerprint in self._asking:
            known.told.add(key)
        return known.answer

    def _start(self, inquiry: Inquiry) -> None:
        """Ask, unless it is being asked already."""
        if inquiry.fingerprint not in self._asking:
            self._asking[inquiry.fingerprint] = asyncio.create_task(self._ask(inquiry))

    async def _ask(self, inquiry: Inquiry) -> ProviderAnswer:
        name = inquiry.fingerprint
        try:
            await self._turn(inquiry.server)
            answer = await inquiry.ask()
        finally:
            del self._asking[name]
        now = asyncio.get_running_loop().time()
        before = self._known.get(name)
        self._known[name] = _Known(answer, now, now)
        self._known = {other: known for other, known in self._known.items() if now - known.asked_for < MEMORY_SECONDS}
        if before is not None and before.answer != answer:
            for key in before.told:
                self._changed(key)
        return answer

    async def _turn(self, server: str) -> None:
        """Wait until the server may be asked again: as long as those take who came before."""
        now = asyncio.get_running_loop().time()
        self._turns = {other: free for other, free in self._turns.items() if now < free}
        turn = self._turns.get(server, now)
        self._turns[server] = turn + PACE_SECONDS
        await asyncio.sleep(turn - now)

"""Questions to servers outside, remembered: nothing that waits for the answers, scaling above all, waits for a server.

The first answer to a question is waited for, shortly. Later the last one is given at once; when it is old it is asked
again meanwhile. Whoever was given another answer than the newest, or none, is told to look again.
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
FIRST_ANSWER_SECONDS = 0.5
"""How long a first answer is waited for: servers that are well answer sooner. A tenth of what a try may take, as many
agents with servers that are not well must not keep all others waiting."""
PACE_SECONDS = 0.05
"""Least time between two requests to one server, however many agents use it."""

_AWAITED = ProviderAnswer(ProviderVerdict.PENDING)


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to a server."""

    server: str
    fingerprint: str
    """Of everything that the answer depends on."""
    ask: Callable[[], Awaitable[ProviderAnswer]] = field(repr=False)
    """Bounded, and raises nothing that a server may cause."""


@dataclass(slots=True)
class _Question:
    """What is known of the answer."""

    answer: ProviderAnswer = _AWAITED
    """The last one."""
    at: float = 0.0
    """When it came."""
    asked_for: float = 0.0
    given: set[Key] = field(default_factory=set)
    """Agents that were given it."""
    asking: asyncio.Task[None] | None = None
    """It is being asked, since `begun`."""
    begun: float = 0.0

    @property
    def known(self) -> bool:
        return self.answer.verdict is not ProviderVerdict.PENDING

    def old(self, now: float) -> bool:
        good = self.answer.verdict is ProviderVerdict.ACCEPTED
        return not self.known or now - self.at >= (GOOD_SECONDS if good else BAD_SECONDS)


class ProbeCache:
    """All questions asked lately. `changed` is called for each agent that was given an answer that is no longer so."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self._changed = changed
        self._questions: dict[str, _Question] = {}
        self._turns: dict[str, float] = {}

    async def answer(self, key: Key, inquiry: Probe) -> ProviderAnswer:
        """The last answer, or the first; it is awaited still when that does not come soon."""
        now = asyncio.get_running_loop().time()
        question = self._questions.setdefault(inquiry.fingerprint, _Question())
        question.asked_for = now
        if question.asking is None and question.old(now):
            question.asking, question.begun = asyncio.create_task(self._ask(inquiry, question)), now
        if question.asking is not None and not question.known:
            # One who stops waiting does not stop the others, nor do those who come later wait anew.
            patience = max(0.0, question.begun + FIRST_ANSWER_SECONDS - now)
            await asyncio.wait([question.asking], timeout=patience)
        question.given.add(key)
        return question.answer

    def forget(self, key: Key) -> None:
        """The agent is gone: nothing is told to it."""
        for question in self._questions.values():
            question.given.discard(key)

    async def _ask(self, inquiry: Probe, question: _Question) -> None:
        try:
            await self._turn(inquiry.server)
            answer = await inquiry.ask()
        finally:
            question.asking = None
        now = asyncio.get_running_loop().time()
        before, question.answer, question.at = question.answer, answer, now
        self._questions = {name: one for name, one in self._questions.items() if _remembered(one, now)}
        if answer != before:
            outdated, question.given = question.given, set()
            for key in outdated:
                self._changed(key)

    async def _turn(self, server: str) -> None:
        """Wait until the server may be asked again: as long as those take who came before."""
        now = asyncio.get_running_loop().time()
        self._turns = {other: free for other, free in self._turns.items() if now < free}
        turn = self._turns.get(server, now)
        self._turns[server] = turn + PACE_SECONDS
        await asyncio.sleep(turn - now)


def _remembered(question: _Question, now: float) -> bool:
    return question.asking is not None or now - question.asked_for < MEMORY_SECONDS

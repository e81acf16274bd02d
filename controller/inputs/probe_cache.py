"""Caches and rate-limits provider probes, so that reconciles, and scaling above all, do not wait for outside servers.

Only the first result of a probe is awaited, and only for a moment. Later calls return the cached result at once; a
stale result is refreshed in the background. When a result changes, the agents that received an older one are
reconciled again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from controller.observation import Key, ProviderAnswer, ProviderVerdict

ACCEPTED_TTL_SECONDS = 60.0
"""How long accepted credentials stay fresh."""
FAILED_TTL_SECONDS = 8.0
"""How long any other result stays fresh: less than the requeue interval of an agent that is not ready."""
UNUSED_TTL_SECONDS = 900.0
"""How long an unused result stays cached: longer than the requeue interval of a ready agent."""
FIRST_RESULT_TIMEOUT_SECONDS = 0.5
"""How long a caller waits for a first result; healthy servers answer sooner. A tenth of a probe's own timeout, because
many agents with slow servers must not delay all others."""
MIN_INTERVAL_SECONDS = 0.05
"""Minimum time between two requests to one server, however many agents use it."""

_PENDING = ProviderAnswer(ProviderVerdict.PENDING)


@dataclass(frozen=True, slots=True)
class Probe:
    """An authenticated request that checks credentials."""

    server: str
    fingerprint: str
    """Identifies the probe: a hash of everything that its result depends on."""
    send: Callable[[], Awaitable[ProviderAnswer]] = field(repr=False)
    """Sends the request. Has a timeout of its own, and raises no error that a server can cause."""


@dataclass(slots=True)
class _Entry:
    """The cached result of one probe."""

    answer: ProviderAnswer = _PENDING
    received_at: float = 0.0
    used_at: float = 0.0
    receivers: set[Key] = field(default_factory=set)
    """Agents that received the cached answer."""
    request: asyncio.Task[None] | None = None
    """The probe in flight, since `started_at`."""
    started_at: float = 0.0

    @property
    def is_pending(self) -> bool:
        return self.answer.verdict is ProviderVerdict.PENDING

    def is_stale(self, now: float) -> bool:
        accepted = self.answer.verdict is ProviderVerdict.ACCEPTED
        return self.is_pending or now - self.received_at >= (ACCEPTED_TTL_SECONDS if accepted else FAILED_TTL_SECONDS)


class ProbeCache:
    """The results of recent probes. Calls `on_change` for each agent whose last received result is outdated."""

    def __init__(self, on_change: Callable[[Key], None]) -> None:
        self._on_change = on_change
        self._entries: dict[str, _Entry] = {}
        self._free_at: dict[str, float] = {}
        """When the next request to each server may start."""

    async def answer(self, key: Key, probe: Probe) -> ProviderAnswer:
        """The cached result. Waits shortly for a first one, and returns `PENDING` if it does not arrive in time."""
        now = asyncio.get_running_loop().time()
        entry = self._entries.setdefault(probe.fingerprint, _Entry())
        entry.used_at = now
        if entry.request is None and entry.is_stale(now):
            entry.request, entry.started_at = asyncio.create_task(self._send(probe, entry)), now
        if entry.request is not None and entry.is_pending:
            # asyncio.wait does not cancel the request. The timeout counts from its start, for later callers too.
            timeout = max(0.0, entry.started_at + FIRST_RESULT_TIMEOUT_SECONDS - now)
            await asyncio.wait([entry.request], timeout=timeout)
        entry.receivers.add(key)
        return entry.answer

    def forget(self, key: Key) -> None:
        """Stop calling `on_change` for an agent that no longer exists."""
        for entry in self._entries.values():
            entry.receivers.discard(key)

    async def _send(self, probe: Probe, entry: _Entry) -> None:
        try:
            await self._wait_turn(probe.server)
            answer = await probe.send()
        finally:
            entry.request = None
        now = asyncio.get_running_loop().time()
        before, entry.answer, entry.received_at = entry.answer, answer, now
        self._entries = {name: one for name, one in self._entries.items() if _is_used(one, now)}
        if answer != before:
            outdated, entry.receivers = entry.receivers, set()
            for key in outdated:
                self._on_change(key)

    async def _wait_turn(self, server: str) -> None:
        """Wait until the rate limit of the server allows the next request."""
        now = asyncio.get_running_loop().time()
        self._free_at = {other: free_at for other, free_at in self._free_at.items() if now < free_at}
        turn = self._free_at.get(server, now)
        self._free_at[server] = turn + MIN_INTERVAL_SECONDS
        await asyncio.sleep(turn - now)


def _is_used(entry: _Entry, now: float) -> bool:
    return entry.request is not None or now - entry.used_at < UNUSED_TTL_SECONDS

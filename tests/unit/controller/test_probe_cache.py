"""The probe cache: it waits only for first results, shares and rate-limits probes, and reports changed results."""

import asyncio
from dataclasses import dataclass, field

import pytest

from controller.inputs.probe_cache import (
    ACCEPTED_TTL_SECONDS,
    FAILED_TTL_SECONDS,
    FIRST_RESULT_TIMEOUT_SECONDS,
    MIN_INTERVAL_SECONDS,
    UNUSED_TTL_SECONDS,
    Probe,
    ProbeCache,
)
from controller.observation import Key, ProviderAnswer, ProviderVerdict
from controller.runtime.workqueue import WorkQueue
from tests.unit.controller.builders import KEY, OTHER
from tests.unit.fakes.virtualtime import now

pytestmark = pytest.mark.usefixtures("virtual_time")

GOOD = ProviderAnswer(ProviderVerdict.ACCEPTED)
BAD = ProviderAnswer(ProviderVerdict.REJECTED, "HTTP 401")
PENDING = ProviderAnswer(ProviderVerdict.PENDING)
SOON_SECONDS = 0.25


@dataclass
class Server:
    """A server that answers after a delay and records the requests."""

    answer: ProviderAnswer = GOOD
    seconds: float = SOON_SECONDS
    requests: list[float] = field(default_factory=list)

    async def send(self) -> ProviderAnswer:
        self.requests.append(now())
        await asyncio.sleep(self.seconds)
        return self.answer


async def test_only_the_first_result_is_awaited() -> None:
    server, probe_cache = Server(), ProbeCache(list[Key]().append)
    probe = Probe("server", "fingerprint", server.send)
    assert await probe_cache.answer(KEY, probe) == GOOD
    assert now() == SOON_SECONDS
    assert await probe_cache.answer(KEY, probe) == GOOD
    await asyncio.sleep(ACCEPTED_TTL_SECONDS)
    before = now()
    assert await probe_cache.answer(KEY, probe) == GOOD
    assert now() == before
    await asyncio.sleep(SOON_SECONDS + 1)
    assert len(server.requests) == 2, "refreshed in the background"


async def test_concurrent_callers_share_one_request() -> None:
    server, probe_cache = Server(), ProbeCache(list[Key]().append)
    probe = Probe("server", "fingerprint", server.send)
    impatient = asyncio.create_task(probe_cache.answer(OTHER, probe))
    waiting = [asyncio.create_task(probe_cache.answer(Key("shop", f"{n}"), probe)) for n in range(1000)]
    await asyncio.sleep(1)
    impatient.cancel()
    assert await asyncio.gather(*waiting) == [GOOD] * 1000
    assert len(server.requests) == 1


async def test_late_first_result_reconciles_the_agents_that_got_pending() -> None:
    changed: list[Key] = []
    server, probe_cache = Server(seconds=4.0), ProbeCache(changed.append)
    probe = Probe("server", "fingerprint", server.send)
    assert await probe_cache.answer(KEY, probe) == PENDING
    assert now() == FIRST_RESULT_TIMEOUT_SECONDS
    assert await probe_cache.answer(KEY, probe) == PENDING
    assert await probe_cache.answer(OTHER, probe) == PENDING
    assert now() == FIRST_RESULT_TIMEOUT_SECONDS, "later callers do not wait again"
    await asyncio.sleep(server.seconds)
    assert sorted(changed) == [KEY, OTHER]
    assert await probe_cache.answer(KEY, probe) == GOOD
    assert len(server.requests) == 1


async def test_unreachable_servers_do_not_delay_other_agents() -> None:
    reconciled_at: dict[Key, float] = {}
    server = Server(seconds=5.0)
    probe_cache = ProbeCache(list[Key]().append)

    async def handle(key: Key) -> None:
        if key != KEY:
            await probe_cache.answer(key, Probe(key.name, key.name, server.send))
        reconciled_at[key] = now()

    queue = WorkQueue(handle, 16)
    working = asyncio.create_task(queue.run())
    for number in range(48):
        queue.add(Key("shop", f"dark-{number}"))
    await asyncio.sleep(0.1)
    queue.add(KEY)
    await asyncio.sleep(10)
    working.cancel()
    await asyncio.wait([working])
    assert reconciled_at[KEY] <= 3 * FIRST_RESULT_TIMEOUT_SECONDS


async def test_unchanged_result_causes_no_reconcile() -> None:
    changed: list[Key] = []
    server, probe_cache = Server(), ProbeCache(changed.append)
    for _ in range(600):
        assert await probe_cache.answer(KEY, Probe("server", "fingerprint", server.send)) == GOOD
        await asyncio.sleep(1)
    assert changed == []


async def test_changed_result_reconciles_every_agent_with_the_old_one() -> None:
    changed: list[Key] = []
    server, probe_cache = Server(), ProbeCache(changed.append)
    probe, gone = Probe("server", "fingerprint", server.send), Key("shop", "gone")
    for key in (KEY, OTHER, gone):
        await probe_cache.answer(key, probe)
    probe_cache.forget(gone)
    server.answer = BAD
    await asyncio.sleep(ACCEPTED_TTL_SECONDS)
    assert await probe_cache.answer(KEY, probe) == GOOD
    await asyncio.sleep(SOON_SECONDS + 1)
    assert sorted(changed) == [KEY, OTHER], "also the agent that did not ask again; not the deleted one"
    assert await probe_cache.answer(KEY, probe) == BAD
    server.answer = GOOD
    await asyncio.sleep(FAILED_TTL_SECONDS)
    assert await probe_cache.answer(KEY, probe) == BAD
    await asyncio.sleep(SOON_SECONDS + 1)
    assert sorted(changed) == [KEY, KEY, OTHER], "only the agent that received the failure"
    assert await probe_cache.answer(KEY, probe) == GOOD


@pytest.mark.parametrize(
    ("answer", "ttl"),
    [
        pytest.param(GOOD, ACCEPTED_TTL_SECONDS, id="accepted"),
        pytest.param(BAD, FAILED_TTL_SECONDS, id="failed"),
    ],
)
async def test_result_is_refreshed_after_its_time_to_live(answer: ProviderAnswer, ttl: float) -> None:
    server, probe_cache = Server(answer), ProbeCache(list[Key]().append)
    probe = Probe("server", "fingerprint", server.send)
    await probe_cache.answer(KEY, probe)
    for _ in range(int(600 / SOON_SECONDS)):
        await probe_cache.answer(KEY, probe)
        await asyncio.sleep(SOON_SECONDS)
    assert len(server.requests) == 1 + 600 // (ttl + SOON_SECONDS)


async def test_requests_to_one_server_are_rate_limited_independently() -> None:
    server, other, probe_cache = Server(), Server(), ProbeCache(list[Key]().append)
    probes = [Probe("server", f"key-{n}", server.send) for n in range(100)]
    probes.append(Probe("another", "key", other.send))
    await asyncio.gather(*(probe_cache.answer(KEY, probe) for probe in probes))
    await asyncio.sleep(100 * MIN_INTERVAL_SECONDS + SOON_SECONDS)
    assert len(server.requests) == 100
    rests = [later - earlier for earlier, later in zip(server.requests, server.requests[1:], strict=False)]
    assert min(rests) >= MIN_INTERVAL_SECONDS - 1e-9
    assert other.requests == [0.0]


async def test_unused_result_is_dropped() -> None:
    server, probe_cache = Server(), ProbeCache(list[Key]().append)
    await probe_cache.answer(KEY, Probe("server", "of an old key", server.send))
    await asyncio.sleep(UNUSED_TTL_SECONDS)
    await probe_cache.answer(KEY, Probe("server", "of a new key", server.send))
    before = now()
    await probe_cache.answer(KEY, Probe("server", "of an old key", server.send))
    assert now() > before, "probed again"

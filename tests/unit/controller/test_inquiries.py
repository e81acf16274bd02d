"""Answers from outside: the first is waited for shortly, later ones are not, and nobody keeps an outdated one."""

import asyncio
from dataclasses import dataclass, field

from controller.inputs.probe_cache import (
    BAD_SECONDS,
    FIRST_ANSWER_SECONDS,
    GOOD_SECONDS,
    MEMORY_SECONDS,
    PACE_SECONDS,
    Probe,
    ProbeCache,
)
from controller.observation import Key, ProviderAnswer, ProviderVerdict
from controller.runtime.workqueue import WorkQueue
from tests.unit.fakes.virtualtime import run

KEY, OTHER = Key("shop", "ava"), Key("shop", "eve")
GOOD = ProviderAnswer(ProviderVerdict.ACCEPTED)
BAD = ProviderAnswer(ProviderVerdict.REJECTED, "HTTP 401")
AWAITED = ProviderAnswer(ProviderVerdict.PENDING)
SOON_SECONDS = 0.25


@dataclass
class Server:
    """Answers after a while, and notes when it was asked."""

    answer: ProviderAnswer = GOOD
    seconds: float = SOON_SECONDS
    asked: list[float] = field(default_factory=list)

    async def ask(self) -> ProviderAnswer:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        return self.answer


def now() -> float:
    return asyncio.get_running_loop().time()


def test_only_the_first_answer_is_waited_for() -> None:
    async def test() -> None:
        server, probe_cache = Server(), ProbeCache(list[Key]().append)
        inquiry = Probe("server", "fingerprint", server.ask)
        assert await probe_cache.answer(KEY, inquiry) == GOOD
        assert now() == SOON_SECONDS
        assert await probe_cache.answer(KEY, inquiry) == GOOD
        await asyncio.sleep(GOOD_SECONDS)
        before = now()
        assert await probe_cache.answer(KEY, inquiry) == GOOD
        assert now() == before
        await asyncio.sleep(SOON_SECONDS + 1)
        assert len(server.asked) == 2, "asked again meanwhile"

    run(test())


def test_all_who_ask_at_once_share_a_request() -> None:
    async def test() -> None:
        server, probe_cache = Server(), ProbeCache(list[Key]().append)
        inquiry = Probe("server", "fingerprint", server.ask)
        impatient = asyncio.create_task(probe_cache.answer(OTHER, inquiry))
        waiting = [asyncio.create_task(probe_cache.answer(Key("shop", f"{n}"), inquiry)) for n in range(1000)]
        await asyncio.sleep(1)
        impatient.cancel()
        assert await asyncio.gather(*waiting) == [GOOD] * 1000
        assert len(server.asked) == 1

    run(test())


def test_a_first_answer_that_is_long_in_coming_is_told_when_it_has_come() -> None:
    async def test() -> None:
        changed: list[Key] = []
        server, probe_cache = Server(seconds=4.0), ProbeCache(changed.append)
        inquiry = Probe("server", "fingerprint", server.ask)
        assert await probe_cache.answer(KEY, inquiry) == AWAITED
        assert now() == FIRST_ANSWER_SECONDS
        assert await probe_cache.answer(KEY, inquiry) == AWAITED
        assert await probe_cache.answer(OTHER, inquiry) == AWAITED
        assert now() == FIRST_ANSWER_SECONDS, "nobody waits for it again"
        await asyncio.sleep(server.seconds)
        assert sorted(changed) == [KEY, OTHER]
        assert await probe_cache.answer(KEY, inquiry) == GOOD
        assert len(server.asked) == 1

    run(test())


def test_servers_that_do_not_answer_keep_nobody_elses_agents_waiting() -> None:
    async def test() -> None:
        looked_at: dict[Key, float] = {}
        server = Server(seconds=5.0)
        probe_cache = ProbeCache(list[Key]().append)

        async def handle(key: Key) -> None:
            if key != KEY:
                await probe_cache.answer(key, Probe(key.name, key.name, server.ask))
            looked_at[key] = now()

        queue = WorkQueue(handle, 16)
        working = asyncio.create_task(queue.run())
        for number in range(48):
            queue.add(Key("shop", f"dark-{number}"))
        await asyncio.sleep(0.1)
        queue.add(KEY)
        await asyncio.sleep(10)
        working.cancel()
        await asyncio.wait([working])
        assert looked_at[KEY] <= 3 * FIRST_ANSWER_SECONDS

    run(test())


def test_an_answer_that_comes_in_time_is_told_to_nobody() -> None:
    async def test() -> None:
        changed: list[Key] = []
        server, probe_cache = Server(), ProbeCache(changed.append)
        for _ in range(600):
            assert await probe_cache.answer(KEY, Probe("server", "fingerprint", server.ask)) == GOOD
            await asyncio.sleep(1)
        assert changed == []

    run(test())


def test_all_who_were_given_an_outdated_answer_are_told_and_none_that_is_gone() -> None:
    async def test() -> None:
        changed: list[Key] = []
        server, probe_cache = Server(), ProbeCache(changed.append)
        inquiry, gone = Probe("server", "fingerprint", server.ask), Key("shop", "gone")
        for key in (KEY, OTHER, gone):
            await probe_cache.answer(key, inquiry)
        probe_cache.forget(gone)
        server.answer = BAD
        await asyncio.sleep(GOOD_SECONDS)
        assert await probe_cache.answer(KEY, inquiry) == GOOD
        await asyncio.sleep(SOON_SECONDS + 1)
        assert sorted(changed) == [KEY, OTHER], "the other one as well, although it did not ask since"
        assert await probe_cache.answer(KEY, inquiry) == BAD
        server.answer = GOOD
        await asyncio.sleep(BAD_SECONDS)
        assert await probe_cache.answer(KEY, inquiry) == BAD
        await asyncio.sleep(SOON_SECONDS + 1)
        assert sorted(changed) == [KEY, KEY, OTHER], "who never asked for the bad one does not wait for its end"
        assert await probe_cache.answer(KEY, inquiry) == GOOD

    run(test())


def test_a_failure_is_asked_again_sooner_than_a_success() -> None:
    async def test(answer: ProviderAnswer, rest: float) -> None:
        server, probe_cache = Server(answer), ProbeCache(list[Key]().append)
        inquiry = Probe("server", "fingerprint", server.ask)
        await probe_cache.answer(KEY, inquiry)
        for _ in range(int(600 / SOON_SECONDS)):
            await probe_cache.answer(KEY, inquiry)
            await asyncio.sleep(SOON_SECONDS)
        assert len(server.asked) == 1 + 600 // (rest + SOON_SECONDS)

    run(test(GOOD, GOOD_SECONDS))
    run(test(BAD, BAD_SECONDS))


def test_one_server_is_asked_at_a_pace_and_another_is_not_kept_waiting() -> None:
    async def test() -> None:
        server, other, probe_cache = Server(), Server(), ProbeCache(list[Key]().append)
        questions = [Probe("server", f"key-{n}", server.ask) for n in range(100)]
        questions.append(Probe("another", "key", other.ask))
        await asyncio.gather(*(probe_cache.answer(KEY, question) for question in questions))
        await asyncio.sleep(100 * PACE_SECONDS + SOON_SECONDS)
        assert len(server.asked) == 100
        rests = [later - earlier for earlier, later in zip(server.asked, server.asked[1:], strict=False)]
        assert min(rests) >= PACE_SECONDS - 1e-9
        assert other.asked == [0.0]

    run(test())


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    async def test() -> None:
        server, probe_cache = Server(), ProbeCache(list[Key]().append)
        await probe_cache.answer(KEY, Probe("server", "of an old key", server.ask))
        await asyncio.sleep(MEMORY_SECONDS)
        await probe_cache.answer(KEY, Probe("server", "of a new key", server.ask))
        before = now()
        await probe_cache.answer(KEY, Probe("server", "of an old key", server.ask))
        assert now() > before, "asked anew"

    run(test())

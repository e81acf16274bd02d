"""Answers from outside: the first is waited for, later ones are not, and nobody keeps an outdated one."""

import asyncio
from dataclasses import dataclass, field

from controller.inquiries import BAD_SECONDS, GOOD_SECONDS, MEMORY_SECONDS, PACE_SECONDS, Inquiries, Inquiry
from controller.observation import Key, ProviderAnswer, ProviderVerdict
from tests.unit.controller.virtualtime import run

KEY, OTHER = Key("shop", "ava"), Key("shop", "eve")
GOOD = ProviderAnswer(ProviderVerdict.ACCEPTED)
BAD = ProviderAnswer(ProviderVerdict.REJECTED, "HTTP 401")
SLOW_SECONDS = 3.0


@dataclass
class Server:
    """Answers slowly, and notes when it was asked."""

    answer: ProviderAnswer = GOOD
    asked: list[float] = field(default_factory=list)

    async def ask(self) -> ProviderAnswer:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(SLOW_SECONDS)
        return self.answer


def now() -> float:
    return asyncio.get_running_loop().time()


def test_only_the_first_answer_is_waited_for() -> None:
    async def test() -> None:
        server, inquiries = Server(), Inquiries(list[Key]().append)
        inquiry = Inquiry("server", "fingerprint", server.ask)
        assert await inquiries.answer(KEY, inquiry) == GOOD
        assert now() == SLOW_SECONDS
        assert await inquiries.answer(KEY, inquiry) == GOOD
        await asyncio.sleep(GOOD_SECONDS)
        before = now()
        assert await inquiries.answer(KEY, inquiry) == GOOD
        assert now() == before
        await asyncio.sleep(SLOW_SECONDS + 1)
        assert len(server.asked) == 2, "asked again meanwhile"

    run(test())


def test_all_who_ask_at_once_share_a_request() -> None:
    async def test() -> None:
        server, inquiries = Server(), Inquiries(list[Key]().append)
        inquiry = Inquiry("server", "fingerprint", server.ask)
        impatient = asyncio.create_task(inquiries.answer(OTHER, inquiry))
        waiting = [asyncio.create_task(inquiries.answer(Key("shop", f"{n}"), inquiry)) for n in range(1000)]
        await asyncio.sleep(1)
        impatient.cancel()
        assert await asyncio.gather(*waiting) == [GOOD] * 1000
        assert len(server.asked) == 1

    run(test())


def test_those_who_were_given_an_outdated_answer_are_told() -> None:
    async def test() -> None:
        changed: list[Key] = []
        server, inquiries = Server(), Inquiries(changed.append)
        inquiry = Inquiry("server", "fingerprint", server.ask)
        await inquiries.answer(KEY, inquiry)
        await inquiries.answer(OTHER, inquiry)
        server.answer = BAD
        await asyncio.sleep(GOOD_SECONDS)
        assert await inquiries.answer(KEY, inquiry) == GOOD
        await asyncio.sleep(SLOW_SECONDS + 1)
        assert changed == [KEY], "the other one did not ask since"
        assert await inquiries.answer(KEY, inquiry) == BAD
        server.answer = GOOD
        await asyncio.sleep(BAD_SECONDS)
        assert await inquiries.answer(KEY, inquiry) == BAD
        await asyncio.sleep(SLOW_SECONDS + 1)
        assert changed == [KEY, KEY]
        assert await inquiries.answer(KEY, inquiry) == GOOD

    run(test())


def test_a_failure_is_asked_again_sooner_than_a_success() -> None:
    async def test(answer: ProviderAnswer, rest: float) -> None:
        server, inquiries = Server(answer), Inquiries(list[Key]().append)
        inquiry = Inquiry("server", "fingerprint", server.ask)
        await inquiries.answer(KEY, inquiry)
        for _ in range(600):
            await inquiries.answer(KEY, inquiry)
            await asyncio.sleep(1)
        assert len(server.asked) == 1 + 600 // (rest + SLOW_SECONDS)

    run(test(GOOD, GOOD_SECONDS))
    run(test(BAD, BAD_SECONDS))


def test_one_server_is_asked_at_a_pace_and_another_is_not_kept_waiting() -> None:
    async def test() -> None:
        server, other, inquiries = Server(), Server(), Inquiries(list[Key]().append)
        questions = [Inquiry("server", f"key-{n}", server.ask) for n in range(100)]
        questions.append(Inquiry("another", "key", other.ask))
        await asyncio.gather(*(inquiries.answer(KEY, question) for question in questions))
        rests = [later - earlier for earlier, later in zip(server.asked, server.asked[1:], strict=False)]
        assert min(rests) >= PACE_SECONDS - 1e-9
        assert other.asked == [0.0]

    run(test())


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    async def test() -> None:
        server, inquiries = Server(), Inquiries(list[Key]().append)
        await inquiries.answer(KEY, Inquiry("server", "of an old key", server.ask))
        await asyncio.sleep(MEMORY_SECONDS)
        await inquiries.answer(KEY, Inquiry("server", "of a new key", server.ask))
        before = now()
        await inquiries.answer(KEY, Inquiry("server", "of an old key", server.ask))
        assert now() > before, "asked anew"

    run(test())

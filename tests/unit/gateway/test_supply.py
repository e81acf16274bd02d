"""The exchange with the controller."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import pytest

from agentspec import AgentSupply, Demand, Supply
from gateway import supply
from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from gateway.supply import SETTLE_SECONDS, STALE_SECONDS, ReceivedSupply, SupplyExchange, recent, settled_free_slots
from tests.unit.gateway.scenes import WAITING
from tests.waiting import soon

KEY = WAITING.agent.key


def answer(at: float, free: int) -> ReceivedSupply:
    return ReceivedSupply(at, Supply(agents={KEY: AgentSupply(free_slots=free, slots=4)}))


@pytest.mark.parametrize(
    ("answers", "free", "why"),
    [
        ([], None, "nothing was said"),
        ([answer(10 - STALE_SECONDS - 0.1, 3)], None, "it was long ago"),
        ([answer(9.9, 3)], 3, "the first answer counts at once"),
        ([answer(9.0, 3), answer(9.9, 1)], 1, "fewer count at once"),
        ([answer(9.0, 0), answer(9.9, 1)], 0, "more have to settle"),
        ([answer(9.3, 1), answer(9.9, 1)], 1, "they have"),
        ([answer(9.3, 1), answer(9.7, 0), answer(9.9, 1)], 0, "they were not there all the time"),
        ([answer(8.0, 0), answer(9.3, 2), answer(9.9, 2)], 2, "what was before does not matter"),
    ],
)
def test_free_slots_are_those_that_have_settled(answers: list[ReceivedSupply], free: int | None, why: str) -> None:
    assert settled_free_slots(answers, KEY, 10.0) == free, why


def test_an_agent_the_controller_does_not_name_has_no_slots() -> None:
    assert settled_free_slots([answer(9.9, 3)], "agents/other", 10.0) == 0


def test_old_answers_are_dropped() -> None:
    kept = recent([answer(1, 0), answer(2, 0), answer(9.9, 0)], 10.0)
    assert [found.received_at for found in kept] == [2, 9.9]
    assert SETTLE_SECONDS > 10.0 - 9.9


class FakeAnswer:
    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self._text = text

    async def text(self) -> str:
        return self._text

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class FakeSession:
    """A controller; `next` is its status and body, or what goes wrong on the way to it."""

    def __init__(self) -> None:
        self.next: tuple[int, str] | Exception = (200, '{"agents": {}}')
        self.requests: list[dict[str, Any]] = []

    def post(self, url: str, **options: Any) -> FakeAnswer:
        self.requests.append({"url": url, **options})
        if isinstance(self.next, Exception):
            raise self.next
        return FakeAnswer(*self.next)


class Exchange:
    """An exchange that runs, and what it runs against."""

    def __init__(self, token_file: Path | None = None) -> None:
        self.session = FakeSession()
        self.ledger = Ledger()
        self.metrics = Metrics()
        self.answered = asyncio.Event()
        settings = GatewaySettings(
            controller_url="http://controller", controller_token_file=token_file, gateway_name="g1"
        )
        session: Any = self.session
        self.supply = SupplyExchange(settings, session, self.ledger, self.metrics)

    async def once(self) -> None:
        """One exchange, successful or not."""
        before = len(self.session.requests)
        running = asyncio.create_task(self.supply.run(self.answered.set))
        await soon(lambda: len(self.session.requests) > before)
        await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    @property
    def reachable(self) -> float | None:
        return self.metrics.registry.get_sample_value("avatar_agent_gateway_controller_reachable")


async def test_pending_calls_are_told_and_free_slots_learnt(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    exchange = Exchange(token)
    exchange.ledger.put(WAITING)
    exchange.session.next = (
        200,
        Supply(agents={KEY: AgentSupply(free_slots=2, slots=4)}).model_dump_json(),
    )
    await exchange.once()
    (request,) = exchange.session.requests
    assert request["url"] == "http://controller/v1/demand"
    assert Demand.model_validate_json(request["data"]) == Demand(gateway="g1", pending={KEY: 1})
    assert request["headers"]["Authorization"] == "Bearer first"
    assert exchange.answered.is_set()
    assert exchange.supply.free_slots(KEY) == 2
    assert exchange.reachable == 1
    token.write_text("renewed\n")
    await exchange.once()
    assert exchange.session.requests[-1]["headers"]["Authorization"] == "Bearer renewed"


async def test_free_avatar_seats_are_the_last_answers() -> None:
    exchange = Exchange()
    assert exchange.supply.free_seats(KEY) is None, "nothing is known"
    for seats in (2, 0, None):
        count = AgentSupply(free_slots=1, slots=4, free_avatars=seats)
        exchange.session.next = (200, Supply(agents={KEY: count}).model_dump_json())
        await exchange.once()
        assert exchange.supply.free_seats(KEY) == seats
    assert exchange.supply.free_seats("agents/other") is None
    exchange.supply._supplies = [
        replace(exchange.supply._supplies[-1], received_at=time.monotonic() - STALE_SECONDS - 1)
    ]
    assert exchange.supply.free_seats(KEY) is None, "too old"


@pytest.mark.parametrize(
    "trouble",
    [
        (503, "starting"),
        (401, "no"),
        (200, "not json"),
        (200, '{"agents": {"a/b": {"freeSlots": -1, "slots": 0}}}'),
        aiohttp.ClientConnectionError("refused"),
        TimeoutError(),
    ],
)
async def test_without_an_answer_nothing_is_known(trouble: tuple[int, str] | Exception) -> None:
    exchange = Exchange()
    exchange.session.next = trouble
    await exchange.once()
    assert exchange.supply.free_slots(KEY) is None
    assert not exchange.answered.is_set()
    assert exchange.reachable == 0


async def test_a_missing_token_file_is_no_end(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path / "token")
    running = asyncio.create_task(exchange.supply.run(exchange.answered.set))
    await asyncio.sleep(0.05)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_change_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "EXCHANGE_SECONDS", 60.0)
    exchange = Exchange()
    running = asyncio.create_task(exchange.supply.run(exchange.answered.set))
    await asyncio.wait_for(exchange.answered.wait(), 5)
    exchange.answered.clear()
    exchange.supply.exchange_soon()
    await asyncio.wait_for(exchange.answered.wait(), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_without_a_controller_there_is_no_exchange() -> None:
    session: Any = FakeSession()
    alone = SupplyExchange(GatewaySettings(), session, Ledger(), Metrics())
    await asyncio.wait_for(alone.run(lambda: None), 1)
    assert alone.free_slots(KEY) is None
    assert session.requests == []

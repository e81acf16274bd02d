"""The exchange of demand and supply with the controller."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import aiohttp
import pytest

from agentspec import AgentSupply, Demand, Supply
from agentspec.wire import GatewayMember
from gateway.calls.ledger import Ledger
from gateway.cluster import supply
from gateway.cluster.members import Members
from gateway.cluster.supply import (
    SETTLE_SECONDS,
    STALE_SECONDS,
    ReceivedSupply,
    SupplyExchange,
    recent,
    settled_free_slots,
)
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from tests.unit.gateway.scenes import WAITING
from tests.waiting import soon

KEY = WAITING.agent.key


def received(at: float, free: int, slots: int = 4) -> ReceivedSupply:
    return ReceivedSupply(at, Supply(agents={KEY: AgentSupply(free_slots=free, slots=slots)}))


@pytest.mark.parametrize(
    ("supplies", "free", "why"),
    [
        ([], None, "nothing received"),
        ([received(10 - STALE_SECONDS - 0.1, 3)], None, "stale"),
        ([received(9.9, 3)], 3, "the first supply counts at once"),
        ([received(9.0, 3), received(9.9, 1)], 1, "a decrease counts at once"),
        ([received(9.0, 0), received(9.9, 1)], 0, "an increase must settle"),
        ([received(9.3, 1), received(9.9, 1)], 1, "the increase has settled"),
        ([received(9.3, 1), received(9.7, 0), received(9.9, 1)], 0, "not free all the time"),
        ([received(8.0, 0), received(9.3, 2), received(9.9, 2)], 2, "older supplies do not count"),
        ([received(9.0, 0), received(9.9, 4, slots=8)], 4, "a new worker's slots count at once"),
        ([received(9.0, 0), received(9.9, 6, slots=8)], 4, "an increase beside them must settle"),
        ([received(9.0, 0, slots=8), received(9.9, 2, slots=4)], 0, "a worker left, and another became free"),
        ([ReceivedSupply(9.0, Supply()), received(9.9, 4)], 4, "the agent's first worker"),
    ],
)
def test_slot_counts_as_free_once_settled(supplies: list[ReceivedSupply], free: int | None, why: str) -> None:
    assert settled_free_slots(supplies, KEY, 10.0) == free, why


def test_agent_missing_from_the_supply_has_no_slots() -> None:
    assert settled_free_slots([received(9.9, 3)], "agents/other", 10.0) == 0


def test_old_supplies_are_dropped() -> None:
    remaining = recent([received(1, 0), received(2, 0), received(9.9, 0)], 10.0)
    assert [found.received_at for found in remaining] == [2, 9.9]
    assert SETTLE_SECONDS > 10.0 - 9.9


class FakeResponse:
    """The controller's response, as an asynchronous context manager."""

    def __init__(self, session: "FakeSession", status: int, text: str | Exception) -> None:
        self.status = status
        self._session = session
        self._text = text
        self._delay = session.delay

    async def text(self) -> str:
        if (delay := self._delay) is not None:
            await delay.wait()
        if isinstance(self._text, Exception):
            raise self._text
        return self._text

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.finished += 1


class FakeSession:
    """An HTTP session with the controller; `next` is the status and body of its response, or an error."""

    def __init__(self) -> None:
        self.next: tuple[int, str | Exception] | Exception = (200, '{"agents": {}}')
        self.requests: list[dict[str, Any]] = []
        self.delay: asyncio.Event | None = None
        """The next responses have a body once this is set."""
        self.finished = 0
        """Number of requests whose response was read or failed."""

    def post(self, url: str, **options: Any) -> FakeResponse:
        self.requests.append({"url": url, **options})
        if isinstance(self.next, Exception):
            self.finished += 1
            raise self.next
        return FakeResponse(self, *self.next)


class Exchange:
    """An exchange with a fake controller."""

    def __init__(self, token_file: Path | None = None) -> None:
        self.session = FakeSession()
        self.ledger = Ledger()
        self.metrics = Metrics()
        self.received = asyncio.Event()
        settings = GatewaySettings(
            controller_url="http://controller", controller_token_file=token_file, gateway_name="g1"
        )
        session: Any = self.session
        self.members = Members("g1", "10.0.0.1:8082")
        self.supply = SupplyExchange(
            settings,
            session,
            self.ledger.pending,
            self.metrics.set_controller_reachable,
            self.members,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Run the exchange."""
        task = asyncio.create_task(self.supply.run(self.received.set))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def once(self) -> None:
        """Run one exchange, successful or not."""
        finished = self.session.finished
        async with self.running():
            await soon(lambda: self.session.finished > finished)

    @property
    def reachable(self) -> float | None:
        return self.metrics.registry.get_sample_value("avatar_agent_gateway_controller_reachable")


async def test_exchange_sends_pending_calls_and_receives_free_slots(tmp_path: Path) -> None:
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
    assert exchange.received.is_set()
    assert exchange.supply.free_slots(KEY) == 2
    assert exchange.reachable == 1
    token.write_text("renewed\n")
    await exchange.once()
    assert exchange.session.requests[-1]["headers"]["Authorization"] == "Bearer renewed"


async def test_free_seats_are_those_of_the_last_supply() -> None:
    exchange = Exchange()
    assert exchange.supply.free_seats(KEY) is None, "nothing received"
    for seats in (2, 0, None):
        count = AgentSupply(free_slots=1, slots=4, free_avatars=seats)
        exchange.session.next = (200, Supply(agents={KEY: count}).model_dump_json())
        await exchange.once()
        assert exchange.supply.free_seats(KEY) == seats
    assert exchange.supply.free_seats("agents/other") is None
    exchange.supply._supplies = [
        replace(exchange.supply._supplies[-1], received_at=time.monotonic() - STALE_SECONDS - 1)
    ]
    assert exchange.supply.free_seats(KEY) is None, "stale"


@pytest.mark.parametrize(
    "failure",
    [
        (503, "starting"),
        (401, "no"),
        (200, "not json"),
        (200, '{"agents": {"a/b": {"freeSlots": -1, "slots": 0}}}'),
        aiohttp.ClientConnectionError("refused"),
        TimeoutError(),
    ],
)
async def test_failed_exchange_changes_no_counts_and_is_reported(
    failure: tuple[int, str] | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = Exchange()
    exchange.session.next = failure
    await exchange.once()
    assert exchange.supply.free_slots(KEY) is None
    exchange.session.next = (200, Supply(agents={KEY: AgentSupply(free_slots=2, slots=4)}).model_dump_json())
    await exchange.once()
    assert (exchange.supply.free_slots(KEY), exchange.reachable) == (2, 1)
    exchange.received.clear()
    exchange.session.next = failure
    await exchange.once()
    assert (exchange.supply.free_slots(KEY), exchange.reachable) == (2, 0), "the supply is not stale yet"
    assert not exchange.received.is_set()
    records = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(records) == 2
    assert all(record.__dict__["error"] for record in records)


async def test_missing_token_file_does_not_stop_the_exchange(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange(tmp_path / "token")
    async with exchange.running():
        await soon(lambda: [record.message for record in caplog.records if "unreachable" in record.message])
        assert exchange.session.requests == []
        (tmp_path / "token").write_text("created\n")
        exchange.supply.exchange_soon()
        await soon(exchange.received.is_set)
    assert exchange.session.requests[-1]["headers"]["Authorization"] == "Bearer created"


async def test_exchange_soon_exchanges_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "EXCHANGE_SECONDS", 60.0)
    exchange = Exchange()
    async with exchange.running():
        await soon(exchange.received.is_set)
        exchange.received.clear()
        exchange.supply.exchange_soon()
        await soon(exchange.received.is_set)
    assert len(exchange.session.requests) == 2


SEVEN_FREE = Supply(agents={KEY: AgentSupply(free_slots=7, slots=8)}).model_dump_json(by_alias=True)


@pytest.mark.parametrize("body", [SEVEN_FREE, TimeoutError()], ids=["answer", "no answer"])
async def test_slow_answer_delays_no_other_exchange(
    body: str | Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supply, "EXCHANGE_SECONDS", 0.05)
    exchange = Exchange()
    first = exchange.session.delay = asyncio.Event()
    exchange.session.next = 200, body
    async with exchange.running():
        await soon(lambda: len(exchange.session.requests) == 1)
        exchange.session.delay = None
        exchange.session.next = 200, '{"agents": {}}'
        await soon(exchange.received.is_set)
        finished = exchange.session.finished
        first.set()
        await soon(lambda: exchange.session.finished > finished + 1)
    assert exchange.supply.free_slots(KEY) == 0, "the old answer changes nothing"
    assert [record for record in caplog.records if record.levelname == "WARNING"] == [], "nor does its failure"


async def test_no_exchange_without_a_controller() -> None:
    session: Any = FakeSession()
    without_controller = SupplyExchange(
        GatewaySettings(), session, dict, Metrics().set_controller_reachable, Members("g1", "")
    )
    await asyncio.wait_for(without_controller.run(lambda: None), 1)
    assert without_controller.free_slots(KEY) is None
    assert session.requests == []


async def test_exchange_sends_the_address_and_learns_of_the_gateways() -> None:
    exchange = Exchange()
    members = [exchange.members.me, GatewayMember(name="g2", address="10.0.0.2:8082")]
    exchange.session.next = 200, Supply(gateways=members).model_dump_json(by_alias=True)
    await exchange.once()
    assert exchange.session.requests[-1]["params"] == {"address": "10.0.0.1:8082"}
    assert exchange.members.known == tuple(members)
    exchange.members.leave()
    await exchange.supply.exchange_now()
    assert exchange.session.requests[-1]["params"] == {"address": "10.0.0.1:8082", "leaving": "true"}


def rejection(reason: str, status: int = 503) -> tuple[int, str]:
    """An answer by which a controller rejects a demand."""
    return status, json.dumps({"reason": reason, "message": "Retry."})


REFUSED = aiohttp.ClientConnectorError(cast(Any, None), ConnectionRefusedError(111, "refused"))


@pytest.mark.parametrize(
    ("answer", "in_touch"),
    [
        ((200, "{}"), True),
        (rejection("NotSynced"), True),
        (rejection("NotLeader"), False),
        (rejection("TokenCheckFailed"), False),
        (rejection("Unauthenticated", 401), False),
        ((503, "no healthy upstream"), False),
        ((503, "[]"), False),
        (REFUSED, True),
        (TimeoutError(), False),
        (aiohttp.ClientConnectorError(cast(Any, None), OSError(113, "no route to host")), False),
    ],
    ids=[
        "supply",
        "no supply yet",
        "standby",
        "token not checked",
        "token rejected",
        "answer of a proxy",
        "no object",
        "no controller listens",
        "no answer",
        "cut off",
    ],
)
async def test_only_an_exchange_that_a_leader_completed_lets_a_gateway_act(
    answer: tuple[int, str] | Exception, in_touch: bool
) -> None:
    exchange = Exchange()
    exchange.members.received([exchange.members.me, GatewayMember(name="g2", address="10.0.0.2:8082")], -100.0)
    exchange.session.next = answer
    await exchange.once()
    assert exchange.members.is_in_touch() is in_touch


async def test_lone_gateway_goes_on_while_only_standbys_answer() -> None:
    exchange = Exchange()
    both = [exchange.members.me, GatewayMember(name="g2", address="10.0.0.2:8082")]
    for members in (both, both[:1]):
        exchange.members.received(members, -100.0)
    exchange.session.next = rejection("NotLeader")
    await exchange.once()
    assert exchange.members.is_in_touch()


async def test_gateway_is_ready_after_the_exchange_that_lists_it_and_stays_so() -> None:
    exchange = Exchange()
    listed = 200, Supply(gateways=[exchange.members.me]).model_dump_json(by_alias=True)
    seen = []
    answers: list[tuple[int, str] | Exception] = [TimeoutError(), REFUSED, (503, "NotSynced"), (200, "{}"), listed]
    for answer in [*answers, *answers]:
        exchange.session.next = answer
        await exchange.once()
        seen.append(exchange.members.is_introduced)
    assert seen == [False] * 4 + [True] * 6

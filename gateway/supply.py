"""The exchange with the controller: what waits here against what is free there."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from pydantic import ValidationError

from agentspec import Demand, Supply
from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings

EXCHANGE_SECONDS = 0.5
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=2)
STALE_SECONDS = 3.0
"""An answer older than this says nothing about free slots."""

SETTLE_SECONDS = 0.6
"""A slot counts as free once it has been so for this long: LiveKit hears of a worker's load every 0.5 s, and refuses a
dispatch to a worker whose slot it does not know to be free again."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReceivedSupply:
    """What the controller said, and when (monotonic seconds)."""

    at: float
    supply: Supply


def recent(answers: Sequence[ReceivedSupply], now: float) -> list[ReceivedSupply]:
    """The answers of the settling time, and the one before them, which says how it began."""
    older = [answer for answer in answers if now - answer.at > SETTLE_SECONDS]
    return [*older[-1:], *(answer for answer in answers if now - answer.at <= SETTLE_SECONDS)]


def settled_free_slots(answers: Sequence[ReceivedSupply], agent_key: str, now: float) -> int | None:
    """The fewest free slots of the settling time; None when the last answer is stale, or there is none."""
    if not answers or now - answers[-1].at > STALE_SECONDS:
        return None
    counts = [answer.supply.agents.get(agent_key) for answer in recent(answers, now)]
    return min(count.free_slots if count else 0 for count in counts)


class SupplySource(Protocol):
    """What calls need to know of the controller."""

    def free_slots(self, agent_key: str) -> int | None: ...

    def free_seats(self, agent_key: str) -> int | None: ...

    def exchange_soon(self) -> None: ...


class SupplyExchange:
    """Tells the controller of pending calls and remembers its answer."""

    def __init__(
        self, settings: GatewaySettings, session: aiohttp.ClientSession, ledger: Ledger, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._session = session
        self._ledger = ledger
        self._metrics = metrics
        self._answers: list[ReceivedSupply] = []
        self._reachable: bool | None = None
        self._exchange_requested = asyncio.Event()

    def free_slots(self, agent_key: str) -> int | None:
        """Free slots of an agent; None when the controller has not said so lately."""
        return settled_free_slots(self._answers, agent_key, time.monotonic())

    def free_seats(self, agent_key: str) -> int | None:
        """Free avatar seats of an agent; None when it has no limit, or the controller has not said so lately."""
        if not self._answers or time.monotonic() - self._answers[-1].at > STALE_SECONDS:
            return None
        count = self._answers[-1].supply.agents.get(agent_key)
        return count.free_avatars if count else None

    def exchange_soon(self) -> None:
        """Exchange at once: the pending calls have changed."""
        self._exchange_requested.set()

    async def run(self, on_supply: Callable[[], None]) -> None:
        """Exchange for ever; ``on_supply`` is called after every answer."""
        if not self._settings.controller_url:
            logger.warning("no controller configured, calls are dispatched without knowing of free slots")
            return
        while True:
            if await self._exchange():
                on_supply()
            try:
                async with asyncio.timeout(EXCHANGE_SECONDS):
                    await self._exchange_requested.wait()
            except TimeoutError:
                pass
            self._exchange_requested.clear()

    async def _exchange(self) -> bool:
        demand = Demand(gateway=self._settings.gateway_name, pending=self._ledger.pending())
        try:
            headers = {"Content-Type": "application/json"} | await self._authorization()
            async with self._session.post(
                f"{self._settings.controller_url}/v1/demand",
                data=demand.model_dump_json(by_alias=True),
                headers=headers,
                timeout=REQUEST_TIMEOUT,
            ) as answer:
                text = await answer.text()
                if answer.status != 200:
                    raise ValueError(f"the controller answered {answer.status}")
                supply = Supply.model_validate_json(text)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, ValidationError) as error:
            self._report(False, str(error) or type(error).__name__)
            return False
        now = time.monotonic()
        self._answers = [*recent(self._answers, now), ReceivedSupply(now, supply)]
        self._report(True, "")
        return True

    async def _authorization(self) -> dict[str, str]:
        path = self._settings.controller_token_file
        if path is None:
            return {}
        return {"Authorization": f"Bearer {(await asyncio.to_thread(path.read_text)).strip()}"}

    def _report(self, reachable: bool, problem: str) -> None:
        self._metrics.controller_reachable.set(1 if reachable else 0)
        if reachable == self._reachable:
            return
        self._reachable = reachable
        if reachable:
            logger.info("controller reached", extra={"url": self._settings.controller_url})
        else:
            logger.warning(
                "controller unreachable, calls are dispatched without knowing of free slots",
                extra={"url": self._settings.controller_url, "error": problem},
            )

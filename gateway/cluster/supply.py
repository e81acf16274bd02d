"""The exchange with the controller: the gateway sends its waiting calls and receives the free slots and seats."""

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from pydantic import ValidationError

from agentspec.wire import ADDRESS_QUERY, LEAVING_QUERY, NOT_SYNCED, AgentSupply, Demand, Supply, read, render
from gateway.cluster.members import Members
from gateway.settings import GatewaySettings

EXCHANGE_SECONDS = 0.4
"""Longest interval between two exchanges."""
WAITING_EXCHANGE_SECONDS = 0.2
"""The same while calls wait: a worker that has just started may take them."""
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=2)
STALE_SECONDS = 3.0
"""Age at which a supply is stale: the number of free slots is then unknown."""

SETTLE_SECONDS = 0.6
"""A slot counts as free after it has been free for this long. Workers report their load to LiveKit every 0.5 s, and
LiveKit sends no job to a worker whose last report was full. Slots of a new worker count at once."""

_NO_SUPPLY = AgentSupply(free_slots=0, slots=0)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReceivedSupply:
    """A supply and the time of its arrival."""

    received_at: float
    """Monotonic seconds."""
    supply: Supply


def recent(supplies: Sequence[ReceivedSupply], now: float) -> list[ReceivedSupply]:
    """Return the supplies of the last `SETTLE_SECONDS`, and the one before them, which was valid at their start."""
    older = [received for received in supplies if now - received.received_at > SETTLE_SECONDS]
    return [*older[-1:], *(received for received in supplies if now - received.received_at <= SETTLE_SECONDS)]


def settled_free_slots(supplies: Sequence[ReceivedSupply], agent_key: str, now: float) -> int | None:
    """Return the slots that have been free for `SETTLE_SECONDS` or are new; None when the last supply is stale."""
    if not supplies or now - supplies[-1].received_at > STALE_SECONDS:
        return None
    counts = [received.supply.agents.get(agent_key, _NO_SUPPLY) for received in recent(supplies, now)]
    slots = counts[-1].slots
    return min(count.free_slots + max(0, slots - count.slots) for count in counts)


async def authorization(settings: GatewaySettings) -> dict[str, str]:
    """Return the headers by which the controller knows the gateway. The kubelet renews the token in the file."""
    path = settings.controller_token_file
    return {} if path is None else {"Authorization": f"Bearer {(await asyncio.to_thread(path.read_text)).strip()}"}


class SupplySource(Protocol):
    """The controller's counts of free slots and seats."""

    def free_slots(self, agent_key: str) -> int | None:
        """Return the number of an agent's free slots; None: unknown."""

    def free_seats(self, agent_key: str) -> int | None:
        """Return the number of an agent's free avatar seats; None: unknown, or the agent has no limit."""

    def exchange_soon(self) -> None:
        """Exchange demand and supply at once, because the waiting calls have changed."""


class SupplyExchange:
    """`SupplySource` that exchanges demand and supply with the controller over HTTP."""

    def __init__(
        self,
        settings: GatewaySettings,
        session: aiohttp.ClientSession,
        pending: Callable[[], dict[str, int]],
        set_reachable: Callable[[bool], None],
        members: Members,
    ) -> None:
        """``pending`` returns the waiting calls by agent key; ``set_reachable`` gets whether the controller answers.

        ``members`` learns which gateways are alive.
        """
        self._settings = settings
        self._session = session
        self._pending = pending
        self._set_reachable = set_reachable
        self._members = members
        self._supplies: list[ReceivedSupply] = []
        self._newest = -math.inf
        """When the last exchange began that was answered. An older answer tells nothing new."""
        self._reachable: bool | None = None
        self._exchange_requested = asyncio.Event()
        if settings.controller_url:
            set_reachable(False)

    def free_slots(self, agent_key: str) -> int | None:
        return settled_free_slots(self._supplies, agent_key, time.monotonic())

    def free_seats(self, agent_key: str) -> int | None:
        if not self._supplies or time.monotonic() - self._supplies[-1].received_at > STALE_SECONDS:
            return None
        count = self._supplies[-1].supply.agents.get(agent_key)
        return count.free_avatars if count else None

    def exchange_soon(self) -> None:
        self._exchange_requested.set()

    async def run(self, on_supply: Callable[[], None]) -> None:
        """Exchange until cancelled, and call ``on_supply`` after each received supply. Without a controller, return."""
        if not self._settings.controller_url:
            logger.warning("no controller configured, dispatching calls without counting free slots")
            return
        async with asyncio.TaskGroup() as exchanges:
            while True:
                exchange = exchanges.create_task(self._exchange_then(on_supply))
                # A slow answer does not delay the next exchange. Else a busy controller would end what the last answer
                # allows, and the gateway would stop acting for its agents.
                await asyncio.wait({exchange}, timeout=EXCHANGE_SECONDS)
                self._members.check()
                if exchange.done():
                    await self._pause()

    async def _exchange_then(self, on_supply: Callable[[], None]) -> None:
        if await self._exchange():
            on_supply()

    async def _pause(self) -> None:
        """Wait until the next exchange is due, or asked for."""
        interval = WAITING_EXCHANGE_SECONDS if self._pending() else EXCHANGE_SECONDS
        try:
            async with asyncio.timeout(interval):
                await self._exchange_requested.wait()
        except TimeoutError:
            pass
        self._exchange_requested.clear()

    async def exchange_now(self) -> None:
        """Exchange demand and supply once, whatever the answer."""
        await self._exchange()

    async def _exchange(self) -> bool:
        began = time.monotonic()
        demand = Demand(gateway=self._members.me.name, pending=self._pending())
        try:
            headers = {"Content-Type": "application/json"} | await authorization(self._settings)
            async with self._session.post(
                f"{self._settings.controller_url}/v1/demand",
                params=self._query(),
                data=render(demand),
                headers=headers,
                timeout=REQUEST_TIMEOUT,
            ) as response:
                text = await response.text()
                if began < self._newest:  # a later exchange was answered before
                    return False
                self._newest = began
                # Nobody else can act for the agents of a lone gateway. It goes on while only standbys answer.
                if _is_recorded(response.status, text) or not self._members.others:
                    self._members.completed(began)
                if response.status != 200:
                    raise ValueError(f"the controller answered {response.status} {_reason(text)}".rstrip())
                supply = read(Supply, text)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, ValidationError) as error:
            if began < self._newest:
                return False
            if _is_refusal(error):
                self._members.completed(began)
            self._report(False, str(error) or type(error).__name__)
            return False
        self._members.received(supply.gateways, began)
        now = time.monotonic()
        self._supplies = [*recent(self._supplies, now), ReceivedSupply(now, supply)]
        self._report(True, "")
        return True

    def _query(self) -> dict[str, str]:
        address = self._members.me.address
        leaving = {LEAVING_QUERY: "true"} if self._members.is_leaving else {}
        return ({ADDRESS_QUERY: address} if address else {}) | leaving

    def _report(self, reachable: bool, error: str) -> None:
        self._set_reachable(reachable)
        if reachable == self._reachable:
            return
        self._reachable = reachable
        if reachable:
            logger.info("controller is reachable", extra={"url": self._settings.controller_url})
        else:
            logger.warning(
                "controller is unreachable, dispatching calls without counting free slots",
                extra={"url": self._settings.controller_url, "error": error},
            )


def _is_recorded(status: int, text: str) -> bool:
    """Whether a leader has recorded the demand, and so counts this gateway as alive. A standby knows no gateways."""
    return status == 200 or _reason(text) == NOT_SYNCED


def _reason(text: str) -> str:
    """Return the reason of a rejection; empty: the text has none."""
    try:
        document = json.loads(text)
    except ValueError:
        return ""
    return str(document.get("reason", "")) if isinstance(document, dict) else ""


def _is_refusal(error: Exception) -> bool:
    """Whether the network works and no controller listens: a gateway that is cut off gets no refusal."""
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError)

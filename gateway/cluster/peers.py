"""Gateways confirm each other while the controller answers none of them.

A gateway that hears nothing from the controller may be cut off, and another one may own its agents by now. Or the
controller is gone, for example with its node. The other gateways know: when all of them are out of touch with the
controller too, and know the same gateways, nothing has changed, and each goes on with its own agents.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from agentspec.wire import GatewayMember
from gateway.cluster.members import Members

PATH: Final = "/internal/gateways"
ASKING_QUERY: Final = "gateway"
"""Query parameter with the name of the gateway that asks."""
INTERVAL_SECONDS: Final = 0.2
ANSWER_SECONDS: Final = 0.4


class PeerView(BaseModel):
    """What one gateway tells another."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    in_touch: bool
    """The controller answers it."""
    gateways: frozenset[str]
    """Names of the live gateways that it knows."""


Ask = Callable[[GatewayMember], Awaitable[PeerView]]
"""Asks another gateway. Raises an error when it does not answer in time."""


def view_of(members: Members, asking: str) -> PeerView:
    """Return what a gateway tells another one; empty: one of a release whose gateways do not say who they are."""
    return PeerView(in_touch=members.tell_touch(asking), gateways=_names(members))


def _names(members: Members) -> frozenset[str]:
    return frozenset(member.name for member in members.known)


def asking(session: aiohttp.ClientSession, name: str) -> Ask:
    """Return the function by which a gateway with this name asks over HTTP."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)

    async def ask(member: GatewayMember) -> PeerView:
        url = f"http://{member.address}{PATH}"
        async with session.get(url, params={ASKING_QUERY: name}, timeout=timeout) as response:
            return PeerView.model_validate_json(await response.read())

    return ask


class Peers:
    """Confirms this gateway's membership while the controller does not answer."""

    def __init__(self, members: Members, ask: Ask, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._members = members
        self._ask = ask
        self._clock = clock

    async def run(self) -> None:
        """Do so until cancelled."""
        while True:
            if self._members.others and not self._members.is_in_touch():
                await self.confirm()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def confirm(self) -> None:
        """Ask all other gateways once. A single one that does not answer, or knows better, prevents it."""
        began, mine = self._clock(), _names(self._members)
        views = await asyncio.gather(*(self._view(member) for member in self._members.others))
        if all(view is not None and not view.in_touch and view.gateways == mine for view in views):
            self._members.confirmed(began)

    async def _view(self, member: GatewayMember) -> PeerView | None:
        try:
            return await self._ask(member)
        except (aiohttp.ClientError, OSError, TimeoutError, ValidationError):
            return None

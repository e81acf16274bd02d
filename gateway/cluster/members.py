"""Which gateway owns which agents.

The controller's leader says which gateways are alive. Each agent belongs to one shard, and each shard to the live
gateway with the highest hash of both (rendezvous hashing): when a gateway comes or goes, only its own shards move.

Two gateways must never act for one agent. Three times make sure of it, all counted from the same events:

- A gateway acts only for `FENCE_SECONDS` from the begin of its last exchange that a leader completed. The answer of a
  standby renews nothing: the leader may have dropped this gateway.
- The controller drops a gateway that it has not heard for `agentspec.wire.MEMBER_SECONDS`, which is longer.
- A gateway that comes, or comes back, waits for `FENCE_SECONDS` before it acts: the others then know of it, or are
  fenced.

A container that starts again is another gateway with another name. The others may pass over the process before it, and
would pass over the new one too if both had one name.

While the controller answers none of the gateways, they confirm each other (`gateway.cluster.peers`).
"""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from agentspec.wire import GatewayMember

FENCE_SECONDS: Final = 1.3
"""Longest time that a gateway acts without an answer from the controller."""
PASS_OVER_SECONDS: Final = 2.0
"""A gateway that refused a connection owns nothing. One that the controller still lists after this time lives."""
UNLISTED_SECONDS: Final = 10.0
"""A controller that answers for this long without a list of the gateways will not give one soon: it is of release
0.1.0, or it hears a gateway of that release. A new leader lists them after `agentspec.wire.MEMBER_SECONDS`."""
TOUCH_SECONDS: Final = 0.7
"""A gateway without an answer for this long is out of touch with the controller."""
NEWS_SECONDS: Final = 0.1
"""While an owner does not answer, this gateway asks the controller so often which gateways are alive."""
SHARD_DIGITS: Final = 3
"""A shard is so many hexadecimal digits, the first of the hash of an agent's key."""

logger = logging.getLogger(__name__)


@lru_cache(maxsize=4096)
def shard_of(agent_key: str) -> str:
    """Return the shard of an agent. The ids of its calls begin with it."""
    return hashlib.sha256(agent_key.encode()).hexdigest()[:SHARD_DIGITS]


@lru_cache(maxsize=16384)
def owner_of(shard: str, names: tuple[str, ...]) -> str | None:
    """Return the name of the gateway that owns a shard; None without gateways. All of them get the same result."""
    return max(names, key=lambda name: hashlib.sha256(f"{name}\x00{shard}".encode()).digest(), default=None)


class Members:
    """The live gateways, as this one knows them, and what this one may act for."""

    def __init__(self, name: str, address: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``address`` is this gateway's ``IP:PORT`` for the other gateways; empty: there are no others."""
        self.me = GatewayMember(name=name, address=address)
        self.on_change: Callable[[], None] = lambda: None
        """Called when this gateway may own other agents than before."""
        self.on_doubt: Callable[[], None] = lambda: None
        """Called when an owner does not answer: the controller may know another one already."""
        self._doubt_at = -math.inf
        self._clock = clock
        self._members: tuple[GatewayMember, ...] | None = None
        """In the order of their names; None: not known yet."""
        self.is_introduced = not address
        """The controller has listed the gateways, or answers without a list: this gateway is ready. It stays so without
        a controller, because a gateway that works goes on."""
        self._unlisted_since: float | None = None
        """Since when the controller has answered without a list and without a gap; None: it does not."""
        self._contact: float | None = None
        """Begin of the last exchange that the controller completed."""
        self._confirmed: float | None = None
        """The same, or begin of the last exchange with all other gateways."""
        self._active_from = 0.0
        """When this gateway may begin to act as a member."""
        self._has_others = False
        """Another gateway was ever a member."""
        self._refused: dict[str, float] = {}
        """When each gateway refused a connection first."""
        self._lives: set[str] = set()
        """Those of them that live nevertheless."""
        self._doubted: dict[str, float] = {}
        """When this gateway told each other one last that it is out of touch with the controller."""
        self._could_act: bool | None = None
        self.is_leaving = False
        """This gateway stops, and others own its agents."""
        self._changed = clock() if address else -math.inf
        self._change = asyncio.Event()

    @property
    def known(self) -> tuple[GatewayMember, ...]:
        """The live gateways; only this one while the others are not known."""
        return (self.me,) if self._members is None else self._members

    @property
    def others(self) -> tuple[GatewayMember, ...]:
        """The live gateways other than this one."""
        return tuple(member for member in self.known if member.name != self.me.name)

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Names of the gateways that refused a connection, and so own nothing."""
        return tuple(sorted(self._refused.keys() - self._lives))

    def completed(self, began: float) -> None:
        """Take in that a leader recorded the demand of an exchange that began then, or that no controller listens."""
        if self._confirmed is None or began - self._confirmed >= FENCE_SECONDS:
            self._active_from = self._clock() + FENCE_SECONDS
            self._unlisted_since = None
        self._contact = began
        self.confirmed(began)

    def received(self, members: Sequence[GatewayMember] | None, began: float) -> None:
        """Take in the controller's answer to an exchange that began then. None: the controller says nothing."""
        self.completed(began)
        if members is None:
            self._unlisted_since = began if self._unlisted_since is None else self._unlisted_since
            # The upgrade from 0.1.0 would stop here: its gateway stops only after another one is ready.
            self.is_introduced |= began - self._unlisted_since >= UNLISTED_SECONDS
            return
        self.is_introduced = True
        found = tuple(sorted(members, key=lambda member: member.name))
        names = {member.name for member in found}
        self._refused = {name: at for name, at in self._refused.items() if name in names}
        living = {name for name, at in self._refused.items() if began - at >= PASS_OVER_SECONDS}
        if (found, living) == (self._members, self._lives):
            return
        self._active_from = max(self._active_from, self._fence_end({member.name for member in self.known} - names))
        self._members, self._lives = found, living
        self._has_others |= bool(self.others)
        logger.info("gateways changed", extra={"gateways": sorted(names)})
        self._has_changed()

    def confirmed(self, began: float) -> None:
        """Take in that nothing has changed since then: no gateway is in touch with the controller, or this one is."""
        self._confirmed = max(began, self._confirmed or began)

    def is_in_touch(self) -> bool:
        """Return whether the controller has completed an exchange lately, so that the gateways may have changed."""
        return self._contact is not None and self._clock() - self._contact < TOUCH_SECONDS

    def tell_touch(self, name: str) -> bool:
        """Return `is_in_touch` for another gateway, which may continue for `FENCE_SECONDS` if it is false."""
        if not (in_touch := self.is_in_touch()):
            self._doubted[name] = self._clock()
        return in_touch

    def _fence_end(self, gone: set[str]) -> float:
        """Return when gateways that are dropped have stopped to act, whatever this one told them."""
        # A gateway of an older release asks without its name, so it may be any of them.
        told = [self._doubted.pop(name, -math.inf) for name in {"", *gone}]
        return max(told) + FENCE_SECONDS

    def refused(self, name: str) -> None:
        """Take in that a gateway refused a connection, so its process is gone: the others own its agents at once.

        One that the controller lists still after `PASS_OVER_SECONDS` keeps its agents, whatever it refuses.
        """
        if name not in self._refused and any(member.name == name for member in self.others):
            self._refused[name] = self._clock()
            logger.warning("gateway refused the connection, skipping it", extra={"gateway": name})
            self._has_changed()

    def leave(self) -> bool:
        """Own nothing any more, because this gateway stops. Return whether another gateway takes over."""
        self.is_leaving = bool(self.others)
        if self.is_leaving:
            self._has_changed()
        return self.is_leaving

    def check(self) -> None:
        """Notice that this gateway may act again, or no longer. Call this every second or more often."""
        can_act = self.may_act()
        if can_act == self._could_act or self.is_leaving:
            return
        could_act, self._could_act = self._could_act, can_act
        if can_act:
            logger.info("gateway acts for its agents", extra={"gateways": [member.name for member in self.known]})
        elif could_act:
            logger.warning("gateway does not act for its agents, waiting for the controller")
        self._has_changed()

    def is_beginning(self) -> bool:
        """Return whether this gateway may act again and `check` has not noticed it: it has searched for no calls."""
        return self._could_act is False and self.may_act()

    def seconds_since_change(self) -> float:
        """Return for how long this gateway has owned what it owns. It may not know all calls of it at first."""
        return self._clock() - self._changed

    def may_act(self) -> bool:
        """Return whether this gateway may act on what it owns. One that was frozen or cut off may not."""
        now = self._clock()
        if self.is_leaving:
            return False
        if self._members is None:
            return not self.me.address
        if not self._has_others:
            return True
        confirmed = self._confirmed is not None and now - self._confirmed < FENCE_SECONDS
        return confirmed and now >= self._active_from

    def owner(self, shard: str) -> GatewayMember | None:
        """Return the gateway that owns a shard; None: none does."""
        members = {member.name: member for member in self.known}
        gone = {*self.passed_over, *({self.me.name} if self.is_leaving else ())}
        name = owner_of(shard, tuple(name for name in members if name not in gone))
        return None if name is None else members[name]

    async def wait_until_moved(self, shard: str, owner: GatewayMember) -> None:
        """Wait until a shard has another owner."""
        while self.owner(shard) == owner:
            await self._change.wait()

    async def refresh_until_moved(self, shard: str, owner: GatewayMember) -> None:
        """Do the same, and learn of another owner as soon as the controller knows it."""
        while self.owner(shard) == owner:
            if not await self.changes_within(NEWS_SECONDS):
                self.refresh()

    async def changes_within(self, seconds: float) -> bool:
        """Wait until this gateway may own other agents than before, or may act again; return whether it is so."""
        try:
            async with asyncio.timeout(seconds):
                await self._change.wait()
        except TimeoutError:
            return False
        return True

    def refresh(self) -> None:
        """Ask the controller which gateways are alive, as an owner does not answer. At most every `NEWS_SECONDS`."""
        if (now := self._clock()) - self._doubt_at >= NEWS_SECONDS:
            self._doubt_at = now
            self.on_doubt()

    def is_mine(self, shard: str) -> bool:
        """Return whether this gateway owns a shard. It may be fenced still."""
        owner = self.owner(shard)
        return owner is not None and owner.name == self.me.name

    def owns(self, agent_key: str) -> bool:
        """Return whether this gateway owns an agent. It may be fenced still."""
        return self.is_mine(shard_of(agent_key))

    def acts_for(self, agent_key: str) -> bool:
        """Return whether this gateway owns an agent and may act for it now."""
        return self.may_act() and self.owns(agent_key)

    def _has_changed(self) -> None:
        self._changed = self._clock()
        self._change.set()
        self._change = asyncio.Event()
        self.on_change()

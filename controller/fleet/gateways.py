"""The live gateways. The leader alone keeps the list, so all gateways know the same one."""

from agentspec.wire import MEMBER_SECONDS, GatewayMember


class Gateways:
    """The gateways that the leader has heard. Times are seconds of one monotonic clock that the caller passes in."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, str]] = {}
        """When each gateway was heard last, and its address; empty: it is of a release without addresses."""
        self._since = 0.0
        """Since when gateways have been heard without a gap."""

    def heard(self, name: str, address: str, now: float) -> None:
        """Record that a gateway was heard. Another one with its address is gone: a container started again."""
        if not self._alive(now):
            self._since = now
        if address:
            self._heard = {other: heard for other, heard in self._heard.items() if heard[1] != address}
        self._heard[name] = now, address

    def left(self, name: str) -> None:
        """Drop a gateway that stops."""
        self._heard.pop(name, None)

    def members(self, now: float) -> list[GatewayMember] | None:
        """Return the live gateways by name; None: they are not known for certain.

        A new leader waits until each gateway was heard, or has noticed that no leader hears it. A gateway without an
        address follows all calls: the others begin when it has stopped.
        """
        self._heard = self._alive(now)
        if now - self._since < MEMBER_SECONDS or not all(address for _, address in self._heard.values()):
            return None
        return [GatewayMember(name=name, address=address) for name, (_, address) in sorted(self._heard.items())]

    def _alive(self, now: float) -> dict[str, tuple[float, str]]:
        return {name: (at, address) for name, (at, address) in self._heard.items() if now - at < MEMBER_SECONDS}

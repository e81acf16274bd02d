"""Decides NameUnique: of the AvatarAgents that want one agent name on one LiveKit server, the oldest has it.

LiveKit hands a call to any worker registered under its agent name, whichever AvatarAgent that belongs to, and names are
global to a server, whatever API key registered them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from agentspec import KIND, Reason
from controller.observation import Key
from controller.policy.verdict import Verdict, false, true

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}
_SERVICE_SUFFIXES = (".svc.cluster.local", ".svc")


@dataclass(frozen=True, slots=True)
class Claim:
    """An AvatarAgent wants a name."""

    key: Key
    server: str
    """As `server_of` gives it."""
    name: str
    """Empty: automatic dispatch, which any worker without a name serves."""
    created: str
    """When the AvatarAgent was made: RFC 3339 in UTC, so that texts compare as times do."""
    uid: str

    @property
    def age(self) -> tuple[str, Key]:
        """Orders claims, the oldest first; no two are equal."""
        return self.created, self.key


def server_of(url: str, namespace: str) -> str:
    """One text for all ways of writing a LiveKit server's URL in a manifest of that namespace.

    Inside a cluster ``livekit``, ``livekit.shop`` and ``livekit.shop.svc.cluster.local`` are the same to agents in the
    namespace ``shop``, and ``livekit`` is another server in another namespace.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return url  # not a URL: nobody else's server
    host = host.rstrip(".")
    for suffix in _SERVICE_SUFFIXES:
        host = host.removesuffix(suffix)
    if host and "." not in host and ":" not in host and host != "localhost":
        host = f"{host}.{namespace}"
    return f"{host}:{port}{parts.path.rstrip('/')}"


def holder(claim: Claim, others: Iterable[Claim]) -> Claim | None:
    """The older claim that holds the name; None: this one does. Itself and unrelated claims may be among the others."""
    older = [other for other in others if _rivals(claim, other) and other.age < claim.age]
    return min(older, key=lambda other: other.age, default=None)


def _rivals(claim: Claim, other: Claim) -> bool:
    return (claim.server, claim.name) == (other.server, other.name) and claim.key != other.key


def still_in_use(claim: Claim, user: Key) -> Verdict:
    """The name is this agent's by right, and workers of another agent, `user`, still take calls under it."""
    return false(
        Reason.NAME_TAKEN,
        f"Workers of {KIND} {user} are still registered as {claim.name!r} on {claim.server}, by its earlier manifest. "
        "This agent starts by itself when they have left; if they stay, look at the conditions of that one.",
    )


def name_unique(claim: Claim, older: Claim | None, automatic: bool) -> Verdict:
    """Whether the name is the agent's own; `older`: the claim that holds it instead."""
    if automatic:
        return _alone(claim, older)
    if older is None:
        return true(Reason.NAME_UNIQUE, f"No older {KIND} has the agent name {claim.name!r} on {claim.server}.")
    return false(
        Reason.NAME_TAKEN,
        f"{KIND} {older.key} is older and has the agent name {claim.name!r} on {claim.server}; LiveKit would send each "
        f"one's calls to either. Write another spec.agentName here, or rename or delete {older.key}: "
        "this agent starts by itself as soon as the name is free.",
    )


def _alone(claim: Claim, older: Claim | None) -> Verdict:
    if older is None:
        return true(
            Reason.NAME_UNIQUE,
            "dispatch.mode is Automatic: workers register without a name, and LiveKit sends one into every new room "
            f"on {claim.server} that asks for no agent by name. The gateway takes no calls for this agent.",
        )
    return false(
        Reason.NAME_TAKEN,
        f"{KIND} {older.key} is older and has dispatch.mode: Automatic on {claim.server} too; LiveKit would send a "
        "worker of either into every new room. Write dispatch.mode: Explicit here, or there, or delete "
        f"{older.key}: this agent starts by itself then.",
    )

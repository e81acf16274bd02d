"""Decides NameUnique: among AvatarAgents with the same agent name on one LiveKit server, the oldest holds the name.

LiveKit dispatches a call to any worker registered under the agent name, whichever AvatarAgent the worker belongs to.
Agent names are global to a LiveKit server, whatever API key registered them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from agentspec import KIND, PLURAL, Reason
from controller.observation import Key
from controller.policy.verdict import Verdict, false, true

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}
_SERVICE_SUFFIXES = (".svc.cluster.local", ".svc")


@dataclass(frozen=True, slots=True)
class Claim:
    """An AvatarAgent's claim to an agent name on a LiveKit server."""

    key: Key
    server: str
    """The server's identity, as `server_of` returns it."""
    name: str
    """The agent name. Empty: automatic dispatch, where LiveKit picks any worker without a name."""
    created: str
    """The AvatarAgent's creation time: RFC 3339 in UTC, so that strings sort as times do."""
    uid: str

    @property
    def age(self) -> tuple[str, Key]:
        """Sort key of claims, the oldest first; no two claims have the same."""
        return self.created, self.key


def server_of(url: str, namespace: str) -> str:
    """One identity for all spellings of a LiveKit server's URL in manifests of the namespace.

    Inside a cluster ``livekit``, ``livekit.shop`` and ``livekit.shop.svc.cluster.local`` are the same server for agents
    in the namespace ``shop``; in another namespace ``livekit`` is another server.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return url  # not a URL, so equal only to the same text
    host = host.rstrip(".")
    for suffix in _SERVICE_SUFFIXES:
        host = host.removesuffix(suffix)
    if host and "." not in host and ":" not in host and host != "localhost":
        host = f"{host}.{namespace}"
    return f"{host}:{port}{parts.path.rstrip('/')}"


def holder(claim: Claim, others: Iterable[Claim]) -> Claim | None:
    """The older claim that holds the name; None: this one does. `others` may contain this and unrelated claims."""
    older = [other for other in others if _rivals(claim, other) and other.age < claim.age]
    return min(older, key=lambda other: other.age, default=None)


def _rivals(claim: Claim, other: Claim) -> bool:
    return (claim.server, claim.name) == (other.server, other.name) and claim.key != other.key


def name_still_in_use(claim: Claim, user: Key) -> Verdict:
    """The verdict when the agent holds the name but workers of another agent, `user`, still take calls under it."""
    return false(
        Reason.NAME_TAKEN,
        f"Workers of {KIND} {user} are still registered as {claim.name!r} on {claim.server} from its earlier manifest. "
        f"This agent starts when they have drained. If they stay, check the conditions of {user}: "
        f"kubectl -n {user.namespace} describe {PLURAL} {user.name}",
    )


def name_unique(claim: Claim, older: Claim | None, automatic: bool) -> Verdict:
    """Whether the agent holds its name. `older`: the claim that holds the name instead."""
    if automatic:
        return _automatic(claim, older)
    if older is None:
        return true(Reason.NAME_UNIQUE, f"No older {KIND} uses the agent name {claim.name!r} on {claim.server}.")
    return false(
        Reason.NAME_TAKEN,
        f"{KIND} {older.key} is older and uses the same agent name {claim.name!r} on {claim.server}. LiveKit would "
        f"dispatch calls for one agent to workers of the other. Set another spec.agentName here, or rename or delete "
        f"{older.key}. This agent starts as soon as the name is free.",
    )


def _automatic(claim: Claim, older: Claim | None) -> Verdict:
    if older is None:
        return true(
            Reason.NAME_UNIQUE,
            "dispatch.mode is Automatic: workers register without a name, and LiveKit sends one to every new room "
            f"on {claim.server} that requests no agent by name. The gateway takes no calls for this agent.",
        )
    return false(
        Reason.NAME_TAKEN,
        f"{KIND} {older.key} is older and also has dispatch.mode: Automatic on {claim.server}. LiveKit would send a "
        "worker of either agent to each new room. Set dispatch.mode: Explicit on one of the two, or delete "
        f"{older.key}. This agent then starts by itself.",
    )

"""The AvatarAgents as last seen, and which of them claim which agent name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentspec import AvatarAgentSpec, DispatchMode
from controller.desired.identity import Owner
from controller.observation import Key
from controller.policy.names import Claim, holder, server_of
from controller.policy.specification import read_spec
from controller.policy.verdict import Verdict
from kube.client import Document


@dataclass(frozen=True, slots=True)
class ObservedAgent:
    """One AvatarAgent."""

    key: Key
    uid: str
    version: int
    generation: int
    created: str
    """RFC 3339."""
    deleted: bool
    """Its deletion has begun; what it owns is being removed."""
    spec: AvatarAgentSpec | Verdict = field(compare=False)
    """Typed, or why it cannot be used."""
    status: Mapping[str, Any]

    @property
    def owner(self) -> Owner:
        """What its children belong to."""
        return Owner(self.key.namespace, self.key.name, self.uid)

    @property
    def claim(self) -> Claim | None:
        """The name it wants on its LiveKit server; None: it wants none."""
        if self.deleted or isinstance(self.spec, Verdict):
            return None
        automatic = self.spec.dispatch.mode is DispatchMode.AUTOMATIC
        name = "" if automatic else self.spec.registered_name(self.key.name)
        return Claim(self.key, server_of(self.spec.livekit.url, self.key.namespace), name, self.created, self.uid)


class Agents:
    """All AvatarAgents served."""

    def __init__(self) -> None:
        self._agents: dict[Key, ObservedAgent] = {}
        self._claims: dict[tuple[str, str], dict[Key, Claim]] = {}

    def get(self, key: Key) -> ObservedAgent | None:
        """The agent; None: there is none."""
        return self._agents.get(key)

    def all(self) -> Iterable[ObservedAgent]:
        """Every agent."""
        return self._agents.values()

    def in_namespace(self, namespace: str) -> list[Key]:
        """The agents of a namespace."""
        return [key for key in self._agents if key.namespace == namespace]

    def see(self, document: Document) -> set[Key]:
        """An agent as the API server has it; returns the agents that have something to do about it."""
        metadata = document["metadata"]
        key, version = Key(metadata["namespace"], metadata["name"]), int(metadata["resourceVersion"])
        before = self._agents.get(key)
        if before is not None and version <= before.version:
            return set()
        same = before is not None and (before.uid, before.generation) == (metadata["uid"], metadata["generation"])
        seen = ObservedAgent(
            key=key,
            uid=metadata["uid"],
            version=version,
            generation=metadata["generation"],
            created=metadata["creationTimestamp"],
            deleted="deletionTimestamp" in metadata,
            spec=before.spec if before is not None and same else read_spec(key.name, document["spec"]),
            status=document.get("status") or {},
        )
        self._agents[key] = seen
        if before is not None and same and (before.deleted, before.status) == (seen.deleted, seen.status):
            return set()  # labels or annotations
        return {key} | self._claim(before, seen)

    def answered(self, document: Document) -> set[Key]:
        """The same of an answer to a write of the status, which may come after the watch has told of the agent's end,
        and which is news only where it tells of more than what was written."""
        metadata = document["metadata"]
        before = self._agents.get(Key(metadata["namespace"], metadata["name"]))
        if before is None or before.uid != metadata["uid"]:
            return set()
        concerned, after = self.see(document), self._agents[before.key]
        return concerned if (after.generation, after.deleted) != (before.generation, before.deleted) else set()

    def lose(self, key: Key, uid: str) -> set[Key]:
        """The agent is gone; returns the agents that have something to do about it. One of the same name with another
        uid is not meant: it came after."""
        before = self._agents.get(key)
        if before is not None and before.uid != uid:
            return set()
        self._agents.pop(key, None)
        return {key} | self._claim(before, None)

    def holder(self, claim: Claim) -> Claim | None:
        """The other agent that holds the name claimed; None: the claim stands."""
        return holder(claim, self._claims.get((claim.server, claim.name), {}).values())

    def _claim(self, before: ObservedAgent | None, after: ObservedAgent | None) -> set[Key]:
        """Note whose claim is what now; returns the rivals concerned."""
        old = before.claim if before is not None else None
        new = after.claim if after is not None else None
        if old == new:
            return set()
        rivals: set[Key] = set()
        if old is not None:
            claims = self._claims[old.server, old.name]
            del claims[old.key]
            rivals |= claims.keys()
            if not claims:
                del self._claims[old.server, old.name]
        if new is not None:
            claims = self._claims.setdefault((new.server, new.name), {})
            rivals |= claims.keys()
            claims[new.key] = new
        return rivals

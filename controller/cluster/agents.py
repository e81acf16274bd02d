"""A cache of the AvatarAgents, and the agent names that they claim."""

from controller.observation import Key
from controller.policy.names import Claim, holder
from controller.policy.snapshot import ObservedAgent
from controller.policy.specification import read_spec
from kube.client import Document


class Agents:
    """All AvatarAgents that this controller serves."""

    def __init__(self) -> None:
        self._agents: dict[Key, ObservedAgent] = {}
        self._claims: dict[tuple[str, str], dict[Key, Claim]] = {}

    def get(self, key: Key) -> ObservedAgent | None:
        """The cached agent; None: there is none."""
        return self._agents.get(key)

    def all(self) -> list[ObservedAgent]:
        """Every agent, in a list of its own: a scrape reads it in another thread."""
        return list(self._agents.values())

    def in_namespace(self, namespace: str) -> list[Key]:
        """The keys of all agents in a namespace."""
        return [key for key in self._agents if key.namespace == namespace]

    def update(self, document: Document) -> set[Key]:
        """Cache an agent as the API server returned it; returns the agents to reconcile because of the change."""
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
            return set()  # only labels or annotations changed
        return {key} | self._claim(before, seen)

    def update_from_response(self, document: Document) -> set[Key]:
        """Cache the response to a status write; returns the agents to reconcile.

        The response may arrive after the watch has reported the agent's deletion; it is ignored then. The written
        status itself needs no reconcile, only a new generation or a deletion does.
        """
        metadata = document["metadata"]
        before = self._agents.get(Key(metadata["namespace"], metadata["name"]))
        if before is None or before.uid != metadata["uid"]:
            return set()
        affected, after = self.update(document), self._agents[before.key]
        return affected if (after.generation, after.deleted) != (before.generation, before.deleted) else set()

    def remove(self, key: Key, uid: str) -> set[Key]:
        """Remove an agent that no longer exists; returns the agents to reconcile because of it.

        A newer agent with the same name has another uid and stays.
        """
        before = self._agents.get(key)
        if before is not None and before.uid != uid:
            return set()
        self._agents.pop(key, None)
        return {key} | self._claim(before, None)

    def holder(self, claim: Claim) -> Claim | None:
        """The claim of the other agent that holds the name; None: this claim holds it."""
        return holder(claim, self._claims.get((claim.server, claim.name), {}).values())

    def _claim(self, before: ObservedAgent | None, after: ObservedAgent | None) -> set[Key]:
        """Update the claims after an agent changed; returns the other agents with the same claim, before or now."""
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

"""Decides whether an object with a child's name is the agent's own. The controller never changes objects of others."""

from collections.abc import Iterable

from agentspec import KIND, Reason
from controller.desired.identity import Owner
from controller.observation import ObservedObject
from controller.policy.verdict import Verdict, false


def is_owned(owner: Owner, seen: ObservedObject) -> bool:
    """Whether the object was created for this AvatarAgent, not for an earlier one with the same name.

    The agent also adopts an object that this controller applied and that has no owner. Such an object lost its owner
    reference to an edit, or was orphaned on purpose with ``kubectl delete --cascade=orphan``.
    """
    return any(uid == owner.uid for _, _, uid in seen.owners) or (seen.applied and not seen.owners)


def shared_name_conflict(namespace: str, found: Iterable[tuple[str, ObservedObject | None]]) -> Verdict | None:
    """The first object shared by a namespace's agents that this controller did not create; None: there is none.

    `found`: kind and object. Only server-side apply by this controller marks an object as its own.
    """
    for kind, seen in found:
        if seen is not None and not seen.applied:
            return false(
                Reason.NAME_CONFLICT,
                f"{kind} {seen.name!r} exists but was not created by this controller, which does not change it. No "
                "worker starts until it is gone. Rename or delete it: "
                f"kubectl -n {namespace} delete {kind.lower()} {seen.name}",
            )
    return None


def name_conflict(owner: Owner, found: Iterable[tuple[str, ObservedObject | None]]) -> Verdict | None:
    """The first object with a child's name that is not the agent's own; None: there is none.

    `found`: kind and object.
    """
    for kind, seen in found:
        if seen is None or is_owned(owner, seen):
            continue
        if any((kind, name) == (KIND, owner.name) for kind, name, _ in seen.owners):
            problem = (
                f"belongs to a deleted {KIND} with the same name. The controller retries until Kubernetes has removed "
                "it."
            )
        else:
            problem = (
                f"was not created for this {KIND}; the controller does not change it. Rename or delete it "
                f"(kubectl -n {owner.namespace} delete {kind.lower()} {seen.name}), or rename the {KIND}."
            )
        return false(Reason.NAME_CONFLICT, f"{kind} {seen.name!r} exists but {problem}")
    return None

"""Decides whether what stands under a child's name is the agent's own: what belongs to others is never touched."""

from collections.abc import Iterable

from agentspec import KIND, Reason
from controller.desired.identity import Owner
from controller.observation import ObservedObject
from controller.policy.verdict import Verdict, false


def owned(owner: Owner, seen: ObservedObject) -> bool:
    """Whether the object was made for this very AvatarAgent, not for an earlier one of the same name.

    One that this operator made and that has no owner any more is taken up: somebody removed the reference, or an
    earlier AvatarAgent was deleted with ``--cascade=orphan``, which asks for just that.
    """
    return any(uid == owner.uid for _, _, uid in seen.owners) or (seen.applied and not seen.owners)


def not_ours(namespace: str, found: Iterable[tuple[str, ObservedObject | None]]) -> Verdict | None:
    """The first object, of those that should serve a whole namespace, that somebody else made; None: there is none."""
    for kind, seen in found:
        if seen is not None and not seen.applied:
            return false(
                Reason.APPLY_REFUSED,
                f"{kind} {seen.name!r} exists and was not made by this operator, so it is left alone, and no worker is "
                f"started without it. Rename or delete it: kubectl -n {namespace} delete {kind.lower()} {seen.name}",
            )
    return None


def foreign(owner: Owner, found: Iterable[tuple[str, ObservedObject | None]]) -> Verdict | None:
    """The first object, of those found by kind, that belongs to somebody else; None: there is none."""
    for kind, seen in found:
        if seen is None or owned(owner, seen):
            continue
        if any((kind, name) == (KIND, owner.name) for kind, name, _ in seen.owners):
            told = f"belongs to a deleted {KIND} of the same name: it is tried again until Kubernetes has removed it."
        else:
            told = (
                f"was not made for this {KIND}, so it is left alone. Rename or delete it "
                f"(kubectl -n {owner.namespace} delete {kind.lower()} {seen.name}), or rename the {KIND}."
            )
        return false(Reason.APPLY_REFUSED, f"{kind} {seen.name!r} exists and {told}")
    return None

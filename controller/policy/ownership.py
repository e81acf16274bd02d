"""Decides whether what stands under a child's name is the agent's own: what belongs to others is never touched."""

from collections.abc import Iterable, Mapping
from typing import Any

from agentspec import KIND, Reason
from controller.desired.identity import Owner
from controller.policy.verdict import Verdict, false


def owned(owner: Owner, document: Mapping[str, Any]) -> bool:
    """Whether the object was made for this very AvatarAgent, not for an earlier one of the same name."""
    return any(reference["uid"] == owner.uid for reference in document["metadata"].get("ownerReferences") or [])


def foreign(owner: Owner, found: Iterable[tuple[str, Mapping[str, Any] | None]]) -> Verdict | None:
    """The first object, of those found by kind, that belongs to somebody else; None: there is none."""
    for kind, document in found:
        if document is None or owned(owner, document):
            continue
        name = document["metadata"]["name"]
        if _predecessor(owner, document):
            told = f"belongs to a deleted {KIND} of the same name: it is tried again until Kubernetes has removed it."
        else:
            told = (
                f"was not made for this {KIND}, so it is left alone. Rename or delete it "
                f"(kubectl -n {owner.namespace} delete {kind.lower()} {name}), or rename the {KIND}."
            )
        return false(Reason.APPLY_REFUSED, f"{kind} {name!r} exists and {told}")
    return None


def _predecessor(owner: Owner, document: Mapping[str, Any]) -> bool:
    references = document["metadata"].get("ownerReferences") or []
    return any(reference["kind"] == KIND and reference["name"] == owner.name for reference in references)

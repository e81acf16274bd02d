"""Decides whether a child has to be applied: it is missing, should be another, or somebody changed it. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.observation import ObservedObject


@dataclass(frozen=True, slots=True)
class Applied:
    """What was applied last, and what the API server made of it."""

    digest: str
    seen: ObservedObject


def digest(document: Mapping[str, Any]) -> str:
    """Tells one document from another."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def must_apply(document: Mapping[str, Any], seen: ObservedObject | None, applied: Applied | None) -> bool:
    """`seen`: the child as it is, None when there is none. `applied`: None after a restart; then everything is applied
    once, which changes nothing where nothing differs.

    Kubernetes counts changes of a spec as its generation, so nobody has to compare fields that it rewrites.
    """
    if seen is None or applied is None or applied.digest != digest(document):
        return True
    before = applied.seen
    if (seen.uid, seen.generation, seen.content) != (before.uid, before.generation, before.content):
        return True
    metadata = document["metadata"]
    owners = {(owner["kind"], owner["name"], owner["uid"]) for owner in metadata.get("ownerReferences", ())}
    return not (metadata["labels"].items() <= seen.labels.items() and owners <= set(seen.owners))

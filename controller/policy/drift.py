"""Decides whether a child has to be applied: it is missing, its document changed, or another client edited it. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.observation import ObservedObject


@dataclass(frozen=True, slots=True)
class Applied:
    """The document that was applied last, and the object that resulted."""

    digest: str
    seen: ObservedObject


def digest(document: Mapping[str, Any]) -> str:
    """A hash that differs between any two different documents."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def must_apply(document: Mapping[str, Any], seen: ObservedObject | None, applied: Applied | None) -> bool:
    """Whether to apply the document.

    `seen`: the cached child; None: there is none. `applied`: None after a restart. Every child is then applied once,
    which changes nothing where nothing differs.

    Kubernetes increments `metadata.generation` when a spec changes. Comparing it avoids comparing fields that the API
    server sets or rewrites.
    """
    if seen is None or applied is None or applied.digest != digest(document):
        return True
    before = applied.seen
    if (seen.uid, seen.generation, seen.content) != (before.uid, before.generation, before.content):
        return True
    metadata = document["metadata"]
    owners = {(owner["kind"], owner["name"], owner["uid"]) for owner in metadata.get("ownerReferences", ())}
    return not (metadata["labels"].items() <= seen.labels.items() and owners <= set(seen.owners))

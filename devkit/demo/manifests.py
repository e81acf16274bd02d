"""Changes the manifests in `examples/` for the demo: only base URLs and keys. Pure functions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]


@dataclass(frozen=True)
class Targets:
    """LiveKit and providers of the demo. An empty URL leaves the manifest as it is: the provider's real URL."""

    livekit_url: str
    livekit_key: str
    livekit_secret: str
    openai_url: str
    openai_key: str
    tavus_url: str
    tavus_key: str


@dataclass(frozen=True)
class Change:
    """A value that differs from the committed manifest. A secret value is not shown."""

    where: str
    value: str


def load(folder: Path, pattern: str = "*.yaml") -> list[Document]:
    """Return every document of a folder's YAML files that match, in the order of the file names."""
    return [
        document
        for path in sorted(folder.glob(pattern))
        for document in yaml.safe_load_all(path.read_text())
        if document is not None
    ]


def retarget(documents: list[Document], targets: Targets) -> tuple[list[Document], list[Change]]:
    """Return the documents with the URLs and keys of `targets`, and every change."""
    changes: list[Change] = []
    pointed = [_point_one(document, targets, changes) for document in documents]
    return pointed, changes


def _point_one(document: Document, targets: Targets, changes: list[Change]) -> Document:
    name = document["metadata"]["name"]
    if document["kind"] == "AvatarAgent":
        spec = document["spec"]
        result = _with(document, ["spec", "livekit", "url"], targets.livekit_url, f"{name} spec.livekit.url", changes)
        if "openai" in spec["voice"]:
            path = ["spec", "voice", "openai", "baseURL"]
            result = _with(result, path, targets.openai_url, f"{name} spec.voice.openai.baseURL", changes)
        if "tavus" in spec.get("avatar", {}):
            path = ["spec", "avatar", "tavus", "baseURL"]
            result = _with(result, path, targets.tavus_url, f"{name} spec.avatar.tavus.baseURL", changes)
        return result
    if document["kind"] == "Secret":
        keys: dict[str, dict[str, str]] = {
            "livekit": {"apiKey": targets.livekit_key, "apiSecret": targets.livekit_secret},
            "openai": {"apiKey": targets.openai_key},
            "tavus": {"apiKey": targets.tavus_key},
        }
        values = keys.get(name.rsplit("-", 1)[1]) or document["stringData"]
        changes += [Change(f"Secret {name} {key}", "(a key)") for key in values]
        return {**document, "stringData": values}
    return document


def _with(document: Document, path: list[str], value: str, where: str, changes: list[Change]) -> Document:
    if not value:
        return document
    if len(path) == 1:
        changes.append(Change(where, value))
        return {**document, path[0]: value}
    return {**document, path[0]: _with(document.get(path[0], {}), path[1:], value, where, changes)}

"""Reads an AvatarAgent from a file, and the Secrets and ConfigMaps that it may refer to."""

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from agentspec import KIND
from controller.inputs import textfile
from controller.observation import ObservedConfigMap

DEFAULT_NAMESPACE = "default"
_SUFFIXES = (".yaml", ".yml")
_MAX_FILE_BYTES = 4 * 1024 * 1024

Document = Mapping[str, Any]


class ManifestError(Exception):
    """The file cannot be used. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One AvatarAgent, with the Secrets and ConfigMaps of its namespace."""

    path: Path
    agent: Document
    """As in the file, not yet validated."""
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """Values by name and key."""
    config_maps: Mapping[str, ObservedConfigMap] = field(default_factory=dict, repr=False)
    files: tuple[Path, ...] = ()
    """All files that were read."""

    @property
    def name(self) -> str:
        """Name of the resource."""
        return str(self.agent["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Namespace of the resource."""
        return _namespace(self.agent)


def load(path: Path) -> Manifest:
    """Read the file, and Secrets and ConfigMaps from the other manifests of its folder. Raises ManifestError.

    An object in the file itself has priority. Other files that are no manifests are ignored.
    """
    documents = _documents(path)
    agents = [document for document in documents if document.get("kind") == KIND]
    if len(agents) != 1:
        found = ", ".join(str(_mapping(agent, "metadata").get("name")) for agent in agents) or "none"
        raise ManifestError(f"{path} must contain one {KIND}; it contains {found}")
    (agent,) = agents
    if not isinstance(_mapping(agent, "metadata").get("name"), str):
        raise ManifestError(f"{path}: metadata.name is required")
    secrets: dict[str, Mapping[str, str]] = {}
    config_maps: dict[str, ObservedConfigMap] = {}
    files = [path, *_beside(path)]
    for file in files:
        for document in documents if file == path else _readable(file):
            name = _mapping(document, "metadata").get("name")
            if _namespace(document) != _namespace(agent) or document.get("apiVersion") != "v1":
                continue
            if document.get("kind") == "Secret":
                secrets.setdefault(str(name), _secret_values(document))
            elif document.get("kind") == "ConfigMap":
                config_maps.setdefault(str(name), _config_map(str(name), document))
    return Manifest(path, agent, secrets, config_maps, tuple(files))


def _documents(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ManifestError(f"{path} has more than {_MAX_FILE_BYTES} bytes")
        found = list(yaml.load_all(path.read_bytes(), Loader=_Loader))
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ManifestError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    return [document for document in found if isinstance(document, dict)]


class _Loader(yaml.SafeLoader):
    """Reads YAML as Kubernetes does: dates stay texts, and a key may not occur twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if (key := key_node.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} occurs twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _readable(path: Path) -> list[dict[str, Any]]:
    try:
        return _documents(path)
    except ManifestError:
        return []


def _beside(path: Path) -> Iterator[Path]:
    """Yield the other manifests of the file's folder, in the order of `kubectl apply -f FOLDER`."""
    folder = path.parent
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file() and entry.name.endswith(_SUFFIXES))
    yield from (folder / name for name in names if folder / name != path)


def _mapping(document: Document, field_name: str) -> Document:
    """Return a field that holds a mapping; an empty one when it is absent, or of another type."""
    value = document.get(field_name)
    return value if isinstance(value, dict) else {}


def _namespace(document: Document) -> str:
    return str(_mapping(document, "metadata").get("namespace") or DEFAULT_NAMESPACE)


def _secret_values(document: Document) -> dict[str, str]:
    """Return the values by key, as the API server stores them: `stringData` has priority."""
    values = {str(key): _decoded(value) for key, value in _mapping(document, "data").items()}
    return values | {str(key): str(value).strip() for key, value in _mapping(document, "stringData").items()}


def _decoded(encoded: object) -> str:
    try:
        return base64.b64decode(str(encoded or ""), validate=True).decode(errors="replace").strip()
    except binascii.Error:
        return "\N{REPLACEMENT CHARACTER}"


def _config_map(name: str, document: Document) -> ObservedConfigMap:
    texts = {str(key): textfile.normalised(str(value or "")) for key, value in _mapping(document, "data").items()}
    faults = {}
    for key, encoded in _mapping(document, "binaryData").items():
        try:
            texts[str(key)] = textfile.decoded(base64.b64decode(str(encoded or "")))
        except (textfile.NotText, binascii.Error) as fault:
            faults[str(key)] = str(fault)
    return ObservedConfigMap(name, texts, faults)

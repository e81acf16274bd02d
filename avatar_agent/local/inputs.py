"""The inputs of a worker on this machine: what the controller makes of a manifest, with Secrets from files.

Configuration and variables come from the controller's own pure functions (`controller.desired`, `controller.policy`).
A variable of this shell has priority over the Secret's key that it stands for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agentspec import AvatarAgentSpec, WorkerConfig
from agentspec.names import AVATAR_KEY_VARIABLE
from avatar_agent.local.manifest import Manifest
from controller.desired.configmap import worker_config
from controller.desired.deployment import pod_template
from controller.desired.identity import Owner
from controller.observation import ObservedConfigMap
from controller.policy.environment import environment_sources
from controller.policy.knowledge import knowledge_loaded, texts, wanted_config_maps
from controller.policy.verdict import Verdict

PLACEHOLDER: Final = "replace-with-"
"""How values begin that the examples ask their readers to replace."""
LIVEKIT_VARIABLES: Final = ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
AVATAR_VARIABLES: Final = ("TAVUS_API_KEY", AVATAR_KEY_VARIABLE)
_POD_ONLY: Final = ("PROMETHEUS_MULTIPROC_DIR",)
"""Variables of a pod that name a folder of its image; a worker without one chooses its own."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A variable whose value is missing, or still the placeholder of an example."""

    variable: str
    text: str


@dataclass(frozen=True, slots=True)
class Variables:
    """The environment variables that a worker's pod would have, with their values."""

    values: Mapping[str, str] = field(repr=False)
    problems: tuple[Problem, ...]
    secrets: Mapping[str, Mapping[str, str]] = field(repr=False)
    """The same values by the name and key of their Secrets."""

    def lacks(self, names: tuple[str, ...]) -> bool:
        """Whether one of these variables has no usable value."""
        return any(problem.variable in names for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a worker needs besides its code."""

    spec: AvatarAgentSpec
    config: WorkerConfig
    variables: Variables
    knowledge: Verdict


def variables_of(manifest: Manifest, spec: AvatarAgentSpec, shell: Mapping[str, str]) -> Variables:
    """The variables of the workers. `shell`: the environment that has priority over Secrets."""
    owner = Owner(manifest.namespace, manifest.name, "local")
    template = pod_template(owner, spec, default_image="local", config_map_name="local", credentials="")
    (container,) = template["spec"]["containers"]
    values: dict[str, str] = {}
    problems: list[Problem] = []
    secrets: dict[str, dict[str, str]] = {}
    for entry in container.get("envFrom", []):
        found = _all_keys(manifest, entry)
        if found is None:
            problems.append(Problem("", f"{_named(entry)} (spec.worker.envFrom) is in none of the files: add it"))
        values |= {f"{entry.get('prefix', '')}{key}": value for key, value in (found or {}).items()}
    for entry in container["env"]:
        name, origin = entry["name"], entry.get("valueFrom")
        if origin is None:
            values |= {} if name in _POD_ONLY else {name: entry["value"]}
            continue
        value = shell.get(name, "").strip() or _value(manifest, origin)
        if (text := _fault(name, origin, value)) != "":
            problems.append(Problem(name, text))
        values[name] = value or ""
        if (reference := origin.get("secretKeyRef")) is not None:
            secrets.setdefault(reference["name"], {})[reference["key"]] = value or ""
    return Variables(values, tuple(problems), secrets)


def inputs_of(manifest: Manifest, spec: AvatarAgentSpec, shell: Mapping[str, str]) -> Inputs:
    """The inputs of a worker with this spec, which is the manifest's or made from it."""
    owner = Owner(manifest.namespace, manifest.name, "local")
    seen = {name: manifest.config_maps.get(name, ObservedConfigMap(name, None)) for name in wanted_config_maps(spec)}
    variables = variables_of(manifest, spec, shell)
    config = worker_config(owner, spec, *texts(spec, seen), secret_variables=list(_secret_variables(manifest, spec)))
    return Inputs(spec, config, variables, knowledge_loaded(manifest.namespace, spec, seen))


def _secret_variables(manifest: Manifest, spec: AvatarAgentSpec) -> Iterator[str]:
    for source in environment_sources(spec):
        if source.kind == "Secret" and source.key:
            yield source.variable
        elif source.kind == "Secret":
            yield from (source.variable + key for key in manifest.secrets.get(source.name, {}))


def _all_keys(manifest: Manifest, entry: Mapping[str, Any]) -> Mapping[str, str] | None:
    if "secretRef" in entry:
        return manifest.secrets.get(entry["secretRef"]["name"])
    found = manifest.config_maps.get(entry["configMapRef"]["name"])
    return None if found is None else found.texts


def _value(manifest: Manifest, origin: Mapping[str, Any]) -> str | None:
    if (secret := origin.get("secretKeyRef")) is not None:
        return manifest.secrets.get(secret["name"], {}).get(secret["key"])
    reference = origin["configMapKeyRef"]
    found = manifest.config_maps.get(reference["name"])
    return ((found.texts if found else None) or {}).get(reference["key"])


def _fault(variable: str, origin: Mapping[str, Any], value: str | None) -> str:
    """Return why a variable has no usable value, and what to do; empty: it has one."""
    place = f"key {next(iter(origin.values()))['key']!r} of {_named(origin)}"
    if not value:
        return f"{place} is in none of the files: add it, or set the variable {variable}"
    if value.startswith(PLACEHOLDER):
        return f"{place} is still {value!r}: set its value, or the variable {variable}"
    return ""


def _named(reference: Mapping[str, Any]) -> str:
    kind, target = next((kind, target) for kind, target in reference.items() if kind != "prefix")
    return f"{'Secret' if kind.startswith('secret') else 'ConfigMap'} {target['name']!r}"

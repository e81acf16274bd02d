"""The Secrets and ConfigMaps behind `worker.env` and `worker.envFrom`: which are missing, and when values changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentspec import AvatarAgentSpec, Reason
from controller.observation import ReadFailure
from controller.policy.reading import unreadable
from controller.policy.verdict import Verdict, false
from controller.policy.wording import listed


@dataclass(frozen=True, slots=True)
class Source:
    """A Secret or ConfigMap that variables come from, and the field that names it."""

    kind: str
    """``Secret`` or ``ConfigMap``."""
    name: str
    field: str
    key: str = ""
    """The one key that is used; empty: every key."""
    variable: str = ""
    """Name of the variable, or with every key the prefix of all."""


@dataclass(frozen=True, slots=True)
class ObservedSource:
    """What is in a Secret or ConfigMap."""

    values: Mapping[str, str] | None
    """None: it does not exist or could not be read."""
    read_failure: ReadFailure | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """The values of all variables that refer to objects."""

    fault: Verdict | None = None
    """Why they are not complete; None: they are."""
    values: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Names and values."""
    secret_variables: tuple[str, ...] = ()
    """Names of the variables that come from Secrets."""


Seen = Mapping[tuple[str, str], ObservedSource]
"""Objects by kind and name."""


def environment_sources(spec: AvatarAgentSpec) -> list[Source]:
    """All references of the variables. Two may name the same object."""
    found = []
    for variable in spec.worker.env:
        origin = variable.value_from
        if origin is None:
            continue
        where = f"spec.worker.env[{variable.name}].valueFrom"
        if (secret := origin.secret_key_ref) is not None:
            found.append(Source("Secret", secret.name, f"{where}.secretKeyRef", secret.key, variable.name))
        if (config_map := origin.config_map_key_ref) is not None:
            found.append(
                Source("ConfigMap", config_map.name, f"{where}.configMapKeyRef", config_map.key, variable.name)
            )
    for index, source in enumerate(spec.worker.env_from):
        where = f"spec.worker.envFrom[{index}]"
        if source.secret_ref is not None:
            found.append(Source("Secret", source.secret_ref.name, f"{where}.secretRef", variable=source.prefix))
        if source.config_map_ref is not None:
            found.append(
                Source("ConfigMap", source.config_map_ref.name, f"{where}.configMapRef", variable=source.prefix)
            )
    return found


def environment_of(namespace: str, sources: list[Source], seen: Seen) -> Environment:
    """The variables, or the first object or key that is missing or cannot be read."""
    values: list[tuple[str, str]] = []
    secret = []
    for source in sources:
        observed = seen[source.kind, source.name]
        if (fault := _fault(namespace, source, observed)) is not None:
            return Environment(fault)
        assert observed.values is not None  # otherwise there is a fault
        if source.key:
            variables = [(source.variable, observed.values[source.key])]
        else:
            variables = [(source.variable + key, value) for key, value in sorted(observed.values.items())]
        values += variables
        if source.kind == "Secret":
            secret += [name for name, _ in variables]
    return Environment(None, tuple(values), tuple(secret))


def _fault(namespace: str, source: Source, seen: ObservedSource) -> Verdict | None:
    is_secret = source.kind == "Secret"
    if seen.read_failure is not None:
        reason = Reason.SECRET_UNREADABLE if is_secret else Reason.CONFIG_MAP_UNREADABLE
        names = {"field": source.field, "namespace": namespace}
        return unreadable(reason, source.kind, source.name, **names, failure=seen.read_failure)
    kind = "secret generic" if is_secret else "configmap"
    if seen.values is None:
        return false(
            Reason.SECRET_NOT_FOUND if is_secret else Reason.CONFIG_MAP_NOT_FOUND,
            f"{source.kind} {source.name!r} ({source.field}) does not exist in namespace {namespace!r}. Correct the "
            f"name, or create the {source.kind}: "
            f"kubectl -n {namespace} create {kind} {source.name} --from-literal={source.key or 'KEY'}=…",
        )
    if source.key and source.key not in seen.values:
        return false(
            Reason.SECRET_KEY_MISSING if is_secret else Reason.CONFIG_MAP_KEY_MISSING,
            f"{source.kind} {source.name!r} ({source.field}) has no key {source.key!r}. Its keys: "
            f"{listed(seen.values)}. Correct the key, or add it: "
            f"kubectl -n {namespace} edit {kind.split()[0]} {source.name}",
        )
    return None

"""The worker pods: their calls, their resources, and where they run."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agentspec.environment import MAX_VARIABLES, EnvironmentSource, EnvironmentVariable
from agentspec.fields import DNS_SUBDOMAIN, LocalRef, Quantity, matches, rules, text
from agentspec.model import Model

_LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = f"({DNS_SUBDOMAIN}/)?{_LABEL_NAME}"
_LABEL_VALUE = f"^({_LABEL_NAME})?$"
_IMAGE_PART = r"[a-z0-9]+([._-]+[a-z0-9]+)*"
_IMAGE = (
    rf"^(([A-Za-z0-9][-A-Za-z0-9.]*(:[0-9]{{1,5}})?/)?{_IMAGE_PART}(/{_IMAGE_PART})*"
    r"(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@[a-z0-9]+:[a-f0-9]{32,128})?)?$"
)
"""An image reference as in github.com/distribution/reference, or an empty text."""
_DOTTED_NAME = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
_CODE = f"^({_DOTTED_NAME}:{_DOTTED_NAME})?$"
"""A module and a name in it, or an empty text."""

_LabelValue = Annotated[
    str,
    text(
        _LABEL_VALUE,
        "set a label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
        max_length=63,
    ),
]

_LABEL_KEYS = (
    f"self.all(key, size(key) <= 317 && {matches(f'^{_LABEL_KEY}$', 'key')})",
    "set keys such as disktype or example.com/zone: an optional DNS prefix and '/', then letters, digits, '-', '_' "
    "and '.'",
)


class TolerationOperator(StrEnum):
    EQUAL = "Equal"
    EXISTS = "Exists"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(
    Model,
    json_schema_extra=rules(
        (
            "self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "operator Exists ignores the value: remove value or set operator: Equal",
        ),
        (
            "self.operator != 'Equal' || (has(self.key) && self.key != '')",
            "operator Equal needs a key: set key, or set operator: Exists to tolerate every taint",
        ),
        (
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs the effect NoExecute: set effect: NoExecute or remove tolerationSeconds",
        ),
    ),
):
    """A node taint that the workers tolerate, as in a pod."""

    key: Annotated[
        str,
        text(
            f"^({_LABEL_KEY})?$",
            "set a taint key such as dedicated or example.com/gpu",
            max_length=317,
        ),
    ] = Field(default="", description="Key of the taint. Empty, with operator Exists: every taint.")
    operator: TolerationOperator = Field(
        default=TolerationOperator.EQUAL, description="Equal: key and value must match. Exists: the key must match."
    )
    value: _LabelValue = Field(default="", description="Value of the taint for operator Equal.")
    effect: TaintEffect | None = Field(default=None, description="Effect of the taint. Unset: every effect.")
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=86400, description="Seconds that a worker stays after its node gets a NoExecute taint."
    )


class PodSettings(Model):
    """Where worker pods run, and their annotations. No setting can weaken a pod's security."""

    node_selector: dict[str, _LabelValue] = Field(
        default_factory=dict,
        max_length=16,
        json_schema_extra=rules(_LABEL_KEYS),
        description="Labels that a node must have.",
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=16, description="Node taints that the workers tolerate."
    )
    priority_class_name: Annotated[
        str,
        text(
            f"^({DNS_SUBDOMAIN})?$",
            "set a PriorityClass name: lower-case letters, digits, '-' and '.'",
            max_length=253,
        ),
    ] = Field(default="", description="PriorityClass of the pods. Empty: the cluster's default.")
    image_pull_secrets: list[LocalRef] = Field(
        default_factory=list,
        max_length=8,
        # As in a pod: with a duplicate name Kubernetes would reject the Deployment without a clear message.
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Secrets with which the node pulls the worker image, each listed once.",
    )
    annotations: dict[str, Annotated[str, Field(max_length=1024)]] = Field(
        default_factory=dict,
        max_length=16,
        json_schema_extra=rules(
            _LABEL_KEYS,
            (
                "self.all(key, !key.contains('avataragents.io/') && !key.contains('.security.') "
                "&& !key.startsWith('controller.kubernetes.io/'))",
                "remove annotations of avataragents.io/, controller.kubernetes.io/ and *.security.*: they are reserved "
                "for the operator, or could weaken the pod",
            ),
        ),
        description="Annotations of the pods, such as `cluster-autoscaler.kubernetes.io/safe-to-evict`.",
    )


_RESOURCE_KEYS = (
    "self.all(key, key in ['cpu', 'memory', 'ephemeral-storage'] || "
    f"{matches(f'^{DNS_SUBDOMAIN}/{_LABEL_NAME}$', 'key')})",
    "set cpu, memory, ephemeral-storage, or an extended resource with its domain such as nvidia.com/gpu",
)


class ResourcesSpec(
    Model,
    json_schema_extra=rules(
        (
            "!has(self.requests) || !has(self.limits) || self.requests.all(key, !(key in self.limits) || "
            "!isQuantity(string(self.requests[key])) || !isQuantity(string(self.limits[key])) || "
            "quantity(string(self.requests[key])).compareTo(quantity(string(self.limits[key]))) <= 0)",
            "a request must not exceed its limit: lower it in resources.requests or raise it in resources.limits "
            "(by default cpu 250m of 2, memory 512Mi of 2Gi)",
        )
    ),
):
    """Compute resources of a worker pod, as Kubernetes quantities."""

    requests: dict[str, Quantity] = Field(
        default={"cpu": "250m", "memory": "512Mi"},
        max_length=8,
        json_schema_extra=rules(_RESOURCE_KEYS),
        description="Resources reserved. Set fractions with a unit or in quotes: `cpu: 500m` or `cpu: '0.5'`.",
    )
    limits: dict[str, Quantity] = Field(
        default={"cpu": "2", "memory": "2Gi"},
        max_length=8,
        json_schema_extra=rules(_RESOURCE_KEYS),
        description="Resources allowed. Your value replaces the whole default: `{cpu: 2}` leaves "
        "memory without a limit. Always set a CPU limit: without one the SDK sizes itself for the whole node.",
    )


class WorkerSpec(Model):
    """The worker pods."""

    image: Annotated[str, text(_IMAGE, "set an image such as registry.example.com/team/worker:1.0", max_length=512)] = (
        Field(default="", description="Worker image. Empty: the image of this operator release.")
    )
    agent: Annotated[
        str,
        text(_CODE, "set a module and a name in it such as my_company.agents:Receptionist", max_length=256),
    ] = Field(
        default="",
        description="Own code in the worker image, as `module:Name`: a subclass of `livekit.agents.Agent`, or a "
        "function that returns one. Empty: the stock agent.",
    )
    env: list[EnvironmentVariable] = Field(
        default_factory=list,
        max_length=MAX_VARIABLES,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Environment variables for own code: `- {name: NAME, value: TEXT}`, or with `valueFrom`. A changed "
        "value rolls out.",
    )
    env_from: list[EnvironmentSource] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets and ConfigMaps of which every key is a variable: `- secretRef: {name: NAME}`. A changed "
        "value rolls out.",
    )
    calls_per_worker: int = Field(
        default=4, ge=1, le=100, description="Calls that one worker takes at once: its slots."
    )
    max_call_minutes: int = Field(
        default=60,
        ge=1,
        le=720,
        description="Minutes after which the worker ends a call. A worker drains for at most this time and seven "
        "minutes.",
    )
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec, description="Compute resources of a worker.")
    pod: PodSettings = Field(default_factory=PodSettings, description="Where worker pods run, and their annotations.")

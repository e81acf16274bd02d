"""Environment variables of the worker pods for own code, as in a pod, with Secrets and ConfigMaps by reference."""

from typing import Annotated

from pydantic import Field

from agentspec.fields import ConfigMapKeyRef, LocalRef, SecretKeyRef, matches, rules, text
from agentspec.model import Model

OWN_PREFIX = "AVATAR_AGENT_"
"""Prefix of the variables by which the operator configures a worker."""
RESERVED_VARIABLES = (
    "LIVEKIT_API_KEY",
    "LIVEKIT_API_SECRET",
    "PROMETHEUS_MULTIPROC_DIR",
    "LIVEKIT_AGENT_NAME",
    "LIVEKIT_AGENT_NAME_OVERRIDE",
    "LIVEKIT_AGENT_DEPLOYMENT",
    "LIVEKIT_WORKER_TOKEN",
    "LIVEKIT_INFERENCE_URL",
)
"""Variables that the operator sets from other fields, or that a worker removes because they contradict its
configuration. `agentspec.resource` reserves those of a provider where it is in use."""
MAX_VARIABLES = 64
_MAX_VALUE_LENGTH = 4096
_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"


class VariableSource(
    Model,
    json_schema_extra=rules(
        (
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "set exactly one of secretKeyRef and configMapKeyRef",
        )
    ),
):
    """Where a variable's value is."""

    secret_key_ref: SecretKeyRef | None = Field(default=None, description="Key of a Secret: `{name: NAME, key: KEY}`.")
    config_map_key_ref: ConfigMapKeyRef | None = Field(
        default=None, description="Key of a ConfigMap: `{name: NAME, key: KEY}`."
    )


class EnvironmentVariable(
    Model,
    json_schema_extra=rules(
        ("has(self.value) != has(self.valueFrom)", "set exactly one of value and valueFrom"),
        (
            f"!self.name.startsWith('{OWN_PREFIX}') && !(self.name in {list(RESERVED_VARIABLES)})",
            f"choose another name: the operator sets the variables {OWN_PREFIX}*, {', '.join(RESERVED_VARIABLES)}",
        ),
    ),
):
    """An environment variable of the workers."""

    name: Annotated[
        str,
        text(_NAME, "set a variable name of letters, digits and '_' that does not begin with a digit", max_length=128),
    ] = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=_MAX_VALUE_LENGTH)] | None = Field(
        default=None, description="The value. Keep secrets in a Secret, and refer to it in `valueFrom`."
    )
    value_from: VariableSource | None = Field(
        default=None, description="Where the value is: `secretKeyRef` or `configMapKeyRef`."
    )


class EnvironmentSource(
    Model,
    json_schema_extra=rules(
        ("has(self.secretRef) != has(self.configMapRef)", "set exactly one of secretRef and configMapRef"),
        (
            f"!has(self.prefix) || self.prefix == '' || {matches(_NAME, 'self.prefix')}",
            "set a prefix of letters, digits and '_' that does not begin with a digit",
        ),
    ),
):
    """A Secret or ConfigMap of which every key is an environment variable of the workers."""

    prefix: str = Field(default="", max_length=64, description="Text before each variable's name.")
    secret_ref: LocalRef | None = Field(default=None, description="The Secret: `{name: NAME}`.")
    config_map_ref: LocalRef | None = Field(default=None, description="The ConfigMap: `{name: NAME}`.")

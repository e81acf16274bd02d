"""The controller's settings, from its environment."""

from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from process.settings import Port, ProcessSettings

LEASE_NAME: Final = "avatar-agent-controller"


class ControllerSettings(ProcessSettings):
    """Everything that differs between installations."""

    worker_image: str = Field(validation_alias="WORKER_IMAGE", description="the worker image of this release")
    """Image of workers whose AvatarAgent names none."""
    pod_name: str | None = Field(
        default=None, validation_alias="POD_NAME", description="the name of this pod, which is labelled while it leads"
    )
    pod_namespace: str | None = Field(
        default=None,
        validation_alias="POD_NAMESPACE",
        description="this pod's namespace, or leave out POD_NAME outside a cluster",
    )
    lease_namespace: str = Field(
        default_factory=lambda earlier: earlier["pod_namespace"],
        validation_alias="LEASE_NAMESPACE",
        description="the namespace of the Lease by which controllers elect a leader",
    )
    lease_name: str = Field(
        default=LEASE_NAME,
        validation_alias="LEASE_NAME",
        description="the Lease's name: one per installation, the same for all its replicas",
    )
    operator_namespace: str | None = Field(
        default_factory=lambda earlier: earlier["pod_namespace"],
        validation_alias="OPERATOR_NAMESPACE",
        description="the namespace of controller and gateway, which connect to workers",
    )
    monitoring_namespace: str | None = Field(
        default=None,
        validation_alias="MONITORING_NAMESPACE",
        description="the namespace of Prometheus, which scrapes workers",
    )
    watch_namespace: str | None = Field(
        default=None, validation_alias="WATCH_NAMESPACE", description="the only namespace to serve; unset: all"
    )
    gateway_service_account: str | None = Field(
        default=None,
        validation_alias="GATEWAY_SERVICE_ACCOUNT",
        description="the username (system:serviceaccount:<namespace>:<name>) that may report demand; unset: none",
    )
    port: Port = Field(
        default=8080, validation_alias="HTTP_PORT", description="port of /livez, /readyz, /metrics and /v1/demand"
    )

    @field_validator("pod_namespace")
    @classmethod
    def _is_set_with_pod_name(cls, pod_namespace: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("pod_name") is not None and pod_namespace is None:
            raise ValueError("set without a namespace")
        return pod_namespace

    @property
    def worker_clients(self) -> tuple[str, ...]:
        """Namespaces that may connect to workers. Empty outside a cluster, where they are unknown: all may connect."""
        if self.operator_namespace is None:
            return ()
        return tuple(sorted({self.operator_namespace, self.monitoring_namespace or self.operator_namespace}))

"""The controller's settings: read from the environment once, frozen, passed down."""

from collections.abc import Mapping
from dataclasses import dataclass

LEASE_NAME = "avatar-agent-controller"


class SettingsError(Exception):
    """The environment lacks something; the message says what to set."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that differs between installations."""

    worker_image: str
    """Image of workers whose manifest names none."""
    lease_namespace: str
    """Where the Lease is by which one of several controllers leads."""
    lease_name: str = LEASE_NAME
    """The Lease: the same for all replicas of an installation, another one for another installation."""
    pod_name: str | None = None
    """The pod that this process runs in, which is labelled while it leads; None: in none."""
    pod_namespace: str | None = None
    """That pod's namespace."""
    operator_namespace: str | None = None
    """Namespace of controller and gateway, from which workers are asked for their state."""
    monitoring_namespace: str | None = None
    """Namespace of Prometheus, which scrapes workers; None: none does."""
    watch_namespace: str | None = None
    """The only namespace to serve; None: all of them."""
    gateway_service_account: str | None = None
    """Username (`system:serviceaccount:<namespace>:<name>`) that may report demand; None: nobody may."""
    port: int = 8080
    """Where /livez, /readyz, /metrics and /v1/demand are served."""

    @property
    def worker_clients(self) -> tuple[str, ...]:
        """Namespaces that may connect to workers; empty: not known, as outside a cluster, so everyone may."""
        if self.operator_namespace is None:
            return ()
        return tuple(sorted({self.operator_namespace, self.monitoring_namespace or self.operator_namespace}))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; raises SettingsError."""
        image = environment.get("WORKER_IMAGE", "")
        if not image:
            raise SettingsError("WORKER_IMAGE is not set: set it to the worker image of this release")
        port = environment.get("HTTP_PORT", "8080")
        if not port.isdigit() or int(port) > 65535:
            raise SettingsError(f"HTTP_PORT is {port!r}: set it to a port number, or leave it out for 8080")
        pod_name = environment.get("POD_NAME") or None
        pod_namespace = environment.get("POD_NAMESPACE") or None
        if pod_name is not None and pod_namespace is None:
            raise SettingsError("POD_NAME is set without POD_NAMESPACE: set both, or neither outside a cluster")
        lease_namespace = environment.get("LEASE_NAMESPACE") or pod_namespace
        if lease_namespace is None:
            raise SettingsError(
                "LEASE_NAMESPACE is not set: set it to the namespace in which the controllers' Lease is"
            )
        return cls(
            worker_image=image,
            lease_namespace=lease_namespace,
            lease_name=environment.get("LEASE_NAME") or LEASE_NAME,
            pod_name=pod_name,
            pod_namespace=pod_namespace,
            operator_namespace=environment.get("OPERATOR_NAMESPACE") or pod_namespace,
            monitoring_namespace=environment.get("MONITORING_NAMESPACE") or None,
            watch_namespace=environment.get("WATCH_NAMESPACE") or None,
            gateway_service_account=environment.get("GATEWAY_SERVICE_ACCOUNT") or None,
            port=int(port),
        )

"""The controller's settings: read from the environment once, frozen, passed down."""

from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(Exception):
    """The environment lacks something; the message says what to set."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that differs between installations."""

    worker_image: str
    """Image of workers whose manifest names none."""
    watch_namespace: str | None = None
    """The only namespace to serve; None: all of them."""
    gateway_service_account: str | None = None
    """Username (`system:serviceaccount:<namespace>:<name>`) that may report demand; None: nobody may."""
    port: int = 8080
    """Where /livez, /readyz, /metrics and /v1/demand are served."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; raises SettingsError."""
        image = environment.get("WORKER_IMAGE", "")
        if not image:
            raise SettingsError("WORKER_IMAGE is not set: set it to the worker image of this release")
        port = environment.get("HTTP_PORT", "8080")
        if not port.isdigit() or int(port) > 65535:
            raise SettingsError(f"HTTP_PORT is {port!r}: set it to a port number, or leave it out for 8080")
        return cls(
            worker_image=image,
            watch_namespace=environment.get("WATCH_NAMESPACE") or None,
            gateway_service_account=environment.get("GATEWAY_SERVICE_ACCOUNT") or None,
            port=int(port),
        )

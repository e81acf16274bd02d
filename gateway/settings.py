"""The gateway's settings, from its environment."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, field_validator

from process.settings import Port, ProcessSettings

WEB_DIR: Final = Path(__file__).resolve().parent / "web"


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
PerMinute = Annotated[int, Field(ge=1, le=100_000)]


class GatewaySettings(ProcessSettings):
    """Everything that differs between installations."""

    port: Port = Field(default=8080, validation_alias="PORT", description="TCP port for callers")
    probe_port: Port = Field(
        default=8081,
        validation_alias="PROBE_PORT",
        description="TCP port of /livez, /readyz and /metrics, reachable in the cluster only",
    )
    gateway_name: str = Field(
        default="gateway",
        validation_alias="POD_NAME",
        description="this pod's name, by which the controller tells gateways apart",
    )
    default_namespace: str = Field(
        default="default",
        validation_alias="DEFAULT_NAMESPACE",
        description="the namespace in which a plain agent name is looked up",
    )
    watch_namespace: str = Field(
        default="",
        validation_alias="WATCH_NAMESPACE",
        description="the only namespace whose AvatarAgents are served; unset: all",
    )
    api_keys_dir: Path | None = Field(
        default=None,
        validation_alias="API_KEYS_DIR",
        description="a folder with one API key per file, named <namespace>.<id> or <namespace>.<agent>.<id>; unset: no "
        "key is valid",
    )
    gateway_hosts: Annotated[tuple[HostName, ...], BeforeValidator(_split)] = Field(
        default=(),
        validation_alias="GATEWAY_HOSTS",
        description="the host names of the gateway's own page, in lower case and separated by commas; loopback hosts "
        "need no entry",
    )
    controller_url: str = Field(
        default="",
        validation_alias="CONTROLLER_URL",
        description="the controller's base URL; unset: free slots are unknown, and every call is dispatched at once",
    )
    controller_token_file: Path | None = Field(
        default=None,
        validation_alias="CONTROLLER_TOKEN_FILE",
        description="the file with the ServiceAccount token for the controller",
    )
    """Read again for every request, because the kubelet renews it."""
    trusted_proxy_hops: int = Field(
        default=0,
        ge=0,
        le=8,
        validation_alias="TRUSTED_PROXY_HOPS",
        description="proxies in front of the gateway that append to X-Forwarded-For",
    )
    """0: the peer's address is the caller's."""
    max_pending_per_agent: int = Field(
        default=50,
        ge=1,
        le=10_000,
        validation_alias="MAX_PENDING_PER_AGENT",
        description="calls that may wait for one agent; further calls are answered 429",
    )
    public_calls_per_minute: PerMinute = Field(
        default=30,
        validation_alias="PUBLIC_CALLS_PER_MINUTE",
        description="requests per minute without a valid key from one address; one burst may add as many",
    )
    key_calls_per_minute: PerMinute = Field(
        default=600,
        validation_alias="KEY_CALLS_PER_MINUTE",
        description="calls per minute with one API key; one burst may add as many",
    )
    agent_calls_per_minute: PerMinute = Field(
        default=600,
        validation_alias="AGENT_CALLS_PER_MINUTE",
        description="calls per minute to one agent; one burst may add as many",
    )
    livekit_client_dir: Path = Field(
        default=WEB_DIR / "assets",
        validation_alias="LIVEKIT_CLIENT_DIR",
        description="the folder with livekit-client.esm.mjs, which the call page loads",
    )
    """The image has the file in the default folder."""

    @field_validator("controller_url")
    @classmethod
    def _without_trailing_slash(cls, url: str) -> str:
        return url.rstrip("/")

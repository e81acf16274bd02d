"""The gateway's settings, from its environment."""

import json
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from process.settings import Port, ProcessSettings

WEB_DIR: Final = Path(__file__).resolve().parent / "web"


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _parse_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


class OidcIssuer(BaseModel):
    """An OpenID Connect issuer, and what its tokens for one audience may call."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)

    issuer: str = Field(max_length=512)
    """The claim `iss`, to the letter. Its configuration is at `/.well-known/openid-configuration` below this URL."""
    audience: str = Field(min_length=1, max_length=512)
    """A value of the claim `aud`."""
    namespaces: tuple[str, ...] = ()
    """Namespaces whose agents the tokens may call."""
    agents: tuple[Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")], ...] = ()
    """Agents that the tokens may call, as ``namespace/name``."""
    jwks_url: str = Field(default="", alias="jwksURL", max_length=512, pattern=r"^(https?://.+)?$")
    """URL of the public keys; empty: the one in the issuer's configuration."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.namespaces and not self.agents:
            raise ValueError("set namespaces or agents: tokens never call all agents")
        if not self.jwks_url and not self.issuer.startswith("https://"):
            raise ValueError("set an issuer with https, or jwksURL")
        return self


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
    internal_port: Port = Field(
        default=8082,
        validation_alias="INTERNAL_PORT",
        description="TCP port for other gateways, which forward requests to it",
    )
    pod_ip: str = Field(
        default="",
        validation_alias="POD_IP",
        description="this pod's IP address, at which other gateways reach it; unset: there are no others",
    )
    gateway_name: str = Field(
        default="gateway",
        validation_alias="POD_NAME",
        description="this pod's name; gateways and the controller know each process by it and a suffix",
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
    oidc_issuers: Annotated[tuple[OidcIssuer, ...], BeforeValidator(_parse_json)] = Field(
        default=(),
        validation_alias="OIDC_ISSUERS",
        description="a JSON list of issuers of tokens: each with issuer, audience, namespaces or agents, and perhaps "
        "jwksURL, which is the same for equal issuers; unset: no token is valid",
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

    @property
    def internal_address(self) -> str:
        """Where other gateways reach this one, as ``IP:PORT``; empty: they do not."""
        host = f"[{self.pod_ip}]" if ":" in self.pod_ip else self.pod_ip
        return f"{host}:{self.internal_port}" if host and self.controller_url else ""

    @field_validator("oidc_issuers")
    @classmethod
    def _with_one_source_of_keys(cls, issuers: tuple[OidcIssuer, ...]) -> tuple[OidcIssuer, ...]:
        sources = {(entry.issuer, entry.jwks_url) for entry in issuers}
        if len(sources) > len({entry.issuer for entry in issuers}):
            raise ValueError("set one jwksURL for each issuer")
        return issuers

    @field_validator("controller_url")
    @classmethod
    def _without_trailing_slash(cls, url: str) -> str:
        return url.rstrip("/")

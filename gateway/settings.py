"""What the gateway is told by its environment: read once, frozen, passed down."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

WEB_DIR = Path(__file__).resolve().parent / "web"


class SettingsError(Exception):
    """An environment variable that makes no sense; the message says what to write."""


@dataclass(frozen=True)
class Settings:
    """Everything that differs between installations."""

    port: int = 8080
    """TCP port for callers."""
    probe_port: int = 8081
    """TCP port for the cluster: probes and metrics, which are nobody else's."""
    gateway_name: str = "gateway"
    """This pod's name: how the controller tells gateways apart."""
    default_namespace: str = "default"
    """Namespace in which a plain agent name is looked up."""
    watch_namespace: str = ""
    """Namespace whose AvatarAgents are served; empty: all."""
    api_keys_dir: Path | None = None
    """Folder with one API key a file, the file's name being the key's id; None: no key is accepted."""
    controller_url: str = ""
    """Base URL of the controller; empty: free slots are not known, and every call is dispatched at once."""
    controller_token_file: Path | None = None
    """ServiceAccount token for the controller; read again for every request because the kubelet renews it."""
    trusted_proxy_hops: int = 0
    """Proxies in front of the gateway that append to X-Forwarded-For; 0: the peer's address is the caller's."""
    max_pending_per_agent: int = 50
    """Calls that may wait for one agent; more are answered 429."""
    public_calls_per_minute: int = 30
    """Calls a minute from one address to Public agents; as many again may come in one burst."""
    livekit_client_dir: Path = WEB_DIR / "assets"
    """Folder that holds livekit-client.esm.mjs, which the call page loads; images are built with it in this place."""


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from environment variables.

    Raises:
        SettingsError: a number is not a whole one or lies outside its bounds.
    """

    def path(name: str) -> Path | None:
        return Path(environment[name]) if environment.get(name) else None

    def number(name: str, default: int, lowest: int, highest: int) -> int:
        text = environment.get(name, str(default))
        if not text.isdigit() or not lowest <= int(text) <= highest:
            raise SettingsError(f"{name} is {text!r}: write a whole number between {lowest} and {highest}")
        return int(text)

    return Settings(
        port=number("PORT", Settings.port, 1, 65535),
        probe_port=number("PROBE_PORT", Settings.probe_port, 1, 65535),
        gateway_name=environment.get("POD_NAME") or Settings.gateway_name,
        default_namespace=environment.get("DEFAULT_NAMESPACE") or Settings.default_namespace,
        watch_namespace=environment.get("WATCH_NAMESPACE", ""),
        api_keys_dir=path("API_KEYS_DIR"),
        controller_url=environment.get("CONTROLLER_URL", "").rstrip("/"),
        controller_token_file=path("CONTROLLER_TOKEN_FILE"),
        trusted_proxy_hops=number("TRUSTED_PROXY_HOPS", Settings.trusted_proxy_hops, 0, 8),
        max_pending_per_agent=number("MAX_PENDING_PER_AGENT", Settings.max_pending_per_agent, 1, 10_000),
        public_calls_per_minute=number("PUBLIC_CALLS_PER_MINUTE", Settings.public_calls_per_minute, 1, 100_000),
        livekit_client_dir=path("LIVEKIT_CLIENT_DIR") or Settings.livekit_client_dir,
    )

"""Where calls come from: the LiveKit server, and which of its rooms reach the agent."""

from enum import StrEnum

from pydantic import Field

from agentspec.fields import LocalRef, Origin, PublishableKey, WebSocketURL, rules
from agentspec.model import Model


class DispatchMode(StrEnum):
    EXPLICIT = "Explicit"
    AUTOMATIC = "Automatic"


class DispatchAccess(StrEnum):
    AUTHENTICATED = "Authenticated"
    PUBLIC = "Public"


class LiveKitSpec(Model):
    """The LiveKit server: LiveKit Cloud or self-hosted."""

    url: WebSocketURL = Field(
        description="WebSocket URL (`wss://…`) that workers, controller and gateway connect to. Callers and the "
        "avatar's provider connect to it too, unless publicURL is set."
    )
    public_url: WebSocketURL | None = Field(
        default=None,
        description="WebSocket URL of the same server for callers and the avatar's provider, when pods reach it at "
        "another address. Browsers on an https page accept `wss://` only.",
    )
    credentials_secret_ref: LocalRef = Field(
        description="Secret that contains the keys `apiKey` and `apiSecret`, as `{name: NAME}`."
    )

    @property
    def caller_url(self) -> str:
        """URL for those who are not in the cluster: callers, and the avatar's provider."""
        return self.public_url or self.url


class DispatchSpec(
    Model,
    json_schema_extra=rules(
        (
            "self.access == 'Public' || !has(self.publishableKeys) || size(self.publishableKeys) == 0",
            "publishableKeys has no effect unless access is Public: set access: Public or remove publishableKeys",
        )
    ),
):
    """How calls reach the agent."""

    mode: DispatchMode = Field(
        default=DispatchMode.EXPLICIT,
        description="Explicit: the agent joins only rooms that it is dispatched to by name. Automatic: workers "
        "register without a name, and LiveKit dispatches one to every new room on the server. The gateway then takes "
        "no calls for the agent.",
    )
    room_name_pattern: str = Field(
        default=".*",
        max_length=256,
        description="Rooms that workers accept: a regular expression (Python). Workers decline and log other rooms. "
        "The gateway names its rooms `<literal prefix of the pattern><call id>`. Begin the pattern with `^` and a "
        "prefix, and leave the end open: `^ornina-`. The pattern may repeat single characters only, and at most "
        "three times without a fixed number.",
    )
    join_timeout_seconds: int = Field(
        default=10, ge=2, le=60, description="Seconds after the dispatch within which the agent must join the room."
    )
    access: DispatchAccess = Field(
        default=DispatchAccess.AUTHENTICATED,
        description="Authenticated: the gateway requires an API key or a token. Public: pages of allowed origins may "
        "call, and apps with a publishable key.",
    )
    allowed_origins: list[Origin] = Field(
        default_factory=list,
        max_length=32,
        description="Exact origins (scheme, host, port) whose pages may call a Public agent. The gateway's own page "
        "may call under the hosts in `gateway.hosts` of the chart, and under loopback hosts. Pages of these origins "
        "may also follow a call to an Authenticated agent, with its call token.",
    )
    publishable_keys: list[PublishableKey] = Field(
        default_factory=list,
        max_length=8,
        description="Keys by which native apps, which have no origin, call a Public agent: header `X-Publishable-Key`. "
        "They are no secrets, since anyone can read them in the app. Remove a key to stop the calls of its app.",
    )

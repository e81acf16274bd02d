"""Where calls come from: the LiveKit server, and how its rooms reach the agent."""

from enum import StrEnum

from pydantic import Field

from agentspec.fields import LocalRef, Origin, WebSocketURL, rules
from agentspec.model import Model


class DispatchMode(StrEnum):
    EXPLICIT = "Explicit"
    AUTOMATIC = "Automatic"


class DispatchAccess(StrEnum):
    AUTHENTICATED = "Authenticated"
    PUBLIC = "Public"


class LiveKitSpec(Model):
    """The LiveKit server, Cloud or self-hosted."""

    url: WebSocketURL = Field(description="WebSocket URL (`wss://…`) that workers and callers reach.")
    credentials_secret_ref: LocalRef = Field(
        description="Secret with the keys `apiKey` and `apiSecret`, as `{name: NAME}`."
    )


class DispatchSpec(
    Model,
    json_schema_extra=rules(
        (
            "self.access == 'Public' || !has(self.allowedOrigins) || size(self.allowedOrigins) == 0",
            "allowedOrigins only matters for Public agents: write access: Public or remove allowedOrigins",
        )
    ),
):
    """How calls reach the agent."""

    mode: DispatchMode = Field(
        default=DispatchMode.EXPLICIT,
        description="Explicit: the agent joins only rooms it was dispatched to by name. Automatic: workers register "
        "without a name, and LiveKit sends one into every new room on the server; the gateway takes no calls then.",
    )
    room_name_pattern: str = Field(
        default=".*",
        max_length=256,
        description="Regular expression (Python) of the rooms workers accept; others are declined, and logged. The "
        "gateway names its rooms `<literal prefix of the pattern><call id>`, so begin it with `^` and a prefix, and "
        "leave the end open: `^ornina-`. It may repeat single characters only, at most three times without a fixed "
        "number.",
    )
    join_timeout_seconds: int = Field(
        default=10, ge=2, le=60, description="Seconds from the dispatch in which the agent must have joined the room."
    )
    access: DispatchAccess = Field(
        default=DispatchAccess.AUTHENTICATED,
        description="Authenticated: the gateway asks for an API key. Public: anyone on an allowed origin may call.",
    )
    allowed_origins: list[Origin] = Field(
        default_factory=list,
        max_length=32,
        description="Exact origins (scheme, host, port) whose pages may call a Public agent besides the gateway's own.",
    )

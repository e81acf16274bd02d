"""Labels, keys and other names that several packages must agree on."""

AGENT_LABEL = "avataragents.io/agent"
"""Label of every object that the controller makes for an AvatarAgent; the value is the agent's name."""
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "avatar-agent"
COMPONENT_LABEL = "app.kubernetes.io/component"
WORKER_COMPONENT = "worker"
WORKER_SERVICE_ACCOUNT = "avatar-agent-worker"
"""ServiceAccount of all workers of a namespace; also the name of the NetworkPolicy that selects them."""
LEADER_LABEL = "avataragents.io/role"
"""Label of the leader's pod: the controller's Service selects it."""
LEADER = "leader"

LIVEKIT_KEY = "apiKey"
LIVEKIT_SECRET = "apiSecret"
PROVIDER_KEY = "apiKey"
"""Key of a Secret with the credentials of a stage's provider, such as OpenAI."""
TAVUS_KEY = "apiKey"
AVATAR_PLUGIN_KEY = "apiKey"

AGENT_UID_VARIABLE = "AVATAR_AGENT_UID"
"""Environment variable of a worker with an avatar: the UID of its AvatarAgent, which no other cluster has."""

AVATAR_KEY_VARIABLE = "AVATAR_AGENT_AVATAR_KEY"
"""Environment variable of a worker whose avatar plugin has credentials: its API key."""


def tool_header_variable(tool: int, header: int) -> str:
    """Return the environment variable of a worker with a header's value, by the positions of tool and header."""
    return f"AVATAR_AGENT_TOOL_{tool}_HEADER_{header}"


REPORT_KEY_VARIABLE = "AVATAR_AGENT_REPORT_KEY"
"""Environment variable of a worker that reports its calls: the key that signs the reports."""


def tracing_header_variable(header: int) -> str:
    """Return the environment variable of a worker with the value of a header of its traces, by its position."""
    return f"AVATAR_AGENT_TRACING_HEADER_{header}"


WORKER_PORT = 8080
"""Port on which a worker serves /livez, /readyz, /metrics and /status."""
DEMAND_AUDIENCE = "avatar-agent-controller"
"""Audience of the ServiceAccount token that a gateway sends to the controller."""

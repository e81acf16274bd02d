"""Labels, keys and file names that several rooms must agree on."""

AGENT_LABEL = "avataragents.io/agent"
"""On everything that belongs to one AvatarAgent: its name."""
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "avatar-agent"
COMPONENT_LABEL = "app.kubernetes.io/component"
WORKER_COMPONENT = "worker"
WORKER_SERVICE_ACCOUNT = "avatar-agent-worker"
"""Whom all workers of a namespace run as; also the name of the NetworkPolicy that guards them."""
LEADER_LABEL = "avataragents.io/role"
"""On the pod of the controller that leads: the controller's Service selects it."""
LEADER = "leader"

LIVEKIT_KEY = "apiKey"
LIVEKIT_SECRET = "apiSecret"
OPENAI_KEY = "apiKey"
TAVUS_KEY = "apiKey"

WORKER_PORT = 8080
"""Where a worker serves /livez, /readyz, /metrics and /status."""
DEMAND_AUDIENCE = "avatar-agent-controller"
"""Audience of the ServiceAccount token with which a gateway speaks to the controller."""

"""Pieces of PromQL that the dashboards share.

The controllers' series of one agent exist on the leader alone, but two leaders overlap in Prometheus for up to five
minutes after a node is lost. So every sum over agents takes the maximum of each agent first.
"""

from typing import Final

CONTROLLER: Final = "avatar_agent_controller_"
GATEWAY: Final = "avatar_agent_gateway_"
WORKER: Final = "avatar_agent_worker_"

AGENT: Final = 'agent_namespace=~"$agent_namespace",agent=~"$agent"'
"""Selects the agents that the viewer chose."""
JOBS: Final = 'job=~"avatar-agent-(controller|gateway|worker)"'
"""Selects all scraped processes: the PodMonitors set these jobs."""

_BY_AGENT: Final = "max by (agent_namespace, agent)"


def of_agents(name: str, matchers: str = "") -> str:
    """Return one of the controller's gauges, with one series for each chosen agent."""
    return f"{_BY_AGENT} ({CONTROLLER}{name}{{{_joined(AGENT, matchers)}}})"


def total(name: str) -> str:
    """Return the sum of one of the controller's gauges over the chosen agents."""
    return f"sum({of_agents(name)})"


def selected(name: str, matchers: str = "") -> str:
    """Return a series of the chosen agents, by its full name."""
    return f"{name}{{{_joined(AGENT, matchers)}}}"


def per_minute(series: str, by: str = "") -> str:
    """Return how much a counter grows in a minute."""
    return f"60 * sum{_by(by)} (rate({series}[$__rate_interval]))"


def grown(series: str, by: str = "") -> str:
    """Return how much a counter grew between two points of the graph."""
    return f"sum{_by(by)} (increase({series}[$__rate_interval]))"


def quantile(rank: float, series: str, by: str = "", window: str = "$__rate_interval") -> str:
    """Return a quantile of a histogram; `series` is the name of its buckets with the matchers."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({rank:g}, sum by ({labels}) (rate({series}[{window}])))"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _joined(*matchers: str) -> str:
    return ",".join(matcher for matcher in matchers if matcher)


TURN: Final = selected(f"{WORKER}turn_duration_seconds_bucket")
"""From the end of the caller's words to the agent's first sound."""

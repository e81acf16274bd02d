"""Origins of browser pages: the gateway's own page, and the pages that agents allow."""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from gateway.agents import Agent, AgentDirectory


def is_own_origin(origin: str, host: str, own_hosts: Collection[str]) -> bool:
    """Return whether an origin is the gateway's own page: the host that the request was sent to, under a trusted name.

    Whoever controls a name can point it at the gateway and serve a page under it (DNS rebinding). Trusted are only the
    names in ``own_hosts``, and loopback hosts, which a port-forward uses.
    """
    try:
        page = urlsplit(origin)
        default_port = {"http": 80, "https": 443}.get(page.scheme)
        target = urlsplit(f"//{host}")
        if default_port is None or not page.hostname or _address(page, default_port) != _address(target, default_port):
            return False
        return page.hostname in own_hosts or _is_loopback(page.hostname)
    except ValueError:
        return False


def allowed_origins(agents: AgentDirectory) -> set[str]:
    """Return the origins that at least one agent allows."""
    found = (agent for agent in agents.all() if isinstance(agent, Agent))
    return {origin for agent in found for origin in agent.spec.dispatch.allowed_origins}


def _address(parts: SplitResult, default_port: int) -> tuple[str | None, int]:
    return parts.hostname, parts.port or default_port


def _is_loopback(hostname: str) -> bool:
    if hostname == "localhost" or hostname.endswith(".localhost"):
        return True
    try:
        return ip_address(hostname).is_loopback
    except ValueError:
        return False

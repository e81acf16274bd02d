"""The files of the call page and their security headers.

The page may load scripts and styles only from the gateway, and may connect only to the gateway and to the agent's
LiveKit server.
"""

from pathlib import Path
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse, Response

from gateway.agents import Agent
from gateway.settings import WEB_DIR
from gateway.web.assets import Assets


class Pages:
    """The call page, and the files that it loads."""

    def __init__(self, livekit_client_dir: Path) -> None:
        self.assets = Assets(livekit_client_dir, _headers("default-src 'none'"))
        self._page = (WEB_DIR / "index.html").read_text().replace('"/assets/', f'"/assets/{self.assets.version}/')

    def page(self, agent: Agent | None) -> Response:
        """Return the call page, with a policy that allows connections to the agent's LiveKit server."""
        servers = livekit_sources(agent.spec.livekit.caller_url) if agent else []
        return HTMLResponse(self._page, headers=_headers(content_security_policy(servers)))


def livekit_sources(url: str) -> list[str]:
    """Return the sources that livekit-client connects to: WebSocket, HTTP, and the regional hosts of LiveKit Cloud.

    Return none for a URL that does not parse; the page still loads and reports that the call failed.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    secure = parts.scheme == "wss"
    socket, plain = ("wss", "https") if secure else ("ws", "http")
    sources = [f"{socket}://{parts.netloc}", f"{plain}://{parts.netloc}"]
    if parts.hostname and parts.hostname.endswith(".livekit.cloud"):
        sources += ["wss://*.livekit.cloud", "https://*.livekit.cloud"]
    return sources


def content_security_policy(connect: list[str]) -> str:
    """Return a Content-Security-Policy that allows connections to the gateway and to these sources."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "media-src 'self' blob:",
            " ".join(["connect-src 'self'", *connect]),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Cache-Control": "no-cache",
    }

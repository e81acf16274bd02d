"""The files of the call page and their security headers.

The page may load scripts and styles only from the gateway, and may connect only to the gateway and to the agent's
LiveKit server.
"""

from pathlib import Path
from urllib.parse import urlsplit

from starlette.responses import FileResponse, Response

from gateway.agents import Agent
from gateway.errors import ErrorReason, RequestError
from gateway.settings import WEB_DIR

_ASSETS = {
    "app.js": "text/javascript",
    "call.js": "text/javascript",
    "texts.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
LIVEKIT_CLIENT = "livekit-client.esm.mjs"


class Pages:
    """Serves a fixed list of files, and no other file of the folder."""

    def __init__(self, livekit_client_dir: Path) -> None:
        self._files = {name: (WEB_DIR / name, kind) for name, kind in _ASSETS.items()}
        self._files[LIVEKIT_CLIENT] = (livekit_client_dir / LIVEKIT_CLIENT, "text/javascript")

    def missing(self) -> list[str]:
        """Return the paths of missing files. The call page does not work without them."""
        return [str(path) for path, _ in self._files.values() if not path.is_file()]

    def asset(self, name: str) -> Response:
        """Return a file of the call page.

        Raises:
            RequestError: 404, there is no such file.
        """
        path, kind = self._files.get(name, (None, ""))
        if path is None or not path.is_file():
            raise RequestError(404, ErrorReason.NOT_FOUND, "This file does not exist.")
        return FileResponse(path, media_type=kind, headers=_headers("default-src 'none'"))

    def page(self, agent: Agent | None) -> Response:
        """Return the call page, with a policy that allows connections to the agent's LiveKit server."""
        servers = livekit_sources(agent.spec.livekit.caller_url) if agent else []
        return FileResponse(
            WEB_DIR / "index.html", media_type="text/html", headers=_headers(content_security_policy(servers))
        )


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

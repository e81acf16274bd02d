"""A simulated shop: the HTTP API and the MCP server that an agent's tools use.

`GET /deliveries/{city}?delay=SECONDS` needs the bearer token; `delay` is optional. `POST /callbacks` repeats the
`number` that it was sent. The MCP server at `/mcp` needs the same token and has two tools, `branch_phone` and
`stock_list`. Start it: `python -m devkit.providers.shop --port 9300 --api-key-file F`.
"""

from __future__ import annotations

import asyncio
import hmac
import sys

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from devkit.providers.serve import arguments
from devkit.providers.simulator import SettingsError, read_key

MAX_DELAY_SECONDS = 60.0


class _Token:
    """Rejects requests without the bearer token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/healthz":
            sent = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(sent, self._expected):
                await JSONResponse({"error": "the bearer token is missing or wrong"}, 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _delivery(request: Request) -> Response:
    await asyncio.sleep(min(float(request.query_params.get("delay", 0)), MAX_DELAY_SECONDS))
    city = request.path_params["city"]
    if city == "Atlantis":
        return JSONResponse({"error": "no such city"}, 404)
    return PlainTextResponse(f"Deliveries to {city} arrive on Friday.")


async def _callback(request: Request) -> Response:
    return JSONResponse({"accepted": (await request.json()).get("number")})


def make_app(token: str) -> Starlette:
    """Return the application, which accepts this bearer token."""
    shop = MCPServer("shop")

    @shop.tool()
    def branch_phone(city: str) -> str:
        """Return the telephone number of the branch in a city."""
        return f"The branch in {city} has the number two three four."

    @shop.tool()
    def stock_list() -> str:
        """Return everything in stock."""
        return "a chair, " * 10_000

    # Pods and tests reach the simulator at many addresses, so the check of the Host header is off.
    app = shop.streamable_http_app(
        stateless_http=True, transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
    )
    app.routes.extend(
        [
            Route("/healthz", _healthz),
            Route("/deliveries/{city}", _delivery),
            Route("/callbacks", _callback, methods=["POST"]),
        ]
    )
    app.user_middleware.insert(0, Middleware(_Token, token=token))
    return app


def main() -> int:
    """Serve until SIGINT or SIGTERM."""
    options = arguments("shop", 9300).parse_args()
    try:
        app = make_app(read_key(options.api_key_file))
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())

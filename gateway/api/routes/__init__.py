"""The routes of the HTTP API, one module for each resource."""

from typing import Final

from starlette.routing import BaseRoute

from gateway.api.routes import agents, calls, page

ROUTES: Final[tuple[BaseRoute, ...]] = (*calls.router.routes, *agents.router.routes, *page.router.routes)

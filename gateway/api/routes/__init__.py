"""The routes of the HTTP API, one module for each resource."""

from typing import Final

from starlette.routing import BaseRoute

from gateway.api.routes import agents, calls, dispatches, internal, page, tokens

ROUTES: Final[tuple[BaseRoute, ...]] = tuple(
    route for resource in (calls, tokens, dispatches, agents, page, internal) for route in resource.router.routes
)

"""The routes of the HTTP API, one module for each resource."""

from typing import Final

from starlette.routing import BaseRoute

from gateway.api.routes import agents, calls, dispatches, internal, page, tokens, webhooks

_RESOURCES: Final = (calls, tokens, dispatches, agents, webhooks, page, internal)

ROUTES: Final[tuple[BaseRoute, ...]] = tuple(route for resource in _RESOURCES for route in resource.router.routes)

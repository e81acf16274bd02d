"""What gateways ask each other, on the internal port only. It is no part of the API."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from gateway.api.forwarding import is_internal
from gateway.api.requests import gateway_of
from gateway.cluster.peers import ASKING_QUERY, PATH, view_of
from gateway.errors import ErrorReason, RequestError

router = APIRouter(include_in_schema=False)


@router.get(PATH)
async def gateways(request: Request) -> Response:
    """Tell another gateway which gateways this one knows, and whether the controller answers it."""
    gateway = gateway_of(request)
    if not is_internal(request.scope, gateway.settings.internal_port):
        raise RequestError(404, ErrorReason.NOT_FOUND, "This path does not exist. See /openapi.json for the paths.")
    return JSONResponse(view_of(gateway.members, request.query_params.get(ASKING_QUERY, "")).model_dump(mode="json"))

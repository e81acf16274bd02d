"""Answers errors with problem documents (RFC 9457)."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from gateway.errors import ErrorReason, RequestError
from gateway.metrics import Metrics

MEDIA_TYPE = "application/problem+json"

logger = logging.getLogger(__name__)


def answer_errors(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error of an application with a problem document, and count it."""

    async def answer(request: Request, exception: Exception) -> Response:
        error = _as_request_error(exception)
        if error.status == 405:
            error.allow = ", ".join(sorted(_allowed_methods(request)))
        metrics.record_rejection(error.reason)
        if error.status >= 500:
            logger.warning("request failed", extra={"path": request.url.path, "reason": error.reason.value})
        headers = {"Cache-Control": "no-store"} | error.headers()
        return JSONResponse(error.document(), error.status, headers=headers, media_type=MEDIA_TYPE)

    for kind in (RequestError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, answer)


def _allowed_methods(request: Request) -> set[str]:
    """Return the methods of all routes that have the request's path. Starlette names only those of the first."""
    return {
        method
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is Match.PARTIAL
        for method in route.methods or ()
    }


def _as_request_error(error: Exception) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        message = f"The parameter {field} is not valid: {first['msg']}."
        return RequestError(400, ErrorReason.INVALID_REQUEST, message, field=field)
    if isinstance(error, HTTPException) and error.status_code == 405:
        message = "This path does not support the method. See /openapi.json for the methods."
        return RequestError(405, ErrorReason.METHOD_NOT_ALLOWED, message)
    if isinstance(error, HTTPException) and error.status_code < 500:
        message = "This path does not exist. See /openapi.json for the paths."
        return RequestError(error.status_code, ErrorReason.NOT_FOUND, message)
    return RequestError(500, ErrorReason.INTERNAL, "Internal error. See the gateway log.")

"""OpenAI's error bodies: one `error` object with message, type, param and code."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiohttp import web

from devkit.providers.simulator import FaultKind

Body = dict[str, dict[str, str | None]]


def body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> Body:
    """Return the JSON body of an error of type `kind`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_REFUSALS = {
    FaultKind.FORBIDDEN: body(
        "Project `proj_simulated` does not have access to the model.", "invalid_request_error", code="model_not_found"
    ),
    FaultKind.RATE_LIMITED: body(
        "Rate limit reached for requests. Please try again later.", "requests", code="rate_limit_exceeded"
    ),
    FaultKind.QUOTA: body(
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
        "insufficient_quota",
        code="insufficient_quota",
    ),
    FaultKind.TOO_LONG: body(
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 70000 tokens. Please "
        "reduce the length of the messages.",
        "invalid_request_error",
        param="messages",
        code="context_length_exceeded",
    ),
    FaultKind.SERVER_ERROR: body(
        "The server had an error while processing your request. Sorry about that!", "server_error"
    ),
}


def refusal(kind: FaultKind, sent_key: str | None) -> Body:
    """Return the body of a fault's answer. The key is masked, as OpenAI does."""
    if kind in _REFUSALS:
        return _REFUSALS[kind]
    if not sent_key:
        return body(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
            "auth (i.e. Authorization: Bearer YOUR_KEY).",
            "invalid_request_error",
        )
    masked = f"{sent_key[:3]}{'*' * 8}{sent_key[-4:]}" if len(sent_key) > 12 else "*" * 8
    return body(f"Incorrect API key provided: {masked}.", "invalid_request_error", code="invalid_api_key")


def reject(message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> NoReturn:
    """Answer the request with an `invalid_request_error`."""
    document: Any = body(message, "invalid_request_error", param=param, code=code)
    exception: type[web.HTTPException] = web.HTTPNotFound if status == 404 else web.HTTPBadRequest
    raise exception(text=json.dumps(document), content_type="application/json")

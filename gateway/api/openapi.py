"""The OpenAPI document of the HTTP API, and `docs/reference/openapi.json`.

``python -m gateway.api.openapi`` writes the file; ``--check`` fails when it is stale. The routes describe their own
answers with `problems`, and their bodies with `json_body_of`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from gateway.api.problems import MEDIA_TYPE
from gateway.api.views import Problem
from gateway.calls.foreign import DispatchRequest
from gateway.calls.request import MAX_BODY_BYTES, CallRequest
from gateway.calls.tokens import TokenRequest

_ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT_PATH = _ROOT / "docs" / "reference" / "openapi.json"
REFERENCE: Final = "#/components/schemas/"
BODIES: Final[tuple[type[BaseModel], ...]] = (CallRequest, TokenRequest, DispatchRequest)
"""The documents of request bodies. The routes read them on their own, so FastAPI does not find them."""

_DESCRIPTION = f"""\
Opens calls to AvatarAgents. Every error is a problem document (RFC 9457, `{MEDIA_TYPE}`): `reason` is constant, \
`detail` says what happened and what to do, and `field` names the wrong field or parameter.
"""
_SECURITY_SCHEMES: Final = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key or a token. Not required for Public agents.",
    },
    "publishableKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Publishable-Key",
        "description": "A publishable key of a Public agent, for apps. Requests with an Origin cannot use it.",
    },
    "callToken": {"type": "http", "scheme": "bearer", "description": "The `callToken` of the call."},
    "webhookSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "The token that LiveKit signs with an API key. It holds the hash of the body.",
    },
}
API_KEY_OR_ORIGIN: Final[dict[str, Any]] = {"security": [{"apiKey": []}, {"publishableKey": []}, {}]}
"""For an operation that requires a key, or for Public agents a publishable key or the Origin of a page."""
API_KEY_OR_PUBLIC: Final[dict[str, Any]] = {"security": [{"apiKey": []}, {}]}
"""For an operation that requires a key, except for Public agents."""
API_KEY: Final[dict[str, Any]] = {"security": [{"apiKey": []}]}
CALL_TOKEN: Final[dict[str, Any]] = {"security": [{"callToken": []}]}
WEBHOOK_SIGNATURE: Final[dict[str, Any]] = {"security": [{"webhookSignature": []}]}

_BODY_PROBLEMS: Final = {
    408: "The body did not arrive in time.",
    413: f"The body is larger than {MAX_BODY_BYTES} bytes.",
    415: "The Content-Type is not `application/json`.",
}
_COMMON_PROBLEMS: Final = {
    405: "The path does not support the method.",
    500: "Internal error. The gateway's log has it.",
}
_HEADERS: Final[Mapping[int, tuple[str, str]]] = {
    401: ("WWW-Authenticate", "Bearer."),
    405: ("Allow", "The methods that the path supports."),
    429: ("Retry-After", "Seconds after which to retry."),
    503: ("Retry-After", "Seconds after which to retry."),
}


def resource(tag: str) -> APIRouter:
    """Return the router of one resource. Its operations are named by their functions."""
    return APIRouter(tags=[tag], generate_unique_id_function=lambda route: route.name)


def problems(descriptions: Mapping[int, str], *, body: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the errors that an operation answers, by status.

    ``body``: the operation reads a body, and rejects an invalid one.
    """
    listed = {**(_BODY_PROBLEMS if body else {}), **descriptions, **_COMMON_PROBLEMS}
    return {status: _problem(status, text) for status, text in sorted(listed.items())}


def _problem(status: int, description: str) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{REFERENCE}Problem"}}},
    }
    if status in _HEADERS:
        name, text = _HEADERS[status]
        response["headers"] = {name: {"description": text, "schema": {"type": "string"}}}
    return response


def json_body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return the description of an operation's body, one of `BODIES`."""
    schema = {"$ref": REFERENCE + model.__name__}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of these routes."""
    found = get_openapi(title="Avatar agent gateway", version="v1", description=_DESCRIPTION, routes=routes)
    models: tuple[type[BaseModel], ...] = (Problem, *BODIES)
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE + "{model}")
    schemas = found["components"]["schemas"] | definitions["$defs"]
    # FastAPI's own error. The gateway answers a problem document with status 400 instead.
    schemas = {name: schemas[name] for name in sorted(schemas) if not name.endswith("ValidationError")}
    for operation in (operation for path in found["paths"].values() for operation in path.values()):
        operation["responses"].pop("422", None)
    found["components"] = {"schemas": schemas, "securitySchemes": _SECURITY_SCHEMES}
    return found


def render() -> str:
    """Return the text of the committed file."""
    from gateway.api.routes import ROUTES  # the routes describe themselves with this module

    return json.dumps(document(ROUTES), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check the committed file; returns 1 when it is stale."""
    is_stale = not DOCUMENT_PATH.exists() or DOCUMENT_PATH.read_text() != render()
    if "--check" not in sys.argv:
        DOCUMENT_PATH.write_text(render())
        return 0
    if is_stale:
        path = DOCUMENT_PATH.relative_to(_ROOT)
        print(f"{path} is stale: run `make generate` and commit the result", file=sys.stderr)
    return 1 if is_stale else 0


if __name__ == "__main__":
    sys.exit(main())

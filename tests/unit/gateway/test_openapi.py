"""The OpenAPI document: it is complete and published, and the gateway answers as it says."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks

from gateway.api import openapi
from gateway.api.app import create_app
from gateway.api.routes import ROUTES
from gateway.calls.request import CallRequest
from gateway.errors import TITLES, ErrorReason
from gateway.settings import GatewaySettings
from tests.unit.gateway.conftest import API_KEY, BASE
from tests.unit.gateway.fakes import World, create_world, example_agent
from tests.unit.gateway.scenes import BODY, IDEMPOTENCY_KEY

DOCUMENT = openapi.document(ROUTES)
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
GENERATED: list[Any] = [found.ok() for found in SCHEMA.get_all_operations()]  # type: ignore[union-attr]
load_all_checks()
ANSWERS: list[Any] = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
AGENTS = [
    example_agent(),
    example_agent("private", access="Authenticated"),
    example_agent("suspended", suspend=True),
    example_agent("automatic", mode="Automatic"),
]
Send = Callable[[str, str, dict[str, Any]], httpx.Response]


@pytest.fixture
def send(tmp_path: Path) -> Iterator[Send]:
    """Sends requests to a gateway with `AGENTS`."""
    (tmp_path / "agents.website").write_text(API_KEY)
    gateway_settings = GatewaySettings(
        api_keys_dir=tmp_path,
        public_calls_per_minute=100_000,
        key_calls_per_minute=100_000,
        agent_calls_per_minute=100_000,
    )
    with asyncio.Runner() as runner:
        world = runner.run(_world(gateway_settings))
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(world.gateway), raise_app_exceptions=False), base_url=BASE
        )
        yield lambda method, url, options: runner.run(client.request(method, url, **options))
        runner.run(client.aclose())
        runner.run(world.gateway.dispatcher.stop())


async def _world(gateway_settings: GatewaySettings) -> World:
    world = create_world(gateway_settings)
    world.agents.listed = list(AGENTS)
    world.gateway.closing.set()  # so that a stream of events ends after its first one
    return world


async def test_gateway_serves_the_published_document(http: httpx.AsyncClient) -> None:
    assert (await http.get("/openapi.json")).json() == DOCUMENT
    assert openapi.DOCUMENT_PATH.read_text() == openapi.render(), "run `make generate`"


def test_document_is_valid() -> None:
    SCHEMA.validate()


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_operation_and_its_parameters_and_answers_are_described(name: str, operation: dict[str, Any]) -> None:
    assert operation["description"]
    assert all(parameter["description"] for parameter in operation.get("parameters", []))
    assert all(response["description"] for response in operation["responses"].values())
    assert "422" not in operation["responses"], "the gateway rejects invalid parameters with 400"
    assert {"405", "500", "503"} <= operation["responses"].keys()


def test_operation_with_a_limit_or_a_key_documents_its_refusals() -> None:
    operation = DOCUMENT["paths"]["/v1/calls"]["post"]
    refusals = {"400", "401", "403", "404", "408", "409", "413", "415", "429", "502", "503"}
    assert refusals <= operation["responses"].keys()
    assert operation["security"] == [{"apiKey": []}, {"publishableKey": []}, {}]
    assert "Retry-After" in operation["responses"]["429"]["headers"]
    used = {name for _, found in OPERATIONS for scheme in found.get("security", []) for name in scheme}
    assert used == DOCUMENT["components"]["securitySchemes"].keys()


def test_every_error_reason_has_a_title_of_its_own() -> None:
    assert TITLES.keys() == set(ErrorReason)
    assert len(set(TITLES.values())) == len(TITLES)


def test_every_schema_is_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["CallRequest"]["properties"]) == {
        str(field.alias) for field in CallRequest.model_fields.values()
    }
    for name, schema in schemas.items():
        assert schema.get("description") or "enum" in schema, name
        properties = schema.get("properties", {})
        if name.endswith(("View", "Request")):
            undescribed = [key for key, value in properties.items() if not (value.keys() & {"description", "$ref"})]
            assert undescribed == [], name


@pytest.mark.parametrize("operation", GENERATED, ids=lambda operation: operation.label)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(data=st.data())
def test_every_answer_is_documented(send: Send, operation: Any, data: st.DataObject) -> None:  # noqa: ANN401 - untyped
    mode = data.draw(st.sampled_from(schemathesis.GenerationMode))
    case = data.draw(operation.as_strategy(generation_mode=mode))
    opened = send("POST", "/v1/calls", {"json": BODY, "headers": {"Origin": BASE, "Idempotency-Key": IDEMPOTENCY_KEY}})
    if data.draw(st.booleans(), label="an existing call or agent"):
        known = {"call_id": opened.json().get("callId", "x"), "name": "ornina", "namespace": "agents"}
        case.path_parameters = {key: known[key] for key in case.path_parameters or {}}
        if isinstance(case.body, dict) and "agent" in case.body:
            case.body |= {"agent": data.draw(st.sampled_from([found.name for found in AGENTS])), "name": "Layla"}
    case.query.pop("waitSeconds", None)  # the test would wait
    token = {"Authorization": f"Bearer {opened.json().get('callToken', 'unknown')}"}
    senders = [{"Origin": BASE}, {"Authorization": f"Bearer {API_KEY}"}, {}, token]
    request = case.as_transport_kwargs(base_url=BASE)
    headers = dict(request.pop("headers") or {}) | data.draw(st.sampled_from(senders), label="the sender")
    method, url = request.pop("method"), request.pop("url")
    options = {"content" if key == "data" else key: value for key, value in request.items() if key != "cookies"}
    response = send(method, url, options | {"headers": headers})
    case.validate_response(response, checks=ANSWERS)

"""The HTTP API: requests of pages and back ends, and their responses."""

import asyncio
import json
import re
import string
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.agents import InvalidAgent
from gateway.errors import TITLES, ErrorReason
from gateway.livekit.connections import SecretError
from gateway.livekit.server import WAITING_AGENT_NAME, LiveKitRefused, LiveKitUnreachable
from tests.unit.gateway.conftest import API_KEY
from tests.unit.gateway.fakes import CREDENTIALS, World, example_agent
from tests.unit.gateway.scenes import BODY, KEYED, call_token_of, post_call

OTHER_ORIGIN = "https://www.example.com"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROBLEM_FIELDS = {"type", "title", "status", "detail", "reason"}
WITH_KEY = {"Authorization": f"Bearer {API_KEY}"}
FOREIGN_KEY = "the-key-of-another-namespace"


async def read_after(http: httpx.AsyncClient, call: dict[str, Any], known: str) -> dict[str, Any]:
    """Read a call once its state is not the known one."""
    query = {"state": known, "waitSeconds": "10"}
    response = await http.get(f"/v1/calls/{call['callId']}", params=query, headers=call_token_of(call))
    found: dict[str, Any] = response.json()
    return found


def rejected(response: httpx.Response, status: int, reason: str) -> str:
    """Check a problem document; returns what it says about the error."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["reason"], problem["status"]) == (reason, status)
    assert problem["type"] == f"tag:avataragents.io,2026:{reason}"
    assert problem["title"] == TITLES[ErrorReason(reason)]
    assert len(problem["detail"]) > 15
    assert problem["detail"].endswith(".")
    found: str = problem["detail"]
    return found


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        (TRACEPARENT, TRACEPARENT),
        (TRACEPARENT.upper(), None),
        (f"{TRACEPARENT}-future", None),
        ("00-short-01", None),
        ("", None),
    ],
)
async def test_trace_context_of_a_request_reaches_the_worker(
    http: httpx.AsyncClient, world: World, sent: str, passed_on: str | None
) -> None:
    response = await http.post("/v1/calls", json=BODY, headers={**WITH_KEY, "traceparent": sent})
    assert response.status_code == 201, response.text
    (dispatch,) = world.livekit.rooms_by_name[response.json()["room"]].dispatches
    assert json.loads(dispatch.metadata).get("traceparent") == passed_on


async def test_opened_call_has_a_room_with_one_dispatch_and_a_token(http: httpx.AsyncClient, world: World) -> None:
    call = await post_call(http, userId="user-7")
    assert call["state"] == "dispatched"
    assert call["room"] == f"ornina-{call['callId']}"
    assert call["url"] == "wss://livekit.example"
    assert call["agent"] == {"namespace": "agents", "name": "ornina", "agentName": "ornina-agent"}
    assert world.livekit.launches == [(call["room"], "ornina-agent")]
    (dispatch,) = world.livekit.rooms_by_name[call["room"]].dispatches
    metadata = json.loads(dispatch.metadata)
    assert (metadata["callID"], metadata["userID"]) == (call["callId"], "user-7")
    assert metadata["callerIdentity"] == call["identity"]
    claims = jwt.decode(call["token"], CREDENTIALS.api_secret, algorithms=["HS256"])
    assert (claims["sub"], claims["video"]["room"]) == (call["identity"], call["room"])


async def test_call_is_joined_once_livekit_lists_the_agent(http: httpx.AsyncClient, world: World) -> None:
    call = await post_call(http)
    assert (await read_after(http, call, "dispatched"))["state"] == "joined"


async def test_repeated_requests_with_one_key_get_one_call(http: httpx.AsyncClient, world: World) -> None:
    responses = await asyncio.gather(*(http.post("/v1/calls", json=BODY, headers=KEYED) for _ in range(8)))
    assert sorted(response.status_code for response in responses) == [200] * 7 + [201]
    assert len({(a.json()["callId"], a.json()["room"], a.json()["identity"]) for a in responses}) == 1
    assert len(world.livekit.launches) == 1


async def test_different_request_with_the_same_key_is_rejected(http: httpx.AsyncClient) -> None:
    await http.post("/v1/calls", json=BODY, headers=KEYED)
    response = await http.post("/v1/calls", json=BODY | {"name": "Omar"}, headers=KEYED)
    assert "new key" in rejected(response, 409, "IdempotencyKeyReused")


async def test_same_key_of_another_client_is_another_call(http: httpx.AsyncClient) -> None:
    first = await http.post("/v1/calls", json=BODY, headers=KEYED)
    second = await http.post("/v1/calls", json=BODY, headers=KEYED | WITH_KEY)
    assert first.json()["callId"] != second.json()["callId"]


async def test_key_of_a_finished_call_is_rejected(http: httpx.AsyncClient) -> None:
    call = (await http.post("/v1/calls", json=BODY, headers=KEYED)).json()
    assert (await http.delete(f"/v1/calls/{call['callId']}", headers=call_token_of(call))).json()["reason"] == "HungUp"
    assert "HungUp" in rejected(await http.post("/v1/calls", json=BODY, headers=KEYED), 409, "CallOver")


async def test_calls_wait_in_order_up_to_the_limit(http: httpx.AsyncClient, world: World) -> None:
    world.supply.free = 0
    first, second = await post_call(http), await post_call(http)
    assert [(call["state"], call["position"]) for call in (first, second)] == [("waiting", 1), ("waiting", 2)]
    assert [name for _, name in world.livekit.launches] == [WAITING_AGENT_NAME] * 2
    assert world.gateway.ledger.pending() == {"agents/ornina": 2}
    response = await http.post("/v1/calls", json=BODY)
    assert "Call again later" in rejected(response, 429, "TooManyPending")
    assert int(response.headers["Retry-After"]) > 0


async def test_limit_holds_while_free_slots_are_unknown(http: httpx.AsyncClient, world: World) -> None:
    world.supply.free, world.livekit.slots = None, 0
    assert [(await post_call(http))["state"] for _ in range(2)] == ["dispatched"] * 2
    rejected(await http.post("/v1/calls", json=BODY), 429, "TooManyPending")


async def test_hang_up_closes_the_room_and_may_be_repeated(http: httpx.AsyncClient, world: World) -> None:
    call = await post_call(http)
    for _ in range(2):
        response = await http.delete(f"/v1/calls/{call['callId']}", headers=call_token_of(call))
        assert response.status_code == 200
        assert (response.json()["state"], response.json()["reason"]) == ("ended", "HungUp")
    assert world.livekit.rooms_by_name == {}


async def test_hang_up_without_livekit_is_an_error_and_the_call_continues(
    http: httpx.AsyncClient, world: World
) -> None:
    call = await post_call(http)
    world.livekit.error = LiveKitUnreachable("unreachable")
    response = await http.delete(f"/v1/calls/{call['callId']}", headers=call_token_of(call))
    rejected(response, 503, "LiveKitUnreachable")
    world.livekit.error = None
    response = await http.get(f"/v1/calls/{call['callId']}", headers=call_token_of(call))
    assert response.json()["state"] in ("dispatched", "joined")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guess"}, WITH_KEY])
async def test_call_requires_its_own_call_token(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    call = await post_call(http)
    for method in ("GET", "DELETE"):
        response = await http.request(method, f"/v1/calls/{call['callId']}", headers=headers)
        rejected(response, 404, "CallNotFound")
    rejected(await http.get("/v1/calls/unknown", headers=call_token_of(call)), 404, "CallNotFound")


@pytest.mark.parametrize("query", ["state=nonsense", "waitSeconds=31", "waitSeconds=-1", "waitSeconds=nan"])
async def test_invalid_parameter_is_rejected_by_name(http: httpx.AsyncClient, query: str) -> None:
    call = await post_call(http)
    response = await http.get(f"/v1/calls/{call['callId']}?{query}", headers=call_token_of(call))
    rejected(response, 400, "InvalidRequest")
    assert response.json()["field"] == query.split("=")[0]


async def test_unknown_agent_is_rejected_with_a_hint(http: httpx.AsyncClient, world: World) -> None:
    response = await http.post("/v1/calls", json=BODY | {"agent": "unknown"}, headers=WITH_KEY)
    assert "kubectl get ava" in rejected(response, 404, "AgentNotFound")
    world.agents.listed.append(example_agent("unknown", namespace="other"))
    response = await http.post("/v1/calls", json=BODY | {"agent": "unknown"}, headers=WITH_KEY)
    assert '"namespace": …' in rejected(response, 404, "AgentNotFound")
    world.livekit.slots = 2
    assert (await post_call(http, agent={"namespace": "other", "name": "unknown"}))["agent"]["namespace"] == "other"


async def test_agent_that_takes_no_calls_is_rejected_with_its_reason(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [
        example_agent("auto", mode="Automatic"),
        example_agent("odd", room_name_pattern="^odd$"),
        example_agent("suspended", suspend=True),
        replace(example_agent("younger"), name_taken=True),
        InvalidAgent("agents", "broken", "spec.language: no"),
    ]
    for name, reason, hint in [
        ("auto", "AgentAutomatic", "dispatch.mode: Explicit"),
        ("suspended", "Suspended", "spec.suspend: false"),
        ("younger", "NameTaken", "NameUnique"),
        ("odd", "RoomNameMismatch", "begin the pattern"),
        ("broken", "AgentInvalid", "spec.language"),
    ]:
        response = await http.post("/v1/calls", json=BODY | {"agent": name}, headers=WITH_KEY)
        assert hint in rejected(response, 409, reason)


async def test_repeated_request_finds_its_call_after_the_agent_is_suspended(
    http: httpx.AsyncClient, world: World
) -> None:
    headers = {"Idempotency-Key": "a-key-of-some-length"}
    first = await http.post("/v1/calls", json=BODY, headers=headers)
    world.agents.listed = [example_agent(suspend=True)]
    again = await http.post("/v1/calls", json=BODY, headers=headers)
    assert (again.status_code, again.json()["callId"]) == (200, first.json()["callId"])
    rejected(await http.post("/v1/calls", json=BODY), 409, "Suspended")
    assert len(world.livekit.rooms_by_name) == 1


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [(LiveKitUnreachable("unreachable"), 503, "LiveKitUnreachable"), (LiveKitRefused("no"), 502, "LiveKitRefused")],
)
async def test_failed_request_leaves_no_call_and_its_key_is_usable(
    http: httpx.AsyncClient, world: World, error: Exception, status: int, reason: str
) -> None:
    world.livekit.error = error  # type: ignore[assignment]
    rejected(await http.post("/v1/calls", json=BODY, headers=KEYED), status, reason)
    assert list(world.gateway.ledger) == []
    world.livekit.error = None
    assert (await http.post("/v1/calls", json=BODY, headers=KEYED)).status_code == 201, "the key is usable again"


async def test_missing_credentials_point_to_kubectl_describe(http: httpx.AsyncClient, world: World) -> None:
    world.connections.error = SecretError("Secret agents/livekit does not exist")
    message = rejected(await http.post("/v1/calls", json=BODY), 503, "CredentialsMissing")
    assert "kubectl describe ava ornina" in message
    assert "Secret" not in message, "the Secret's name is not for callers"


async def test_gateway_is_not_ready_before_agents_are_synced(http: httpx.AsyncClient, world: World) -> None:
    world.agents.is_synced = False
    rejected(await http.get("/readyz"), 503, "NotReady")
    rejected(await http.post("/v1/calls", json=BODY), 503, "NotReady")
    world.agents.is_synced = True
    assert (await http.get("/readyz")).status_code == 200


async def test_gateway_is_not_ready_before_the_controller_has_listed_it(http: httpx.AsyncClient, world: World) -> None:
    world.gateway.members.is_introduced = False
    rejected(await http.get("/readyz"), 503, "NotReady")
    world.gateway.members.is_introduced = True
    assert (await http.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status", "reason"),
    [
        (b"{}", "text/plain", 415, "UnsupportedMediaType"),
        (b"{}", "", 415, "UnsupportedMediaType"),
        (b"agent=ornina", "application/x-www-form-urlencoded", 415, "UnsupportedMediaType"),
        (b"", "application/json", 400, "BadJSON"),
        (b"{nope", "application/json", 400, "BadJSON"),
        (b"[]", "application/json", 400, "InvalidRequest"),
        (b"{}", "application/json; charset=utf-8", 400, "InvalidRequest"),
        (b'{"agent":"ornina","name":"' + b"x" * 17000 + b'"}', "application/json", 413, "BodyTooLarge"),
    ],
)
async def test_invalid_body_is_rejected(
    http: httpx.AsyncClient, world: World, content: bytes, kind: str, status: int, reason: str
) -> None:
    rejected(await http.post("/v1/calls", content=content, headers={"Content-Type": kind}), status, reason)
    assert world.livekit.launches == []


async def test_unknown_paths_and_methods_are_rejected_in_json(http: httpx.AsyncClient) -> None:
    rejected(await http.get("/nothing"), 404, "NotFound")
    response = await http.put("/v1/calls")
    rejected(response, 405, "MethodNotAllowed")
    assert response.headers["Allow"] == "GET, POST"
    rejected(await http.get("/assets/x/../../pages.py"), 404, "NotFound")
    rejected(await http.get("/assets/x/package.json"), 404, "NotFound")
    rejected(await http.get("/docs"), 404, "NotFound")
    for path in ("/livez", "/metrics"):
        rejected(await http.get(path), 404, "NotFound")


async def test_unexpected_error_is_internal_in_json_and_logged(
    http: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(world.gateway.ledger, "admission", lambda *_: 1 / 0)
    message = rejected(await http.post("/v1/calls", json=BODY), 500, "Internal")
    assert message == "Internal error. See the gateway log."
    (record,) = [record.__dict__ for record in caplog.records if record.name == "gateway.api.problems"]
    assert (record["message"], record["path"], record["reason"]) == ("request failed", "/v1/calls", "Internal")


async def test_cors_allows_only_listed_origins(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [example_agent(allowed_origins=[OTHER_ORIGIN])]
    preflight = await http.options(
        "/v1/calls", headers={"Origin": OTHER_ORIGIN, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 204
    response = await http.post("/v1/calls", json=BODY, headers={"Origin": OTHER_ORIGIN})
    assert response.status_code == 201
    for found in (preflight, response):
        assert found.headers["Access-Control-Allow-Origin"] == OTHER_ORIGIN
        assert "Origin" in found.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in found.headers
    unlisted = await http.post("/v1/calls", json=BODY, headers={"Origin": "https://evil.example"})
    rejected(unlisted, 403, "OriginNotAllowed")
    assert "Access-Control-Allow-Origin" not in unlisted.headers
    assert "Origin" in unlisted.headers["Vary"]
    unlisted = await http.options("/v1/calls", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in unlisted.headers


async def test_authenticated_agent_requires_an_api_key(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [example_agent(access="Authenticated")]
    response = await http.post("/v1/calls", json=BODY)
    rejected(response, 401, "Unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    rejected(await http.get("/v1/agents/ornina"), 401, "Unauthorized")
    response = await http.post("/v1/calls", json=BODY, headers=WITH_KEY)
    assert response.status_code == 201
    assert (await http.get("/v1/agents/ornina", headers=WITH_KEY)).json()["access"] == "Authenticated"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer guess"}, {"Authorization": f"Bearer {FOREIGN_KEY}"}, {"Origin": OTHER_ORIGIN}],
    ids=["no key", "wrong key", "key of another namespace", "page that may follow calls"],
)
async def test_without_a_right_no_route_shows_whether_an_agent_exists(
    http: httpx.AsyncClient, world: World, headers: dict[str, str]
) -> None:
    (world.gateway.settings.api_keys_dir / "shop.site").write_text(FOREIGN_KEY)  # type: ignore[operator]
    world.agents.listed = [
        example_agent(access="Authenticated", allowed_origins=[OTHER_ORIGIN]),
        InvalidAgent("agents", "broken", "spec.language: no"),
    ]
    for method, path in (("POST", "/v1/calls"), ("GET", "/v1/agents/{}"), ("GET", "/v1/agents/agents/{}")):
        answers = []
        for name in ("ornina", "broken", "missing"):
            body = BODY | {"agent": name} if method == "POST" else None
            response = await http.request(method, path.format(name), json=body, headers=headers)
            assert response.status_code == 401
            answers.append((response.content, response.headers))
        assert answers[0] == answers[1] == answers[2]
    assert world.livekit.launches == []


async def test_page_follows_a_call_that_its_back_end_opened(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [example_agent(access="Authenticated", allowed_origins=[OTHER_ORIGIN])]
    call = (await http.post("/v1/calls", json=BODY, headers=WITH_KEY)).json()
    path, page = f"/v1/calls/{call['callId']}", {"Origin": OTHER_ORIGIN}
    preflight = await http.options(path, headers=page | {"Access-Control-Request-Method": "DELETE"})
    assert preflight.status_code == 204
    assert "DELETE" in preflight.headers["Access-Control-Allow-Methods"]
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
    for method in ("GET", "DELETE"):
        response = await http.request(method, path, headers=page | call_token_of(call))
        assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, OTHER_ORIGIN)
        rejected(await http.request(method, path, headers=page), 404, "CallNotFound")
    rejected(await http.post("/v1/calls", json=BODY, headers=page), 401, "Unauthorized")


async def test_native_app_calls_with_a_publishable_key(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [example_agent(publishable_keys=["ios-2f7c9a1e"], allowed_origins=[OTHER_ORIGIN])]
    del http.headers["Origin"]
    response = await http.post("/v1/calls", json=BODY, headers={"X-Publishable-Key": "ios-2f7c9a1e"})
    assert response.status_code == 201
    rejected(await http.post("/v1/calls", json=BODY, headers={"X-Publishable-Key": "unknown-key"}), 401, "Unauthorized")
    preflight = await http.options("/v1/calls", headers={"Origin": OTHER_ORIGIN})
    assert "publishable" not in preflight.headers["Access-Control-Allow-Headers"].lower(), "it is not for pages"


async def test_public_agent_is_readable_without_a_key(http: httpx.AsyncClient) -> None:
    expected: dict[str, object] = {
        "namespace": "agents",
        "name": "ornina",
        "language": "ar",
        "languages": [],
        "access": "Public",
    }
    expected |= {"ready": True}
    assert (await http.get("/v1/agents/ornina")).json() == expected
    assert (await http.get("/v1/agents/agents/ornina")).json() == expected
    rejected(await http.get("/v1/agents/unknown"), 401, "Unauthorized")
    rejected(await http.get("/v1/agents/unknown", headers=WITH_KEY), 404, "AgentNotFound")


async def test_page_may_connect_only_to_its_agents_livekit(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [example_agent(), replace(example_agent("other"))]
    for path in ("/?agent=ornina", "/?agent=agents/ornina"):
        response = await http.get(path)
        assert response.status_code == 200
        policy = response.headers["Content-Security-Policy"]
        assert "connect-src 'self' wss://livekit.example https://livekit.example;" in policy
        assert "unsafe" not in policy
    assert "connect-src 'self';" in (await http.get("/")).headers["Content-Security-Policy"]
    assert "connect-src 'self';" in (await http.get("/?agent=unknown")).headers["Content-Security-Policy"]


async def test_callers_get_the_public_address_of_livekit(http: httpx.AsyncClient, world: World) -> None:
    agent = example_agent()
    urls = {"url": "ws://livekit.svc:7880", "public_url": "wss://voice.example"}
    livekit = agent.spec.livekit.model_copy(update=urls)
    world.agents.listed = [replace(agent, spec=agent.spec.model_copy(update={"livekit": livekit}))]
    assert (await post_call(http))["url"] == "wss://voice.example"
    token = await http.post("/v1/token", json={})
    assert token.json()["server_url"] == "wss://voice.example"
    policy = (await http.get("/?agent=ornina")).headers["Content-Security-Policy"]
    assert "connect-src 'self' wss://voice.example https://voice.example;" in policy


async def test_page_does_not_reveal_the_livekit_server_of_authenticated_agents(
    http: httpx.AsyncClient, world: World
) -> None:
    world.agents.listed = [example_agent(access="Authenticated")]
    private, none = await http.get("/?agent=ornina"), await http.get("/?agent=unknown")
    assert "livekit.example" not in str(private.headers) + private.text
    assert private.status_code == none.status_code == 200
    assert private.headers["Content-Security-Policy"] == none.headers["Content-Security-Policy"]


async def test_every_file_that_the_page_loads_is_served(http: httpx.AsyncClient) -> None:
    wanted, seen = ["/?agent=ornina"], set()
    while wanted:
        path = wanted.pop()
        seen.add(path)
        response = await http.get(path)
        assert response.status_code == 200, path
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        links = re.findall(r'"((?:/assets/[\w.-]+|\.)/[\w.-]+)"', response.text)
        wanted += [found for link in links if (found := urljoin(path, link)) not in seen]
    assert len(seen) == 7, "the page, its script, style and icon, two modules and livekit-client"


async def test_api_responses_are_not_cached(http: httpx.AsyncClient) -> None:
    opened = await http.post("/v1/calls", json=BODY)
    read = await http.get(f"/v1/calls/{opened.json()['callId']}", headers=call_token_of(opened.json()))
    agent = await http.get("/v1/agents/ornina")
    assert [response.status_code for response in (opened, read, agent)] == [201, 200, 200]
    assert {response.headers["Cache-Control"] for response in (opened, read, agent)} == {"no-store"}


HEADER = st.text(alphabet=string.ascii_letters + string.digits + " :/.,=-", max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "OPTIONS"]),
    path=st.sampled_from(["/v1/calls", "/v1/calls/x", "/v1/agents/x", "/v1/agents/x/y", "/", "/assets/x/y"]),
    headers=st.dictionaries(
        st.sampled_from(["origin", "authorization", "content-type", "idempotency-key", "host"]), HEADER, max_size=4
    ),
    body=st.binary(max_size=300),
)
async def test_any_request_gets_a_response_below_500_in_json(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    response = await http.request(method, path, headers=headers, content=body)
    assert response.status_code < 500
    if response.status_code >= 400:
        assert PROBLEM_FIELDS <= set(response.json()) <= PROBLEM_FIELDS | {"field"}

"""The HTTP surface: what a page or a back end sends, and what it gets."""

import asyncio
import json
import re
import string
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.agents import InvalidAgent
from gateway.connections import SecretError
from gateway.livekit import WAITING_AGENT_NAME, LiveKitRefused, LiveKitUnreachable
from tests.unit.gateway.conftest import API_KEY
from tests.unit.gateway.fakes import CREDENTIALS, World, example_agent

BODY = {"agent": "ornina", "name": "Layla"}
KEYED = {"Idempotency-Key": "one-and-the-same"}
ELSEWHERE = "https://www.example.com"


async def opened(http: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await http.post("/v1/calls", json=BODY | changes)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def own(call: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {call['callToken']}"}


async def state_after(http: httpx.AsyncClient, call: dict[str, Any], known: str) -> dict[str, Any]:
    query = {"state": known, "waitSeconds": "10"}
    answer = await http.get(f"/v1/calls/{call['callId']}", params=query, headers=own(call))
    found: dict[str, Any] = answer.json()
    return found


def refused(answer: httpx.Response, status: int, reason: str) -> str:
    """The message of an error that is as every error has to be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error["reason"] == reason
    assert len(error["message"]) > 15
    found: str = error["message"]
    return found


async def test_a_call_is_a_room_with_its_one_dispatch_and_a_token(http: httpx.AsyncClient, world: World) -> None:
    call = await opened(http, userId="user-7")
    assert call["state"] == "dispatched"
    assert call["room"] == f"ornina-{call['callId']}"
    assert call["url"] == "wss://livekit.example"
    assert call["agent"] == {"namespace": "agents", "name": "ornina", "agentName": "ornina-agent"}
    assert world.livekit.launches == [(call["room"], "ornina-agent")]
    (dispatch,) = world.livekit.rooms_by_name[call["room"]].dispatches
    told = json.loads(dispatch.metadata)
    assert (told["callID"], told["callerIdentity"], told["userID"]) == (call["callId"], call["identity"], "user-7")
    claims = jwt.decode(call["token"], CREDENTIALS.api_secret, algorithms=["HS256"])
    assert (claims["sub"], claims["video"]["room"]) == (call["identity"], call["room"])


async def test_the_join_is_confirmed_by_livekits_record(http: httpx.AsyncClient, world: World) -> None:
    call = await opened(http)
    assert (await state_after(http, call, "dispatched"))["state"] == "joined"


async def test_the_same_request_is_the_same_call_however_often(http: httpx.AsyncClient, world: World) -> None:
    answers = await asyncio.gather(*(http.post("/v1/calls", json=BODY, headers=KEYED) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({(a.json()["callId"], a.json()["room"], a.json()["identity"]) for a in answers}) == 1
    assert len(world.livekit.launches) == 1


async def test_another_request_with_the_same_key_is_refused(http: httpx.AsyncClient) -> None:
    await http.post("/v1/calls", json=BODY, headers=KEYED)
    answer = await http.post("/v1/calls", json=BODY | {"name": "Omar"}, headers=KEYED)
    assert "new key" in refused(answer, 409, "IdempotencyKeyReused")


async def test_a_key_of_somebody_else_is_another_call(http: httpx.AsyncClient) -> None:
    first = await http.post("/v1/calls", json=BODY, headers=KEYED)
    second = await http.post("/v1/calls", json=BODY, headers=KEYED | {"Authorization": f"Bearer {API_KEY}"})
    assert first.json()["callId"] != second.json()["callId"]


async def test_a_call_that_is_over_does_not_come_back(http: httpx.AsyncClient) -> None:
    call = (await http.post("/v1/calls", json=BODY, headers=KEYED)).json()
    assert (await http.delete(f"/v1/calls/{call['callId']}", headers=own(call))).json()["reason"] == "HungUp"
    assert "HungUp" in refused(await http.post("/v1/calls", json=BODY, headers=KEYED), 409, "CallOver")


async def test_calls_wait_in_order_where_no_agent_joins_them_yet(http: httpx.AsyncClient, world: World) -> None:
    world.supply.free = 0
    first, second = await opened(http), await opened(http)
    assert [(call["state"], call["position"]) for call in (first, second)] == [("waiting", 1), ("waiting", 2)]
    assert [name for _, name in world.livekit.launches] == [WAITING_AGENT_NAME] * 2
    assert world.gateway.ledger.pending() == {"agents/ornina": 2}
    answer = await http.post("/v1/calls", json=BODY)
    assert "Call again later" in refused(answer, 429, "TooManyPending")
    assert int(answer.headers["Retry-After"]) > 0


async def test_the_line_has_an_end_while_the_controller_is_away(http: httpx.AsyncClient, world: World) -> None:
    world.supply.free, world.livekit.slots = None, 0
    assert [(await opened(http))["state"] for _ in range(2)] == ["dispatched"] * 2
    refused(await http.post("/v1/calls", json=BODY), 429, "TooManyPending")


async def test_hanging_up_closes_the_room_and_may_be_repeated(http: httpx.AsyncClient, world: World) -> None:
    call = await opened(http)
    for _ in range(2):
        answer = await http.delete(f"/v1/calls/{call['callId']}", headers=own(call))
        assert answer.status_code == 200
        assert (answer.json()["state"], answer.json()["reason"]) == ("ended", "HungUp")
    assert world.livekit.rooms_by_name == {}


async def test_hanging_up_while_livekit_is_away_is_an_error_and_the_call_goes_on(
    http: httpx.AsyncClient, world: World
) -> None:
    call = await opened(http)
    world.livekit.error = LiveKitUnreachable("away")
    answer = await http.delete(f"/v1/calls/{call['callId']}", headers=own(call))
    refused(answer, 503, "LiveKitUnreachable")
    world.livekit.error = None
    assert (await http.get(f"/v1/calls/{call['callId']}", headers=own(call))).json()["state"] != "ended"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guess"}, {"Authorization": f"Bearer {API_KEY}"}])
async def test_a_call_is_for_those_who_were_given_it(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    call = await opened(http)
    for method in ("GET", "DELETE"):
        answer = await http.request(method, f"/v1/calls/{call['callId']}", headers=headers)
        refused(answer, 404, "CallNotFound")
    refused(await http.get("/v1/calls/unknown", headers=own(call)), 404, "CallNotFound")


@pytest.mark.parametrize("query", ["state=nonsense", "waitSeconds=31", "waitSeconds=-1", "waitSeconds=nan"])
async def test_a_wrong_question_is_refused(http: httpx.AsyncClient, query: str) -> None:
    call = await opened(http)
    answer = await http.get(f"/v1/calls/{call['callId']}?{query}", headers=own(call))
    refused(answer, 400, "InvalidRequest")
    assert answer.json()["error"]["field"] == query.split("=")[0]


async def test_an_unknown_agent(http: httpx.AsyncClient, world: World) -> None:
    answer = await http.post("/v1/calls", json=BODY | {"agent": "nobody"})
    assert "kubectl get ava" in refused(answer, 404, "AgentNotFound")
    world.agents.listed.append(example_agent("nobody", namespace="other"))
    answer = await http.post("/v1/calls", json=BODY | {"agent": "nobody"})
    assert "Another namespace" in refused(answer, 404, "AgentNotFound")
    world.livekit.slots = 2
    assert (await opened(http, agent={"namespace": "other", "name": "nobody"}))["agent"]["namespace"] == "other"


async def test_agents_that_take_no_calls_say_why(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [
        example_agent("auto", mode="Automatic"),
        example_agent("odd", room_name_pattern="^odd$"),
        example_agent("resting", suspend=True),
        replace(example_agent("younger"), name_taken=True),
        InvalidAgent("agents", "broken", "spec.language: no"),
    ]
    for name, reason, hint in [
        ("auto", "AgentAutomatic", "dispatch.mode: Explicit"),
        ("resting", "Suspended", "spec.suspend: false"),
        ("younger", "NameTaken", "NameUnique"),
        ("odd", "RoomNameMismatch", "begin the pattern"),
        ("broken", "AgentInvalid", "spec.language"),
    ]:
        assert hint in refused(await http.post("/v1/calls", json=BODY | {"agent": name}), 409, reason)


async def test_a_call_made_before_is_found_although_its_agent_takes_no_more(
    http: httpx.AsyncClient, world: World
) -> None:
    headers = {"Idempotency-Key": "a-key-of-some-length"}
    first = await http.post("/v1/calls", json=BODY, headers=headers)
    world.agents.listed = [example_agent(suspend=True)]
    again = await http.post("/v1/calls", json=BODY, headers=headers)
    assert (again.status_code, again.json()["callId"]) == (200, first.json()["callId"])
    refused(await http.post("/v1/calls", json=BODY), 409, "Suspended")
    assert len(world.livekit.rooms_by_name) == 1


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [(LiveKitUnreachable("away"), 503, "LiveKitUnreachable"), (LiveKitRefused("no"), 502, "LiveKitRefused")],
)
async def test_without_livekit_there_is_no_call_and_no_trace_of_one(
    http: httpx.AsyncClient, world: World, error: Exception, status: int, reason: str
) -> None:
    world.livekit.error = error  # type: ignore[assignment]
    refused(await http.post("/v1/calls", json=BODY, headers=KEYED), status, reason)
    assert list(world.gateway.ledger) == []
    world.livekit.error = None
    assert (await http.post("/v1/calls", json=BODY, headers=KEYED)).status_code == 201, "the key may be used again"


async def test_without_credentials_the_operator_is_pointed_to(http: httpx.AsyncClient, world: World) -> None:
    world.connections.error = SecretError("Secret agents/livekit does not exist")
    message = refused(await http.post("/v1/calls", json=BODY), 503, "CredentialsMissing")
    assert "kubectl describe ava ornina" in message
    assert "Secret" not in message, "callers need not know its name"


async def test_before_the_agents_are_known_nothing_is_ready(http: httpx.AsyncClient, world: World) -> None:
    world.agents.is_synced = False
    refused(await http.get("/readyz"), 503, "NotReady")
    refused(await http.post("/v1/calls", json=BODY), 503, "NotReady")
    world.agents.is_synced = True
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
async def test_a_bad_body(
    http: httpx.AsyncClient, world: World, content: bytes, kind: str, status: int, reason: str
) -> None:
    refused(await http.post("/v1/calls", content=content, headers={"Content-Type": kind}), status, reason)
    assert world.livekit.launches == []


async def test_other_paths_and_methods_answer_in_json(http: httpx.AsyncClient) -> None:
    refused(await http.get("/nothing"), 404, "NotFound")
    refused(await http.put("/v1/calls"), 405, "MethodNotAllowed")
    refused(await http.get("/assets/../routes.py"), 404, "NotFound")
    refused(await http.get("/assets/package.json"), 404, "NotFound")
    refused(await http.get("/docs"), 404, "NotFound")
    for path in ("/livez", "/metrics"):
        refused(await http.get(path), 404, "NotFound")


async def test_a_mistake_of_our_own_is_json_too(
    http: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.gateway.ledger, "admission", lambda *_: 1 / 0)
    refused(await http.post("/v1/calls", json=BODY), 500, "Internal")


async def test_other_origins_are_let_in_by_name_only(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [example_agent(allowed_origins=[ELSEWHERE])]
    preflight = await http.options("/v1/calls", headers={"Origin": ELSEWHERE, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 204
    answer = await http.post("/v1/calls", json=BODY, headers={"Origin": ELSEWHERE})
    assert answer.status_code == 201
    for found in (preflight, answer):
        assert found.headers["Access-Control-Allow-Origin"] == ELSEWHERE
        assert "Origin" in found.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in found.headers
    stranger = await http.post("/v1/calls", json=BODY, headers={"Origin": "https://evil.example"})
    refused(stranger, 403, "OriginNotAllowed")
    assert "Access-Control-Allow-Origin" not in stranger.headers
    assert "Origin" in stranger.headers["Vary"]
    stranger = await http.options("/v1/calls", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in stranger.headers


async def test_an_authenticated_agent_is_for_holders_of_a_key(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [example_agent(access="Authenticated")]
    answer = await http.post("/v1/calls", json=BODY)
    refused(answer, 401, "Unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    refused(await http.get("/v1/agents/ornina"), 401, "Unauthorized")
    answer = await http.post("/v1/calls", json=BODY, headers={"Authorization": f"Bearer {API_KEY}"})
    assert answer.status_code == 201


async def test_the_page_learns_of_public_agents(http: httpx.AsyncClient) -> None:
    expected = {"namespace": "agents", "name": "ornina", "language": "ar", "access": "Public", "ready": True}
    assert (await http.get("/v1/agents/ornina")).json() == expected
    assert (await http.get("/v1/agents/agents/ornina")).json() == expected
    refused(await http.get("/v1/agents/nobody"), 404, "AgentNotFound")


async def test_the_page_may_reach_its_agents_livekit_and_nothing_else(http: httpx.AsyncClient, world: World) -> None:
    world.agents.listed = [example_agent(), replace(example_agent("other"))]
    for path in ("/?agent=ornina", "/?agent=agents/ornina"):
        answer = await http.get(path)
        assert answer.status_code == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "connect-src 'self' wss://livekit.example https://livekit.example;" in policy
        assert "unsafe" not in policy
    assert "connect-src 'self';" in (await http.get("/")).headers["Content-Security-Policy"]
    assert "connect-src 'self';" in (await http.get("/?agent=nobody")).headers["Content-Security-Policy"]


async def test_nobody_learns_the_livekit_server_of_an_agent_that_needs_a_key(
    http: httpx.AsyncClient, world: World
) -> None:
    world.agents.listed = [example_agent(access="Authenticated")]
    private, none = await http.get("/?agent=ornina"), await http.get("/?agent=nobody")
    assert "livekit.example" not in str(private.headers) + private.text
    assert private.status_code == none.status_code == 200
    assert private.headers["Content-Security-Policy"] == none.headers["Content-Security-Policy"]


async def test_everything_the_page_loads_is_served(http: httpx.AsyncClient) -> None:
    wanted, seen = ["/?agent=ornina"], set()
    while wanted:
        path = wanted.pop()
        seen.add(path)
        answer = await http.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        wanted += [found for found in re.findall(r'"(/assets/[\w.-]+)"', answer.text) if found not in seen]
    assert len(seen) == 7, "the page, its script and style, its icon, two modules and livekit-client"


async def test_answers_are_not_kept_by_browsers(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/calls", json=BODY)).headers["Cache-Control"] == "no-store"


async def test_the_interface_describes_itself(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    body = document["paths"]["/v1/calls"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"agent", "name", "language", "userId", "capabilities", "metadata"}


HEADER = st.text(alphabet=string.ascii_letters + string.digits + " :/.,=-", max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "OPTIONS"]),
    path=st.sampled_from(["/v1/calls", "/v1/calls/x", "/v1/agents/x", "/v1/agents/x/y", "/", "/assets/x"]),
    headers=st.dictionaries(
        st.sampled_from(["origin", "authorization", "content-type", "idempotency-key", "host"]), HEADER, max_size=4
    ),
    body=st.binary(max_size=300),
)
async def test_no_request_is_too_strange(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    answer = await http.request(method, path, headers=headers, content=body)
    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) <= {"reason", "message", "field"}

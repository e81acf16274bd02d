"""The audit log: who opened each call, how it ended, and who was refused."""

import logging
from collections.abc import Callable

import httpx
import pytest

from gateway.api.app import create_app
from gateway.settings import GatewaySettings
from tests.unit.gateway.conftest import API_KEY, BASE
from tests.unit.gateway.fakes import World, create_world, example_agent
from tests.unit.gateway.scenes import BODY, KEYED, call_token_of
from tests.unit.gateway.test_oidc import ENTRY, claims, issuer_server, signed

WITH_KEY = {"Authorization": f"Bearer {API_KEY}"}
ADDRESS = "127.0.0.1"
Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Returns the audit log: the message and the fields of each line."""
    caplog.set_level(logging.INFO, "gateway.audit")
    fields = ("agent", "call_id", "room", "key_id", "address", "state", "status", "reason")

    def read() -> list[dict[str, object]]:
        records = [record for record in caplog.records if record.name == "gateway.audit"]
        return [
            {"message": record.message} | {key: value for key, value in record.__dict__.items() if key in fields}
            for record in records
        ]

    return read


async def test_call_has_one_line_when_opened_and_one_when_ended(http: httpx.AsyncClient, lines: Lines) -> None:
    call = (await http.post("/v1/calls", json=BODY, headers=KEYED | WITH_KEY)).json()
    assert (await http.post("/v1/calls", json=BODY, headers=KEYED | WITH_KEY)).status_code == 200
    for _ in range(2):
        await http.delete(f"/v1/calls/{call['callId']}", headers=call_token_of(call))
    same = {"agent": "agents/ornina", "call_id": call["callId"], "room": call["room"]}
    same |= {"key_id": "agents.website", "address": ADDRESS}
    assert lines() == [
        {"message": "call opened", **same},
        {"message": "call ended", "state": "ended", "reason": "HungUp", **same},
    ]


async def test_call_with_a_token_names_its_subject(lines: Lines) -> None:
    issuer = issuer_server()
    world = create_world(GatewaySettings(oidc_issuers=(ENTRY,)), issuer=issuer)
    world.agents.listed = [example_agent(access="Authenticated"), example_agent(namespace="shop")]
    transport = httpx.ASGITransport(create_app(world.gateway))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=bearer(claims())) as http:
        assert (await http.post("/v1/calls", json=BODY)).status_code == 201
        assert (await http.get("/v1/agents/ornina")).json()["access"] == "Authenticated"
        foreign = await http.post("/v1/calls", json=BODY | {"agent": {"namespace": "shop", "name": "ornina"}})
        expired = await http.post("/v1/calls", json=BODY, headers=bearer(claims(exp=1)))
    assert (foreign.status_code, foreign.content) == (expired.status_code, expired.content)
    logged = [(line["message"], line["key_id"], line["agent"]) for line in lines()]
    assert logged == [
        ("call opened", "website", "agents/ornina"),
        ("call refused", "website", "shop/ornina"),
        ("call refused", "", "agents/ornina"),
    ]
    await world.gateway.dispatcher.stop()


def bearer(payload: dict[str, object]) -> dict[str, str]:
    """Headers with a token of the issuer."""
    return {"Authorization": f"Bearer {signed(payload)}"}


async def test_call_from_a_page_has_an_address_and_no_key(http: httpx.AsyncClient, lines: Lines) -> None:
    await http.post("/v1/calls", json=BODY)
    (opened,) = lines()
    assert (opened["message"], opened["key_id"], opened["address"]) == ("call opened", "", ADDRESS)


@pytest.mark.parametrize(
    ("agent", "headers", "refusal"),
    [
        ("private", {}, ("agents/private", "", 401, "Unauthorized")),
        ("private", {"Authorization": "Bearer guess"}, ("agents/private", "", 401, "Unauthorized")),
        ("missing", WITH_KEY, ("agents/missing", "agents.website", 404, "AgentNotFound")),
        ({"namespace": "shop", "name": "x"}, WITH_KEY, ("shop/x", "agents.website", 401, "Unauthorized")),
        ("suspended", WITH_KEY, ("agents/suspended", "agents.website", 409, "Suspended")),
        ("public", {"Origin": "https://evil.example"}, ("agents/public", "", 403, "OriginNotAllowed")),
        ("public", {"Idempotency-Key": "short"}, ("agents/public", "", 400, "InvalidRequest")),
        ("Not a name", {}, ("", "", 400, "InvalidRequest")),
    ],
    ids=[
        "no key",
        "wrong key",
        "missing agent",
        "key of another namespace",
        "suspended",
        "origin",
        "idempotency key",
        "invalid body",
    ],
)
async def test_refused_request_has_one_line_with_its_reason(
    http: httpx.AsyncClient,
    world: World,
    lines: Lines,
    agent: object,
    headers: dict[str, str],
    refusal: tuple[str, str, int, str],
) -> None:
    world.agents.listed = [
        example_agent("private", access="Authenticated"),
        example_agent("public"),
        example_agent("suspended", suspend=True),
    ]
    response = await http.post("/v1/calls", json=BODY | {"agent": agent}, headers=headers)
    name, key_id, status, reason = refusal
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    expected = {"agent": name, "key_id": key_id, "address": ADDRESS, "status": status, "reason": reason}
    assert lines() == [{"message": "call refused", **expected}]


async def test_unexpected_error_is_a_refusal_too(
    http: httpx.AsyncClient, world: World, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.gateway.ledger, "admission", lambda *_: 1 / 0)
    assert (await http.post("/v1/calls", json=BODY)).status_code == 500
    (refused,) = lines()
    assert (refused["message"], refused["status"], refused["reason"]) == ("call refused", 500, "Internal")


async def test_no_key_is_in_the_log(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await http.post("/v1/calls", json=BODY, headers=WITH_KEY)
    await http.post("/v1/calls", json=BODY, headers={"Authorization": "Bearer a-guess-at-some-key"})
    assert "call refused" in caplog.text
    logged = [str(record.__dict__) for record in caplog.records if record.name.startswith("gateway")]
    assert not [line for line in logged if API_KEY in line or "a-guess-at-some-key" in line]

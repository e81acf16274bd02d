"""The simulated Tavus over HTTP, in this process; no avatar joins a room here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from devkit.providers.tavus.app import TavusSettings, make_app

KEY = "tavus-simulated-key"
AUTH = {"x-api-key": KEY}
BODY = {
    "face_id": "r4067604db72",
    "pal_id": "pb87e71797da",
    "conversation_name": "lk_conversation_1",
    "properties": {"livekit_ws_url": "ws://127.0.0.1:9", "livekit_room_token": "secret-token"},
}
NEVER_JOINS = {"kind": "never_joins"}

Client = TestClient[Any, Any]


@asynccontextmanager
async def client(**settings: object) -> AsyncIterator[Client]:
    app = make_app(KEY, TavusSettings.model_validate({"faults": [NEVER_JOINS]} | settings))
    async with TestClient(TestServer(app)) as session:
        yield session


async def create(session: Client, **changes: object) -> dict[str, Any]:
    answer = await session.post("/v2/conversations", headers=AUTH, json=BODY | changes)
    assert answer.status == 200, await answer.text()
    document: dict[str, Any] = await answer.json()
    return document


async def report(session: Client) -> list[dict[str, Any]]:
    conversations: list[dict[str, Any]] = (await (await session.get("/_simulator")).json())["conversations"]
    return conversations


async def test_conversation_document_has_tavus_format() -> None:
    async with client() as session:
        made = await create(session)
        assert made["conversation_id"].startswith("c")
        assert (made["status"], made["conversation_name"]) == ("active", "lk_conversation_1")
        assert (made["face_id"], made["persona_id"]) == ("r4067604db72", "pb87e71797da")
        shown = await (await session.get(f"/v2/conversations/{made['conversation_id']}", headers=AUTH)).json()
        assert shown == made


async def test_former_field_names_are_accepted() -> None:
    async with client() as session:
        made = await create(session, face_id="", pal_id="", replica_id="r1", persona_id="p1")
        assert (made["face_id"], made["pal_id"]) == ("r1", "p1")


@pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}, {"x-api-key": "wrong"}])
async def test_invalid_key_is_rejected_with_tavus_body(headers: dict[str, str]) -> None:
    async with client() as session:
        answer = await session.post("/v2/conversations", headers=headers, json=BODY)
        assert (answer.status, await answer.json()) == (401, {"message": "Invalid access token"})
        assert await report(session) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"face_id": "", "pal_id": ""},
        {"face_id": 7},
        {"properties": {}},
        {"properties": []},
        {"properties": {"livekit_ws_url": "http://x", "livekit_room_token": "t"}},
        {"properties": BODY["properties"] | {"max_call_duration": 0}},  # type: ignore[operator]
    ],
)
async def test_invalid_conversation_request_is_rejected_with_reason(changes: dict[str, object]) -> None:
    async with client() as session:
        answer = await session.post("/v2/conversations", headers=AUTH, json=BODY | changes)
        assert answer.status == 400
        assert (await answer.json())["error"]


async def test_invalid_json_is_rejected() -> None:
    async with client() as session:
        assert (await session.post("/v2/conversations", headers=AUTH, data=b"{")).status == 400


async def test_ended_conversation_frees_a_seat_of_the_limit() -> None:
    async with client(seats=1) as session:
        first = await create(session)
        full = await session.post("/v2/conversations", headers=AUTH, json=BODY)
        assert (full.status, await full.json()) == (
            400,
            {"message": "User has reached maximum concurrent conversations"},
        )
        ended = await session.post(f"/v2/conversations/{first['conversation_id']}/end", headers=AUTH)
        assert ended.status == 200
        await create(session)


async def test_ended_conversation_is_listed_until_deleted() -> None:
    async with client() as session:
        path = f"/v2/conversations/{(await create(session))['conversation_id']}"
        await session.post(f"{path}/end", headers=AUTH)
        assert (await (await session.get(path, headers=AUTH)).json())["status"] == "ended"
        assert (await report(session))[0]["end_reason"] == "ended by request"
        assert (await session.delete(path, headers=AUTH)).status == 204
        gone = await session.get(path, headers=AUTH)
        assert (gone.status, await gone.json()) == (400, {"error": "Invalid conversation_id"})


async def test_deletion_ends_the_conversation() -> None:
    async with client(seats=1) as session:
        made = await create(session)
        await session.delete(f"/v2/conversations/{made['conversation_id']}", headers=AUTH)
        listed = await (await session.get("/v2/conversations", headers=AUTH)).json()
        assert listed == {"data": [], "total_count": 0}
        await create(session)


async def test_avatar_that_never_joins_holds_its_seat() -> None:
    async with client() as session:
        made = await create(session)
        assert await report(session) == [
            {
                "conversation_id": made["conversation_id"],
                "status": "active",
                "room": None,
                "identity": None,
                "joined": False,
                "end_reason": None,
            }
        ]


async def test_token_is_never_shown() -> None:
    async with client() as session:
        await create(session)
        for path in ("/_simulator", "/v2/conversations"):
            assert "secret-token" not in await (await session.get(path, headers=AUTH)).text()


async def test_seats_are_set_at_run_time() -> None:
    async with client() as session:
        assert (await session.put("/_simulator", json={"seats": 0})).status == 200
        assert (await session.post("/v2/conversations", headers=AUTH, json=BODY)).status == 400
        assert (await session.put("/_simulator", json={"seats": -1})).status == 400


async def test_rate_limited_request_creates_no_conversation() -> None:
    async with client(faults=[{"kind": "429"}]) as session:
        assert (await session.post("/v2/conversations", headers=AUTH, json=BODY)).status == 429
        assert await report(session) == []


async def test_face_is_described_to_clients_with_the_key() -> None:
    async with client() as session:
        face = await session.get("/v2/faces/r4067604db72", headers=AUTH)
        assert (face.status, (await face.json())["face_id"]) == (200, "r4067604db72")
        refused = await session.get("/v2/faces/r4067604db72", headers={"x-api-key": "wrong"})
        assert (refused.status, await refused.json()) == (401, {"message": "Invalid access token"})
        counted = (await (await session.get("/_simulator")).json())["requests"]["faces"]
        assert counted == {"total": 2, "200": 1, "401": 1}


async def test_unknown_face_id_is_a_400() -> None:
    async with client(unknown_face_ids=["r0"]) as session:
        answer = await session.get("/v2/faces/r0", headers=AUTH)
        assert (answer.status, await answer.json()) == (400, {"error": "Invalid face_id"})


async def test_faces_endpoint_has_its_own_faults() -> None:
    async with client(faults=[{"kind": "500", "endpoints": ["faces"]}, NEVER_JOINS]) as session:
        assert (await session.get("/v2/faces/r1", headers=AUTH)).status == 500
        await create(session)


async def test_keys_are_rotated_at_run_time_and_never_shown() -> None:
    async with client() as session:
        changed = await session.put("/_simulator", json={"api_keys": ["second-key"], "faults": [NEVER_JOINS]})
        assert "second-key" not in await changed.text() + await (await session.get("/_simulator")).text()
        assert (await session.get("/v2/faces/r1", headers=AUTH)).status == 401
        assert (await session.get("/v2/faces/r1", headers={"x-api-key": "second-key"})).status == 200
        await session.put("/_simulator", json={})
        assert (await session.get("/v2/faces/r1", headers=AUTH)).status == 200

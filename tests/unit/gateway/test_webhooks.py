"""LiveKit's webhooks: who may send them, and how much sooner the gateway knows what they say."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import httpx
import pytest
from livekit import api

from gateway.agents import Agent
from gateway.api.routes.webhooks import MAX_BYTES
from gateway.calls import looks, watch
from gateway.calls.call import CallState
from gateway.calls.reads import READ_BURST
from gateway.livekit import webhooks
from gateway.livekit.connections import Connection, SecretError
from gateway.livekit.server import Participant, Room
from gateway.livekit.tokens import Credentials
from gateway.livekit.webhooks import InvalidSignature, Webhooks
from tests.unit.gateway.fakes import CREDENTIALS, Clock, FakeAgents, FakeLiveKit, World, example_agent
from tests.unit.gateway.scenes import agent_at, becomes_true, current, open_call, post_call, reaches
from tests.unit.gateway.test_http import rejected

OTHER_KEY = Credentials("otherkey", "another-secret-of-at-least-thirty-two-characters")
SERVER = example_agent().spec.livekit.url
ROOM = "ornina-theirs"
TICKS_SECONDS = 0.3
"""Within this time the watch wakes and reads a room."""


def body_of(event: str = "room_started", room: str = ROOM, metadata: str = "") -> bytes:
    """Return the body of a webhook, as LiveKit writes it."""
    about = {"name": room, "sid": "RM_1", "metadata": metadata, "numParticipants": 1}
    return json.dumps({"event": event, "room": about, "id": "EV_1", "createdAt": "1", "aNewField": {}}).encode()


def signed(body: bytes, credentials: Credentials = CREDENTIALS, *, seconds: float = 300, sha256: str = "") -> str:
    """Return the token with which LiveKit signs a body."""
    digest = sha256 or base64.b64encode(hashlib.sha256(body).digest()).decode()
    token = api.AccessToken(credentials.api_key, credentials.api_secret).with_sha256(digest)
    return token.with_ttl(timedelta(seconds=seconds)).to_jwt()


async def post(
    http: httpx.AsyncClient, body: bytes, token: str | None = None, media_type: str = "application/webhook+json"
) -> httpx.Response:
    headers = {"Content-Type": media_type, "Authorization": signed(body) if token is None else token}
    return await http.post("/v1/webhook", content=body, headers=headers)


def count(world: World, event: str) -> float | None:
    name = "avatar_agent_gateway_webhooks_total"
    return world.gateway.metrics.registry.get_sample_value(name, {"event": event})


@pytest.fixture
def heard(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """Server, room and `may_be_new` of each hint."""
    found: list[tuple[str, str, bool]] = []
    monkeypatch.setattr(
        world.gateway.watch, "hint", lambda server, room, *, may_be_new: found.append((server, room, may_be_new))
    )
    return found


async def test_signed_webhook_is_heard_and_counted(
    http: httpx.AsyncClient, world: World, heard: list[tuple[str, str, bool]]
) -> None:
    for event in ("room_started", "participant_left", "track_published", "an_event_of_tomorrow"):
        response = await post(http, body_of(event))
        assert (response.status_code, response.content) == (204, b""), response.text
    assert heard == [(SERVER, ROOM, True), (SERVER, ROOM, False)]
    assert (count(world, "room_started"), count(world, "participant_left"), count(world, "other")) == (1, 1, 2)
    response = await post(http, json.dumps({"event": "room_started"}).encode())
    assert (response.status_code, len(heard)) == (204, 2), "an event about no room is no hint"


ALTERED = body_of(room="ornina-altered")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "Bearer",
        "no-token",
        "a.b.c",
        "x" * 5000,
        signed(ALTERED),
        signed(body_of(), OTHER_KEY),
        signed(body_of(), replace(CREDENTIALS, api_secret=OTHER_KEY.api_secret)),
        signed(body_of(), seconds=-3600),
        signed(body_of(), sha256="not the hash"),
        api.AccessToken(CREDENTIALS.api_key, CREDENTIALS.api_secret).to_jwt(),
        signed(body_of()).rpartition(".")[0] + ".",
    ],
    ids=[
        "no token",
        "only a scheme",
        "text",
        "three parts",
        "too long",
        "altered body",
        "other key",
        "other secret",
        "expired",
        "not base64",
        "no hash",
        "no signature",
    ],
)
async def test_webhook_without_a_valid_signature_is_refused(
    http: httpx.AsyncClient, world: World, heard: list[tuple[str, str, bool]], token: str
) -> None:
    rejected(await post(http, body_of(), token), 401, "Unauthorized")
    assert (heard, count(world, "room_started")) == ([], 0)


async def test_body_must_be_an_event_of_bounded_size_and_right_type(http: httpx.AsyncClient, world: World) -> None:
    rejected(await post(http, b'{"event": {}}'), 400, "BadJSON")
    rejected(await post(http, b"{"), 400, "BadJSON")
    rejected(await post(http, b"\xff"), 401, "Unauthorized")
    rejected(await post(http, body_of(), media_type="application/json"), 415, "UnsupportedMediaType")
    assert (await post(http, body_of(metadata="x" * 200_000))).status_code == 204
    rejected(await post(http, body_of(metadata="x" * MAX_BYTES)), 413, "BodyTooLarge")
    world.agents.is_synced = False
    rejected(await post(http, body_of()), 503, "NotReady")


async def test_unsigned_webhooks_are_limited_and_take_nothing_from_callers(
    http: httpx.AsyncClient, world: World
) -> None:
    statuses = [(await post(http, body_of(), "no-token")).status_code for _ in range(40)]
    assert (statuses[0], statuses[-1]) == (401, 429)
    assert (await post(http, body_of())).status_code == 204, "a signed one has no limit"
    await post_call(http)


@dataclass
class Secrets:
    """Connections whose credentials differ by agent. `opened` has every agent that was asked for."""

    credentials: dict[str, Credentials]
    opened: list[str] = field(default_factory=list)

    async def open(self, agent: Agent) -> Connection:
        self.opened.append(agent.key)
        if agent.name not in self.credentials:
            raise SecretError(f"no Secret for {agent.key}")
        return Connection(FakeLiveKit(), self.credentials[agent.name])


def receiver(**credentials: Credentials) -> tuple[Webhooks, Secrets]:
    """Return webhooks of one agent and server for each of these credentials, and of an agent without a Secret."""
    secrets = Secrets(credentials)
    agents = [agent_at(f"wss://{name}.example", name) for name in (*credentials, "without")]
    return Webhooks(FakeAgents(list(agents)), secrets), secrets


async def test_webhook_is_about_the_server_whose_secret_signed_it() -> None:
    same_key = replace(CREDENTIALS, api_secret=OTHER_KEY.api_secret)
    hooks, _ = receiver(one=CREDENTIALS, two=same_key, three=OTHER_KEY, four=CREDENTIALS)
    body = body_of()
    for credentials, servers in (
        (CREDENTIALS, {"wss://one.example", "wss://four.example"}),
        (same_key, {"wss://two.example"}),
        (OTHER_KEY, {"wss://three.example"}),
    ):
        assert (await hooks.receive(body, signed(body, credentials))).servers == servers


async def test_unknown_keys_do_not_read_secrets_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(webhooks, "time", clock)
    hooks, secrets = receiver(one=CREDENTIALS)
    body = body_of()

    async def refused() -> None:
        with pytest.raises(InvalidSignature):
            await hooks.receive(body, signed(body, OTHER_KEY))

    await asyncio.gather(*(refused() for _ in range(20)))
    assert sorted(secrets.opened) == ["agents/one", "agents/without"], "each Secret was read once"
    secrets.credentials["one"] = OTHER_KEY
    clock.now += webhooks.KEYS_SECONDS
    await hooks.receive(body, signed(body, OTHER_KEY))
    with pytest.raises(InvalidSignature):
        await hooks.receive(body, signed(body))


async def test_secret_that_is_not_read_in_time_delays_no_webhook_for_long(
    virtual_time: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, secrets = receiver(one=CREDENTIALS, two=OTHER_KEY)
    answered = secrets.open

    async def hangs(agent: Agent) -> Connection:
        if agent.name == "two":
            await asyncio.sleep(3600)
        return await answered(agent)

    monkeypatch.setattr(secrets, "open", hangs)
    body, began = body_of(), asyncio.get_running_loop().time()
    await hooks.receive(body, signed(body))
    assert asyncio.get_running_loop().time() - began == pytest.approx(webhooks.READ_SECONDS)


def now() -> float:
    return asyncio.get_running_loop().time()


async def idle_watch(world: World) -> None:
    """Watch a server without calls, up to a moment just after a list."""
    world.gateway.watch.cover_declared()
    await asyncio.sleep(watch.IDLE_LIST_SECONDS + 0.5)


async def adoption(world: World, *, hinted: bool) -> float:
    """Return how long it takes until a room of another program is a call."""
    await idle_watch(world)
    began = now()
    await world.livekit.create_room(ROOM, "", "ornina-agent", "")
    if hinted:
        world.gateway.watch.hint(SERVER, ROOM, may_be_new=True)
    await becomes_true(lambda: list(world.gateway.ledger))
    return now() - began


@pytest.mark.usefixtures("virtual_clock")
async def test_room_of_another_program_is_adopted_at_once(world: World) -> None:
    assert await adoption(world, hinted=True) <= TICKS_SECONDS
    world.gateway.watch.hint(SERVER, ROOM, may_be_new=True)
    (call,) = world.gateway.ledger
    await reaches(world, call, CallState.JOINED)
    assert world.livekit.launches == [(ROOM, "ornina-agent")], "a repeated event changes nothing"


@pytest.mark.usefixtures("virtual_clock")
async def test_room_of_another_program_is_adopted_without_webhooks_too(world: World) -> None:
    assert TICKS_SECONDS < await adoption(world, hinted=False) <= watch.IDLE_LIST_SECONDS


@pytest.mark.usefixtures("virtual_clock")
async def test_room_that_gets_its_dispatch_late_is_looked_into_when_its_caller_joins(world: World) -> None:
    await idle_watch(world)
    await world.livekit.create_room(ROOM, "", "another-agent", "")
    world.gateway.watch.hint(SERVER, ROOM, may_be_new=True)
    await asyncio.sleep(TICKS_SECONDS)
    assert list(world.gateway.ledger) == []
    await world.livekit.create_dispatch(ROOM, "ornina-agent", "")
    world.gateway.watch.hint(SERVER, ROOM, may_be_new=True)
    await asyncio.sleep(TICKS_SECONDS)
    assert [call.room for call in world.gateway.ledger] == [ROOM]


@pytest.mark.usefixtures("virtual_clock")
async def test_event_of_a_call_makes_the_watch_read_its_room_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    await becomes_true(lambda: current(world, call).caller_seen_at)
    reads: list[float] = []
    participants = world.livekit.participants

    async def counted(room: str) -> list[Participant]:
        reads.append(now())
        return await participants(room)

    monkeypatch.setattr(world.livekit, "participants", counted)
    await becomes_true(lambda: reads)
    reads.clear()
    began = now()
    for _ in range(5):
        world.gateway.watch.hint(SERVER, call.room, may_be_new=False)
    await becomes_true(lambda: reads)
    assert now() - began <= TICKS_SECONDS
    assert len(reads) == 1, "repeated events are one read"


@pytest.mark.usefixtures("virtual_clock")
async def test_events_that_are_late_or_wrong_end_no_call(world: World) -> None:
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    for may_be_new in (True, False):  # as after room_finished and a repeated room_started
        world.gateway.watch.hint(SERVER, call.room, may_be_new=may_be_new)
        world.gateway.watch.hint(SERVER, "a-room-that-is-closed", may_be_new=may_be_new)
        world.gateway.watch.hint("wss://unknown.example", call.room, may_be_new=may_be_new)
        await asyncio.sleep(5)
    assert current(world, call).state is CallState.JOINED
    assert len(list(world.gateway.ledger)) == 1
    assert len(world.livekit.launches) == 1


@pytest.mark.usefixtures("virtual_clock")
async def test_events_of_other_programs_have_a_bound_of_their_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await idle_watch(world)
    asked: list[str] = []
    rooms = world.livekit.rooms

    async def counted(names: Sequence[str] = ()) -> list[Room]:
        asked.extend(names)
        return await rooms(names)

    monkeypatch.setattr(world.livekit, "rooms", counted)
    for number in range(2 * looks.MAX_HINTS):
        world.gateway.watch.hint(SERVER, f"their-{number}", may_be_new=True)
    await asyncio.sleep(TICKS_SECONDS)
    assert len(asked) == looks.LOOK_BURST
    assert world.gateway.watch._servers[SERVER].reads._bucket._tokens == pytest.approx(READ_BURST, abs=3), (
        "calls keep theirs"
    )


@pytest.mark.usefixtures("virtual_clock")
async def test_room_is_adopted_at_once_while_all_reads_are_used(world: World) -> None:
    await idle_watch(world)
    world.gateway.watch._servers[SERVER].reads._bucket._tokens = -100.0
    await world.livekit.create_room(ROOM, "", "ornina-agent", "")
    world.gateway.watch.hint(SERVER, ROOM, may_be_new=True)
    await asyncio.sleep(TICKS_SECONDS)
    assert [call.room for call in world.gateway.ledger] == [ROOM]

"""Probes of LiveKit, OpenAI and Tavus, and how their responses are interpreted."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from livekit import api

from agentspec import AvatarAgentSpec
from controller.inputs import probe_cache, providers
from controller.inputs.providers import Providers
from controller.observation import Key, Provider, ProviderAnswer, ProviderVerdict
from tests.unit.controller.builders import KEY, TAVUS, spec

SECRET = "a-secret-of-more-than-thirty-two-bytes"
VALUES = {
    "livekit": {"apiKey": "lk-key", "apiSecret": SECRET},
    "openai": {"apiKey": "sk-0123456789"},
    "own": {"apiKey": "own-0123456789"},
    "tavus": {"apiKey": "tv-0123456789"},
}
ACCEPTED, REJECTED, UNREACHABLE, PENDING = ProviderVerdict


@dataclass
class World:
    """All three providers on one port, with responses that the test sets."""

    url: str = ""
    answers: dict[Provider, tuple[int, Any]] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)
    hangs: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if self.hangs:
            await asyncio.sleep(3600)
        livekit = request.path.startswith("/twirp/")
        provider = Provider.LIVEKIT if livekit else Provider.TAVUS if "/faces/" in request.path else Provider.OPENAI
        status, body = self.answers.get(provider, (200, b"" if livekit else {}))
        if isinstance(body, bytes):
            return web.Response(status=status, body=body, headers={"Location": f"{self.url}/elsewhere"})
        return web.json_response(body, status=status)

    def spec(self, **voice: Any) -> AvatarAgentSpec:
        livekit = {"url": self.url.replace("http", "ws"), "credentialsSecretRef": {"name": "livekit"}}
        openai = {"baseURL": f"{self.url}/v1", "credentialsSecretRef": {"name": "openai"}}
        tavus = {**TAVUS["tavus"], "baseURL": f"{self.url}/v2/"}
        return spec(livekit=livekit, voice={"openai": openai, **voice}, avatar={"provider": "Tavus", "tavus": tavus})


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """All three providers, with time for their first responses on a busy machine."""
    monkeypatch.setattr(probe_cache, "FIRST_RESULT_TIMEOUT_SECONDS", providers.TIMEOUT_SECONDS)
    made = World()
    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", made.answer)
    async with TestServer(application) as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def check(session: aiohttp.ClientSession, declared: AvatarAgentSpec) -> dict[str, ProviderAnswer]:
    return await Providers(session, list[Key]().append).check(KEY, declared, VALUES)


async def test_probes_are_cheap_and_change_nothing(world: World, session: aiohttp.ClientSession) -> None:
    answers = await check(session, world.spec(llm={"model": "meta/llama 3"}))
    assert answers == dict.fromkeys(Provider, ProviderAnswer(ACCEPTED))
    requests = {request.raw_path: request for request in world.requests}
    assert set(requests) == {"/twirp/livekit.RoomService/ListRooms", "/v1/models/meta%2Fllama%203", "/v2/faces/face"}
    assert requests["/v1/models/meta%2Fllama%203"].headers["Authorization"] == "Bearer sk-0123456789"
    assert requests["/v2/faces/face"].headers["x-api-key"] == "tv-0123456789"
    assert {request.method for path, request in requests.items() if "twirp" not in path} == {"GET"}


OWN = {"credentialsSecretRef": {"name": "own"}}


async def test_each_address_with_a_key_is_probed_once(world: World, session: aiohttp.ClientSession) -> None:
    own = {"baseURL": f"{world.url}/other?tenant=a", **OWN}
    declared = world.spec(stt=own, llm={"fallbacks": [{**own, "model": "b"}, {"baseURL": f"{world.url}/none"}]})
    answers = await check(session, declared)
    assert set(answers) == {"LiveKit", "OpenAI", "OpenAI (spec.voice.stt)", "Tavus"}
    requests = {request.raw_path: request for request in world.requests if "models" in request.path}
    assert set(requests) == {"/v1/models/gpt-4o-mini", "/other/models/b?tenant=a"}
    assert requests["/other/models/b?tenant=a"].headers["Authorization"] == "Bearer own-0123456789"


async def test_providers_of_plugins_and_the_gateway_are_not_probed(
    world: World, session: aiohttp.ClientSession
) -> None:
    plugin, gateway = {"provider": "Plugin", "plugin": "deepgram", **OWN}, {"provider": "Inference", "model": "a/b"}
    answers = await check(session, world.spec(stt=plugin, llm=gateway, tts=gateway))
    assert set(answers) == {"LiveKit", "Tavus"}


async def test_azure_is_asked_for_its_models(world: World, session: aiohttp.ClientSession) -> None:
    azure = {"baseURL": f"{world.url}/openai/deployments/d?api-version=2024-10-21", **OWN}
    assert (await check(session, world.spec(llm=azure)))["OpenAI (spec.voice.llm)"] == ProviderAnswer(ACCEPTED)
    (request,) = [request for request in world.requests if request.path.startswith("/openai")]
    assert request.raw_path == "/openai/models?api-version=2024-10-21"
    assert request.headers["api-key"] == "own-0123456789" and "Authorization" not in request.headers


async def test_only_providers_in_use_are_probed(world: World, session: aiohttp.ClientSession) -> None:
    declared = world.spec()
    voice_only = declared.model_copy(update={"avatar": declared.avatar.model_copy(update={"provider": "None"})})
    assert set(await check(session, voice_only)) == {Provider.LIVEKIT, Provider.OPENAI}


@pytest.mark.parametrize(
    ("provider", "status", "body", "verdict", "detail"),
    [
        pytest.param(
            Provider.LIVEKIT,
            401,
            {"code": "unauthenticated", "msg": "invalid API key: lk-key"},
            REJECTED,
            "HTTP 401 invalid API key: lk-key",
            id="LiveKit rejects",
        ),
        pytest.param(Provider.LIVEKIT, 503, {"msg": "not now"}, UNREACHABLE, "HTTP 503 not now", id="LiveKit fails"),
        pytest.param(
            Provider.LIVEKIT, 200, b"<html>", UNREACHABLE, "but not as LiveKit does", id="a web site that answers 200"
        ),
        pytest.param(Provider.LIVEKIT, 404, b"<html>", UNREACHABLE, "HTTP 404", id="a web site that answers 404"),
        pytest.param(Provider.LIVEKIT, 400, ["?"], UNREACHABLE, "not as LiveKit does", id="another JSON API"),
        pytest.param(
            Provider.LIVEKIT, 401, {"msg": f"bad {SECRET}"}, REJECTED, "HTTP 401", id="LiveKit repeats the secret"
        ),
        pytest.param(
            Provider.OPENAI,
            401,
            {"error": {"message": "Incorrect API key provided: sk-01********6789.", "code": "invalid_api_key"}},
            REJECTED,
            "HTTP 401",
            id="OpenAI rejects and repeats a part of the key",
        ),
        pytest.param(
            Provider.OPENAI,
            403,
            {"error": {"message": "Country, region, or territory not supported"}},
            REJECTED,
            "HTTP 403 Country, region, or territory not supported",
            id="OpenAI rejects for another reason",
        ),
        pytest.param(
            Provider.OPENAI,
            401,
            {"error": {"message": "You have insufficient permissions. Missing scopes: api.model.read. Check…"}},
            ACCEPTED,
            "does not let it read models (restricted key), so the model is unchecked",
            id="a restricted key",
        ),
        pytest.param(
            Provider.OPENAI,
            404,
            {"error": {"message": "The model does not exist", "code": "model_not_found"}},
            ACCEPTED,
            "does not list model 'gpt-4o-mini' (spec.voice.llm.model), or does not serve this path: HTTP 404",
            id="an unknown model",
        ),
        pytest.param(
            Provider.OPENAI,
            429,
            {"error": {"message": "Slow down"}},
            UNREACHABLE,
            "HTTP 429 Slow down",
            id="rate limited",
        ),
        pytest.param(Provider.OPENAI, 400, {"error": []}, UNREACHABLE, "HTTP 400", id="an unexpected error body"),
        pytest.param(Provider.OPENAI, 500, b"\xff" * 100_000, UNREACHABLE, "HTTP 500", id="a large binary body"),
        pytest.param(Provider.OPENAI, 307, b"", UNREACHABLE, "HTTP 307", id="a redirect, not followed"),
        pytest.param(
            Provider.TAVUS,
            401,
            {"message": "Invalid access token"},
            REJECTED,
            "HTTP 401 Invalid access token",
            id="Tavus rejects",
        ),
        pytest.param(
            Provider.TAVUS,
            400,
            {"error": "Invalid face_id"},
            ACCEPTED,
            "does not know face ID 'face' (spec.avatar.tavus.faceID), or does not serve this path: HTTP 400",
            id="an unknown face ID",
        ),
        pytest.param(Provider.TAVUS, 502, b"<html>", UNREACHABLE, "HTTP 502", id="Tavus fails"),
    ],
)
async def test_response_is_interpreted(
    world: World,
    session: aiohttp.ClientSession,
    provider: Provider,
    status: int,
    body: object,
    verdict: ProviderVerdict,
    detail: str,
) -> None:
    world.answers[provider] = (status, body)
    answers = await check(session, world.spec())
    found = answers.pop(provider)
    assert found.verdict is verdict
    assert found.detail.endswith(detail)
    assert set(answers.values()) == {ProviderAnswer(ACCEPTED)}, "the others are not concerned"
    assert not any(request.path == "/elsewhere" for request in world.requests)


async def test_endless_or_compressed_response_does_not_fill_memory(session: aiohttp.ClientSession) -> None:
    megabyte = bytes(2**20)
    packed, fits = gzip.compress(megabyte * 64), 8 * 2**20

    async def flood(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/twirp/"):
            headers = {"Content-Encoding": "gzip", "Content-Type": "application/protobuf"}
            return web.Response(body=packed, headers=headers)
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(megabyte)

    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", flood)
    async with TestServer(application) as server:
        tracemalloc.start()
        try:
            answers = await check(session, World(str(server.make_url("")).rstrip("/")).spec())
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answers[Provider.LIVEKIT] == ProviderAnswer(UNREACHABLE, "a server answers, but not as LiveKit does")
    assert answers[Provider.OPENAI] == answers[Provider.TAVUS] == ProviderAnswer(UNREACHABLE, "HTTP 500")
    assert most < fits


async def test_livekit_request_equals_livekit_apis(world: World, session: aiohttp.ClientSession) -> None:
    await check(session, world.spec())
    (request,) = [request for request in world.requests if request.path.startswith("/twirp/")]
    scheme, _, token = request.headers["Authorization"].partition(" ")
    assert (request.method, scheme) == ("POST", "Bearer")
    assert request.headers["Accept-Encoding"] == "identity"
    claims = api.TokenVerifier("lk-key", SECRET).verify(token)
    assert claims.video is not None
    assert claims.video.room_list


async def test_hanging_server_times_out(
    world: World, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "TIMEOUT_SECONDS", 0.1)
    world.hangs = True
    answers = await check(session, world.spec())
    assert set(answers.values()) == {ProviderAnswer(UNREACHABLE, "no answer within 0 s")}


async def test_hanging_server_is_pending_and_reported_later(
    world: World, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_cache, "FIRST_RESULT_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(providers, "TIMEOUT_SECONDS", 0.5)
    changed = asyncio.Queue[Key]()
    world.hangs = True
    checker = Providers(session, changed.put_nowait)
    answers = await checker.check(KEY, world.spec(), VALUES)
    assert answers == dict.fromkeys(Provider, ProviderAnswer(PENDING))
    for _ in Provider:
        assert await asyncio.wait_for(changed.get(), 5) == KEY
    answers = await checker.check(KEY, world.spec(), VALUES)
    assert {answer.verdict for answer in answers.values()} == {UNREACHABLE}


async def test_unreachable_server_is_reported(world: World, session: aiohttp.ClientSession) -> None:
    world.url = f"http://127.0.0.1:{unused_port()}"
    answers = await check(session, world.spec())
    assert {answer.verdict for answer in answers.values()} == {UNREACHABLE}
    assert all("onnect" in answer.detail for answer in answers.values())


async def test_agents_with_the_same_keys_share_a_request(world: World, session: aiohttp.ClientSession) -> None:
    providers = Providers(session, list[Key]().append)
    await asyncio.gather(*(providers.check(Key("shop", f"ava-{n}"), world.spec(), VALUES) for n in range(50)))
    assert len(world.requests) == len(Provider)


async def test_changed_keys_are_probed_at_once(world: World, session: aiohttp.ClientSession) -> None:
    providers = Providers(session, list[Key]().append)
    await providers.check(KEY, world.spec(), VALUES)
    world.answers[Provider.OPENAI] = (401, {})
    rotated = {**VALUES, "openai": {"apiKey": "sk-rotated"}}
    assert (await providers.check(KEY, world.spec(), VALUES))[Provider.OPENAI].verdict is ACCEPTED
    assert (await providers.check(KEY, world.spec(), rotated))[Provider.OPENAI].verdict is REJECTED

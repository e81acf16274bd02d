"""The client's requests over HTTP on loopback, and its encoding of documents."""

from typing import Any

import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from agentspec import API_GROUP, API_VERSION
from kube import retries
from kube.client import LIST_PAGE_SIZE, ApiError, KubeClient, as_yaml
from kube.kinds import AVATAR_AGENT, POD
from tests.unit.kube.serving import serving


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name}}


async def test_list_is_fetched_page_by_page() -> None:
    queries: list[dict[str, str]] = []
    pages = {
        "": {"metadata": {"continue": "second", "resourceVersion": "6"}, "items": [pod("a"), pod("b")]},
        "second": {"metadata": {"continue": "third", "resourceVersion": "6"}, "items": None},
        "third": {"metadata": {"resourceVersion": "7"}, "items": [pod("c")]},
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.path == "/api/v1/namespaces/shop/pods"
        queries.append(dict(request.query))
        return web.json_response(pages[request.query.get("continue", "")])

    async with serving(answer) as client:
        items, version = await client.list_with_version(POD, "shop", "app=ava")
    assert ([item["metadata"]["name"] for item in items], version) == (["a", "b", "c"], "7")
    selection = {"limit": str(LIST_PAGE_SIZE), "labelSelector": "app=ava"}
    assert queries == [selection, selection | {"continue": "second"}, selection | {"continue": "third"}]


async def test_versions_are_read_page_by_page() -> None:
    def versioned(name: str, version: str) -> dict[str, Any]:
        managed = {"managedFields": [{"fieldsV1": {"f:spec": {}}}], "resourceVersion": version}
        return {"kind": "PartialObjectMetadata", "metadata": pod(name)["metadata"] | managed}

    pages = {
        "": {"metadata": {"continue": "second", "resourceVersion": "9"}, "items": [versioned("a", "7")]},
        "second": {"metadata": {"continue": "third", "resourceVersion": "9"}, "items": None},
        "third": {"metadata": {"resourceVersion": "9"}, "items": [versioned("b", "8")]},
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.headers["Accept"] == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        assert request.query["limit"] == str(LIST_PAGE_SIZE)
        return web.json_response(pages[request.query.get("continue", "")])

    async with serving(answer) as client:
        assert await client.list_versions(POD, None) == {("shop", "a"): 7, ("shop", "b"): 8}


@pytest.mark.parametrize("body", ["<html>", "{}", '{"metadata": {}, "items": [{"metadata": {"name": "a"}}]}'])
async def test_list_of_something_else_is_an_error(body: str) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body)

    async with serving(answer) as client:
        with pytest.raises(ApiError, match="InvalidResponse: GET /api/v1/pods"):
            await client.list_versions(POD, None)


GROUPS: dict[str, Any] = {
    "groups": [
        {"name": "apps", "versions": [{"groupVersion": "apps/v1", "version": "v1"}]},
        {"name": API_GROUP, "versions": [{"groupVersion": AVATAR_AGENT.api_version, "version": API_VERSION}]},
    ]
}


@pytest.mark.parametrize(
    ("groups", "resources", "is_listed"),
    [
        ({"groups": GROUPS["groups"][:1]}, [], False),
        (GROUPS, [], False),
        (GROUPS, [f"{AVATAR_AGENT.plural}/status"], False),
        (GROUPS, [AVATAR_AGENT.plural, f"{AVATAR_AGENT.plural}/status"], True),
    ],
    ids=["no group", "no resource", "a subresource", "listed"],
)
async def test_kind_is_discoverable_once_discovery_lists_it(
    groups: dict[str, Any], resources: list[str], is_listed: bool
) -> None:
    version = {"resources": [{"name": resource} for resource in resources]}
    answers = {"/apis": groups, f"/apis/{AVATAR_AGENT.api_version}": version}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(answers[request.path])

    async with serving(answer) as client:
        assert await client.is_discoverable(AVATAR_AGENT) is is_listed


async def test_missing_object_is_none() -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"reason": "NotFound", "message": "no such pod"}, status=404)

    async with serving(answer) as client:
        assert await client.get(POD, "shop", "ava") is None


@pytest.mark.parametrize(
    ("status", "is_rejection"), [(400, True), (403, True), (422, True), (401, False), (409, False), (429, False)]
)
async def test_failed_request_says_whether_it_was_rejected(status: int, is_rejection: bool) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"reason": "Why", "message": "because"}, status=status, headers={"Retry-After": "60"})

    async with serving(answer) as client:
        with pytest.raises(ApiError, match="GET /api/v1/namespaces/shop/pods/ava: because") as raised:
            await client.get(POD, "shop", "ava")
    assert (raised.value.status, raised.value.reason, raised.value.message) == (status, "Why", "because")
    assert raised.value.is_rejection is is_rejection


async def test_answer_that_is_not_json_is_an_error_without_status() -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>a proxy's page</html>")

    async with serving(answer) as client:
        with pytest.raises(ApiError) as raised:
            await client.get(POD, "shop", "ava")
    assert (raised.value.status, raised.value.reason) == (0, "InvalidResponse")


async def test_server_error_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "INITIAL_BACKOFF_SECONDS", 0.01)
    answers = [500, 503, 200]

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(pod("ava"), status=answers.pop(0))

    async with serving(answer) as client:
        assert await client.get(POD, "shop", "ava") == pod("ava")
    assert answers == []


@given(st.text())
def test_every_text_survives_as_yaml(text: str) -> None:
    assert yaml.safe_load(as_yaml({"text": text})) == {"text": text}


def test_yaml_has_no_surrogate_pairs() -> None:
    assert as_yaml({"text": "\U0001f600 \ufeff é"}) == '{"text": "\U0001f600 \\ufeff \\u00e9"}'


Observed = list[tuple[str, int]]


def observe(client: KubeClient) -> Observed:
    """Record verb and status of each request of the client; the seconds are checked to be plausible."""
    observed: Observed = []

    def record(verb: str, status: int, seconds: float) -> None:
        assert 0 <= seconds < 60
        observed.append((verb, status))

    client.observe_requests(record)
    return observed


async def test_each_attempt_of_a_request_is_observed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "INITIAL_BACKOFF_SECONDS", 0.01)
    answers = [503, 200, 404]

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(pod("ava"), status=answers.pop(0))

    async with serving(answer) as client:
        observed = observe(client)
        await client.get(POD, "shop", "ava")
        await client.get(POD, "shop", "ava")
        client.allow_writes_while(lambda: False)
        with pytest.raises(ApiError):
            await client.delete(POD, "shop", "ava")
    assert observed == [("GET", 503), ("GET", 200), ("GET", 404)], "a write that was not sent is no request"


async def test_request_without_an_answer_is_observed_with_code_0() -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with serving(hang_up) as client:
        observed = observe(client)
        with pytest.raises(ApiError):
            await client.merge_patch(POD, "shop", "ava", {})
        with pytest.raises(ApiError):
            await anext(client.watch(POD, None, "5"))
    assert observed == [("PATCH", 0), ("WATCH", 0)]


@pytest.mark.parametrize("status", [200, 410])
async def test_watch_is_observed_when_the_server_answers(status: int) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="not json\n", status=status)

    async with serving(answer) as client:
        observed = observe(client)
        with pytest.raises(ApiError):
            await anext(client.watch(POD, None, "5"))
    assert observed == [("WATCH", status)], "what the stream brings afterwards is no second request"

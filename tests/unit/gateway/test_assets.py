"""The files of the call page over HTTP: compression, what a browser may keep, and answers to one that has them."""

import gzip
import os
import re
from pathlib import Path

import httpx
import pytest

from gateway.api.app import create_app
from gateway.settings import WEB_DIR
from gateway.web import assets
from gateway.web.assets import LIVEKIT_CLIENT, Assets
from tests.unit.gateway.fakes import World

SCRIPT = (WEB_DIR / "call.js").read_bytes()


@pytest.fixture
async def http(world: World) -> httpx.AsyncClient:
    """A client that accepts only what a test names."""
    client = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(world.gateway)), base_url="http://gateway")
    client.headers["Accept-Encoding"] = "identity"
    return client


async def raw(http: httpx.AsyncClient, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """Get a file as it is sent, without decompression."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    async with http.stream("GET", path, headers=named) as found:
        return found, b"".join([chunk async for chunk in found.aiter_raw()])


async def test_file_is_compressed_for_clients_that_accept_it(http: httpx.AsyncClient) -> None:
    response, body = await raw(http, "/assets/any/call.js", Accept_Encoding="gzip, deflate, br")
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert gzip.decompress(body) == SCRIPT
    assert len(body) == int(response.headers["Content-Length"]) < len(SCRIPT) / 2
    response, body = await raw(http, "/assets/any/call.js")
    assert "Content-Encoding" not in response.headers
    assert body == SCRIPT
    assert response.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_browser_that_has_the_file_gets_no_body(http: httpx.AsyncClient, encoding: str) -> None:
    first, _ = await raw(http, "/assets/any/style.css", Accept_Encoding=encoding)
    assert first.headers["Cache-Control"] == "no-cache"
    second, body = await raw(
        http, "/assets/any/style.css", Accept_Encoding=encoding, If_None_Match=f'W/{first.headers["ETag"]}, "other"'
    )
    assert (second.status_code, body) == (304, b"")
    assert second.headers["ETag"] == first.headers["ETag"]
    other, _ = await raw(http, "/assets/any/style.css", Accept_Encoding=encoding, If_None_Match='"other"')
    assert other.status_code == 200


async def test_file_of_a_new_release_is_sent_at_equal_age_and_size(http: httpx.AsyncClient, tmp_path: Path) -> None:
    path, asset = f"/assets/any/{LIVEKIT_CLIENT}", tmp_path / "assets" / LIVEKIT_CLIENT
    tags = []
    for text in ("export const a = 1;", "export const a = 2;"):
        asset.write_text(text)
        os.utime(asset, (1, 1))  # as image builds may do with all files
        assets._read.cache_clear()  # a new release is a new process
        tags.append((await raw(http, path))[0].headers["ETag"])
    assert tags[0] != tags[1]
    response, body = await raw(http, path, If_None_Match=tags[0])
    assert (response.status_code, body) == (200, b"export const a = 2;")


async def test_browser_may_keep_files_under_paths_that_change_with_them(
    http: httpx.AsyncClient, tmp_path: Path, world: World
) -> None:
    version = world.gateway.pages.assets.version
    page = await http.get("/?agent=ornina")
    assert re.findall(r'"/assets/([^"]+)"', page.text) == [
        f"{version}/{name}" for name in ("icon.svg", "style.css", "app.js")
    ]
    assert "immutable" in (await http.get(f"/assets/{version}/app.js")).headers["Cache-Control"]

    (tmp_path / "assets" / LIVEKIT_CLIENT).write_text("export const changed = 1;")
    of_next_release = Assets(tmp_path / "assets", {}).version
    assert of_next_release != version
    other = await http.get(f"/assets/{of_next_release}/app.js")
    assert (other.status_code, other.headers["Cache-Control"]) == (200, "no-cache"), "the page of another replica works"


async def test_only_listed_files_are_served(http: httpx.AsyncClient) -> None:
    for name in ("package.json", "pages.py", "index.html", "..%2Fassembly.py", "%00", "x" * 300):
        response = await http.get(f"/assets/any/{name}")
        assert response.status_code == 404, name
        assert response.headers["Content-Type"] == "application/problem+json"


async def test_head_is_answered_and_other_methods_are_not(http: httpx.AsyncClient) -> None:
    assert (await http.head("/assets/any/call.js")).headers["Content-Length"] == str(len(SCRIPT))
    response = await http.post("/assets/any/call.js")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")

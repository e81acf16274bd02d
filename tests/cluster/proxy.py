"""A reverse proxy between a controller and its API server that simulates failures of networks and servers."""

import asyncio
import base64
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from devkit.pki import Authority

_HOP_BY_HOP = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te", "trailer"}
_REFUSALS = {
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    500: ("InternalError", "an error on the server has prevented the request from succeeding"),
    409: ("Conflict", "the object has been modified; please apply your changes to the latest version"),
}


@dataclass(frozen=True)
class Exchange:
    """An answered request; for a watch, its beginning."""

    method: str
    path: str
    status: int

    @property
    def writes(self) -> bool:
        """Whether it changes an object; Leases and reviews do not count."""
        return self.method != "GET" and "/leases" not in self.path and not self.path.endswith("reviews")


@dataclass
class _WriteFault:
    """A fault at one of the next writes."""

    writes_left: int
    after: bool
    action: Callable[[], None]


class Proxy:
    """Forwards all requests, unless a fault is set."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._session = session
        self._runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        self._watching: set[asyncio.Transport] = set()
        self._dead: set[asyncio.Transport] = set()
        self._watches_cut = False
        self._failing: random.Random | None = None
        self._share = 0.0
        self._write_fault: _WriteFault | None = None
        self.exchanges: list[Exchange] = []
        """Every request that the API server or this proxy answered."""
        self.gone = 0
        """Number of watches that got 410 Gone."""

    def cut_watches(self) -> None:
        """Close all watches and reject new ones; forward all other requests."""
        self._watches_cut = True
        for transport in self._watching:
            transport.abort()

    def allow_watches(self) -> None:
        """Accept watches again."""
        self._watches_cut = False

    def blackhole(self) -> int:
        """Stop all traffic on the open connections without closing them; return the number of their watches."""
        server = self._runner.server
        assert server is not None
        self._dead = {connection.transport for connection in server.connections if connection.transport is not None}
        return len(self._watching & self._dead)

    def fail(self, share: float, seed: int) -> None:
        """Answer this share of all requests with 429, 500 or 409; half of the 500s are forwarded before."""
        self._share, self._failing = share, random.Random(seed)

    def fault_at_write(self, write: int, *, after: bool, action: Callable[[], None]) -> None:
        """Skip `write` writes, then call `action` before or after forwarding the next; that write gets no answer."""
        self._write_fault = _WriteFault(write, after, action)

    def cancel_write_fault(self) -> None:
        """Cancel the fault."""
        self._write_fault = None

    @property
    def url(self) -> str:
        """URL of the proxy."""
        return f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def start(self, certificate: ssl.SSLContext) -> None:
        """Serve on a free port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=certificate).start()

    async def stop(self) -> None:
        """Close everything."""
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=16 * 1024**2)
        application.router.add_route("*", "/{path:.*}", self._serve)
        return application

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        await self._pass_on(transport)
        body = await request.read()
        watches = request.query.get("watch") in ("true", "1")
        if watches and self._watches_cut:
            return _hung_up(transport)
        fault = self._due_write_fault(request)
        if fault and not fault.after:
            fault.action()
            return _hung_up(transport)
        status, done = self._fault()
        if status and not done:
            self.exchanges.append(Exchange(request.method, request.path, status))
            return _refusal(status)
        try:
            async with self._ask(request, body) as answer:
                if fault:
                    await answer.read()
                    fault.action()
                    return _hung_up(transport)
                self.exchanges.append(Exchange(request.method, request.path, status or answer.status))
                if status:
                    await answer.read()
                    return _refusal(status)
                return await self._answer(request, transport, answer, watches)
        except aiohttp.ClientError:
            return _hung_up(transport)  # as the API server itself is gone

    def _ask(self, request: web.Request, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url = URL(self._upstream + request.raw_path, encoded=True)
        return self._session.request(request.method, url, headers=headers, data=body or None, allow_redirects=False)

    async def _answer(
        self, request: web.Request, transport: asyncio.Transport, answer: aiohttp.ClientResponse, watches: bool
    ) -> web.StreamResponse:
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=headers)
        if watches:
            self._watching.add(transport)
            self.gone += answer.status == 410
        try:
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await self._pass_on(transport)
                self.gone += watches and b'"code":410' in chunk
                await response.write(chunk)
            await response.write_eof()
        finally:
            self._watching.discard(transport)
        return response

    async def _pass_on(self, transport: asyncio.Transport) -> None:
        """Return at once; on a blackholed connection, wait until the connection ends."""
        if transport in self._dead:
            await asyncio.Event().wait()

    def _due_write_fault(self, request: web.Request) -> _WriteFault | None:
        if self._write_fault is None or not Exchange(request.method, request.path, 0).writes:
            return None
        fault = self._write_fault
        fault.writes_left -= 1
        if fault.writes_left >= 0:
            return None
        self._write_fault = None
        return fault

    def _fault(self) -> tuple[int, bool]:
        """Return the status to answer instead (0: none), and whether to forward the request before."""
        if self._failing is None or self._failing.random() >= self._share:
            return 0, True
        status = self._failing.choice(list(_REFUSALS))
        return status, status == 500 and self._failing.random() < 0.5


def _hung_up(transport: asyncio.Transport) -> web.Response:
    transport.abort()
    return web.Response()


def _refusal(status: int) -> web.Response:
    reason, message = _REFUSALS[status]
    document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
    text = json.dumps({**document, "reason": reason, "message": message})
    headers = {"Retry-After": "1"} if status == 429 else {}
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)


@asynccontextmanager
async def proxied(kubeconfig: Path, folder: Path) -> AsyncIterator[tuple[Proxy, Path]]:
    """Start a proxy for a kubeconfig's API server; return it with a kubeconfig for the same user."""
    server, trusted = _upstream(kubeconfig)
    authority, serving = _certificate(folder)
    connector = aiohttp.TCPConnector(ssl=trusted, limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        proxy = Proxy(server, session)
        await proxy.start(serving)
        try:
            yield proxy, _redirected(kubeconfig, proxy.url, authority, folder / "kubeconfig")
        finally:
            await proxy.stop()


def _upstream(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return cluster["server"], ssl.create_default_context(cadata=authority)


def _certificate(folder: Path) -> tuple[Authority, ssl.SSLContext]:
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder, "proxy-ca")
    pair = authority.server("proxy", ["127.0.0.1"])
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(pair.certificate, pair.key)
    return authority, serving


def _redirected(kubeconfig: Path, url: str, authority: Authority, path: Path) -> Path:
    document = yaml.safe_load(kubeconfig.read_text())
    trusted = base64.b64encode(authority.files.certificate.read_bytes()).decode()
    document["clusters"][0]["cluster"] = {"server": url, "certificate-authority-data": trusted}
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path

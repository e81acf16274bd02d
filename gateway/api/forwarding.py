"""Forwards requests to the gateway that owns their agent.

Each request may be sent again: opening a call has an idempotency key, which the forwarding gateway adds if the client
sent none, and all other forwarded requests have the same effect once and twice.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from typing import Any, Final

import aiohttp
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Scope
from yarl import URL

from agentspec.wire import GatewayMember
from gateway.cluster.members import FENCE_SECONDS, Members
from gateway.errors import MISDIRECTED, ErrorReason, RequestError, moved
from gateway.metrics import ForwardResult, Metrics

FORWARD_SECONDS: Final = 6.0
"""Longest search for an owner that answers. After that the sender gets 503. On a busy node, gateways lose touch with
the controller for seconds, and whoever waits is served better than whoever is refused."""
CONNECT_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 45.0
"""Longest time without a byte of the answer. A request for a call's state may wait for 30 s."""
RETRY_SECONDS: Final = 0.1
"""Until an owner is asked again that did not answer, or said that it is none. The time doubles with each attempt."""
LONGEST_RETRY_SECONDS: Final = 0.4
"""Many requests may wait for one owner. If each asked ten times a second, a busy node would do nothing else."""
PASS_ON_SECONDS: Final = 1.0
"""Longest time to pass on a request that only informs."""
CLIENT_ADDRESS: Final = "x-gateway-client-address"
"""Header with the address of the client, as the forwarding gateway sees it. Believed on the internal port only."""
PASSED_OVER: Final = "x-gateway-passed-over"
"""Header with the names of gateways that refused the forwarded request. Believed on the internal port only."""
EVENT_STREAM: Final = "text/event-stream"
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)

logger = logging.getLogger(__name__)


def is_internal(scope: Scope, internal_port: int) -> bool:
    """Return whether a request arrived at the internal port, which only gateways reach."""
    server = scope.get("server")
    return server is not None and server[1] == internal_port


def internal_session() -> aiohttp.ClientSession:
    """Create the session for forwarded requests. It passes bodies on as they are, and keeps no cookies."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    )


class Forwarder:
    """Finds the owner of each request."""

    def __init__(self, members: Members, session: aiohttp.ClientSession, metrics: Metrics, internal_port: int) -> None:
        self.closing = asyncio.Event()
        """Set when the process stops: requests that wait for a change are answered at once."""
        self._members = members
        self._session = session
        self._metrics = metrics
        self._internal_port = internal_port

    async def forward(self, request: Request, shard: str, address: str, body: bytes = b"") -> Response | None:
        """Return the answer of the gateway that owns a shard; None: this gateway does, and answers itself.

        ``address`` is the client's.

        Raises:
            RequestError: 421, the request was forwarded to the wrong gateway; 503, the owner does not answer.
        """
        members = self._members
        if is_internal(request.scope, self._internal_port):
            for name in request.headers.get(PASSED_OVER, "").split(","):
                members.refused(name)
            if not await self._may_answer(shard):
                raise moved()
            return None
        deadline, pause = time.monotonic() + FORWARD_SECONDS, RETRY_SECONDS
        while True:
            owner = members.owner(shard)
            if members.is_mine(shard):
                if members.may_act():
                    return None
            elif owner is not None:
                headers = _forwarded_headers(request, address)
                response = await self._ask(owner, request, shard, headers, body)
                if response is not None:
                    return response
                if members.owner(shard) != owner:
                    continue
            if time.monotonic() >= deadline:
                self._metrics.record_forwarded(ForwardResult.FAILED)
                raise unreachable()
            members.refresh()
            await members.changes_within(pause)
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)

    async def _may_answer(self, shard: str) -> bool:
        """Return whether this gateway owns a shard and may act. A forwarded request waits for the end of its fence."""
        deadline = time.monotonic() + FENCE_SECONDS
        while self._members.is_mine(shard):
            if self._members.may_act():
                return True
            if time.monotonic() >= deadline:
                return False
            await self._members.changes_within(RETRY_SECONDS)
        return False

    async def pass_on(self, request: Request, shards: Iterable[str], address: str, body: bytes) -> None:
        """Send a request that only informs to all other gateways that own one of these shards, once.

        Nothing is sent again, and a failure is no error: each gateway learns the same by itself, only later. A request
        that another gateway has passed on goes no further.
        """
        if is_internal(request.scope, self._internal_port):
            return
        owned = {owner.name: shard for shard in shards if (owner := self._members.owner(shard)) is not None}
        headers = _forwarded_headers(request, address)
        informed = [
            self._ask(member, request, owned[member.name], headers, body)
            for member in self._members.others
            if member.name in owned
        ]
        try:
            async with asyncio.timeout(PASS_ON_SECONDS):
                await asyncio.gather(*informed)
        except TimeoutError:
            logger.warning("forwarding failed", extra={"error": f"no answer within {PASS_ON_SECONDS:.0f} s"})
            self._metrics.record_forwarded(ForwardResult.UNREACHABLE)

    async def ask_others(self, request: Request, address: str) -> list[bytes]:
        """Return the answers of all other gateways to a request; nothing when another gateway has forwarded it.

        One that refuses the connection is gone, and left out.

        Raises:
            RequestError: 503, one of them does not answer.
        """
        if is_internal(request.scope, self._internal_port):
            return []
        headers = _forwarded_headers(request, address)
        headers.pop("accept-encoding", None)
        asked = (self._ask_one(member, request, headers) for member in self._members.others)
        return [text for text in await asyncio.gather(*asked) if text is not None]

    async def _ask_one(self, member: GatewayMember, request: Request, headers: Mapping[str, str]) -> bytes | None:
        try:
            async with (
                asyncio.timeout(FORWARD_SECONDS),
                self._session.request(request.method, _url(member, request), headers=headers) as answer,
            ):
                answer.raise_for_status()
                return await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
                self._members.refused(member.name)
                return None
            logger.warning("forwarding failed", extra={"gateway": member.name, "error": str(error) or repr(error)})
            self._metrics.record_forwarded(ForwardResult.FAILED)
            raise unreachable() from error

    async def _ask(
        self, owner: GatewayMember, request: Request, shard: str, headers: Mapping[str, str], body: bytes
    ) -> Response | None:
        """Return the owner's answer; None without one, or when the shard gets another owner meanwhile."""
        asking = asyncio.ensure_future(
            self._session.request(
                request.method,
                _url(owner, request, waits=not self.closing.is_set()),
                headers={**headers, PASSED_OVER: ",".join(self._members.passed_over)},
                data=body or None,
                allow_redirects=False,
            )
        )
        try:
            answer = await self._unless_moved(asking, self._moved(request.method, shard, owner))
            if answer is not None and answer.content_type != EVENT_STREAM:
                await answer.read()  # an owner that stops in the middle of its answer is asked again, or left
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, ConnectionRefusedError)
            self._metrics.record_forwarded(ForwardResult.REFUSED if refused else ForwardResult.UNREACHABLE)
            if refused:
                self._members.refused(owner.name)
            return None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            logger.warning("forwarding failed", extra={"gateway": owner.name, "error": str(error) or repr(error)})
            self._metrics.record_forwarded(ForwardResult.UNREACHABLE)
            return None
        if answer is None or answer.status == MISDIRECTED:
            self._metrics.record_forwarded(ForwardResult.MOVED)
            return None
        self._metrics.record_forwarded(ForwardResult.ANSWERED)
        headers = _returned_headers(answer)
        if answer.content_type == EVENT_STREAM:
            return StreamingResponse(_events(answer, self.closing), answer.status, headers)
        return Response(await answer.read(), answer.status, headers)

    async def _unless_moved(
        self, asking: "asyncio.Future[aiohttp.ClientResponse]", moved: Awaitable[None]
    ) -> aiohttp.ClientResponse | None:
        """Wait for the first byte of an answer; None when the shard gets another owner, or this gateway closes."""
        others = {asyncio.ensure_future(moved)}
        if not self.closing.is_set():
            others.add(asyncio.ensure_future(_until(self.closing)))
        either: set[asyncio.Future[Any]] = {asking, *others}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else None
        finally:
            for other in others:
                other.cancel()
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    def _moved(self, method: str, shard: str, owner: GatewayMember) -> Awaitable[None]:
        """Wait until a shard has another owner. A GET may wait for a change of a call, so its owner may be well."""
        wait = self._members.wait_until_moved if method == "GET" else self._members.refresh_until_moved
        return wait(shard, owner)


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def _url(member: GatewayMember, request: Request, *, waits: bool = True) -> URL:
    """Return where another gateway answers a request. ``waits``: it may wait for a change of the call."""
    query = request.scope["query_string"].decode()
    url = f"http://{member.address}{request.scope['raw_path'].decode()}"
    return URL(f"{url}?{query}" if query and (waits or request.method != "GET") else url, encoded=True)


async def _events(answer: aiohttp.ClientResponse, closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Pass a stream of events on, until ``closing`` is set or the owner is lost. The client then opens the next one."""
    closed = asyncio.ensure_future(_until(closing))
    try:
        async with answer:
            while not closed.done():
                reading = asyncio.ensure_future(answer.content.readany())
                both: set[asyncio.Future[Any]] = {reading, closed}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                elif chunk := reading.result():
                    yield chunk
                else:
                    return
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        logger.warning("forwarding failed", extra={"error": str(error) or repr(error)})
    finally:
        closed.cancel()


def _forwarded_headers(request: Request, address: str) -> dict[str, str]:
    """Return the headers of a forwarded request: the client's, with its host, and its address."""
    skipped = _HOP_BY_HOP | {"content-length", CLIENT_ADDRESS, PASSED_OVER}
    headers = {name: value for name, value in request.headers.items() if name not in skipped}
    if request.method == "POST":
        headers.setdefault("idempotency-key", secrets.token_hex(16))
    return headers | {CLIENT_ADDRESS: address}


def _returned_headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}


def unreachable() -> RequestError:
    """Return the answer to a request whose agent no gateway answers for."""
    message = "The gateway that owns the agent does not answer. Another one takes over within seconds. Try again."
    return RequestError(503, ErrorReason.OWNER_UNREACHABLE, message, retry_after_seconds=1)

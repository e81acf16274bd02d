"""A client of several gateways that repeats each request until one of them answers."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from devkit.demo.caller import PAGE_HEADERS

REPEAT_SECONDS = 0.3
"""Time without an answer after which the client sends the request again, and waits for both. It grows after
`QUICK_ATTEMPTS`, so that few are open at a time."""
QUICK_ATTEMPTS = 2
PAUSE_SECONDS = 0.1
"""The same after a refused connection, or an answer that asks to repeat the request."""
GIVE_UP_SECONDS = 20.0
ATTEMPT_SECONDS = 10.0


@dataclass
class Answer:
    """The first answer to a request."""

    status: int
    body: dict[str, Any]
    attempts: int = 1


@dataclass
class Requests:
    """Sends requests to the gateways' Service. Each attempt has its own connection, so any gateway may get it.

    A frozen gateway neither refuses a connection nor answers, and the Service has it for some seconds more. So the
    client does not wait for one attempt to fail, as browsers do when a host has several addresses.
    """

    gateway: str
    failures: list[str] = field(default_factory=list)
    """What went wrong with attempts that were repeated."""

    async def send(
        self, method: str, path: str, *, json: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Return the first answer below 500. The request must have the same effect once and several times."""
        running: set[asyncio.Task[Answer | None]] = set()
        deadline, attempts = time.monotonic() + GIVE_UP_SECONDS, 0
        with _cancelled_at_the_end(running):
            while time.monotonic() < deadline:
                attempts += 1
                running.add(asyncio.create_task(self._attempt(method, path, json, {**PAGE_HEADERS, **(headers or {})})))
                done, _ = await asyncio.wait(
                    running,
                    timeout=REPEAT_SECONDS * max(1, attempts - QUICK_ATTEMPTS),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                running -= done
                for task in done:
                    if (answer := task.result()) is not None:
                        answer.attempts = attempts
                        return answer
                if done:
                    await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError(f"{method} {path}: no answer within {GIVE_UP_SECONDS:.0f} s; {self.failures[-5:]}")

    async def _attempt(self, method: str, path: str, json: object, headers: dict[str, str]) -> Answer | None:
        """Return an answer; None: repeat the request."""
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.request(method, f"{self.gateway}{path}", json=json) as response,
            ):
                body = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.failures.append(str(error) or type(error).__name__)
            return None
        if response.status >= 500:
            self.failures.append(f"{response.status} {body.get('reason')}")
            return None
        return Answer(response.status, body)


@contextmanager
def _cancelled_at_the_end(tasks: set["asyncio.Task[Answer | None]"]) -> Iterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()

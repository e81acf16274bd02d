"""Callers for tests: they hear the greeting and answers, or get a rejection with a reason."""

import json
import urllib.error
import urllib.request
from contextlib import AsyncExitStack

from devkit.demo.caller import PAGE_HEADERS, Caller, hang_up, request_call
from devkit.demo.conversation import SAME, ask
from devkit.demo.product import Product
from devkit.providers.speech import similarity
from tests.e2e import agents
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking, eventually_in_thread

QUESTION = "Where is your office?"
FACT = "Our office is in the city of Damascus, in Baghdad Street."
ARABIC = ("أَيْنَ يَقَعُ مَكْتَبُكُمْ؟", "يَقَعُ مَكْتَبُنَا فِي مَدِينَةِ دِمَشْقَ، فِي شَارِعِ بَغْدَادَ.")
"""The same question and fact in Arabic."""
AVATAR = "tavus-avatar-agent"
"""Identity of the avatar in the room of a call."""


async def requested(
    stack: AsyncExitStack, platform: Platform, agent: str, name: str, *, hangs_up: bool = False
) -> Caller:
    """Return a caller who stays in the room of a new call until the stack closes.

    Then the caller leaves, may return, and the call ends 10 s later. With `hangs_up` it ends at once.
    """
    opened, moments = await request_call(platform.gateway, agent, name)
    caller = await stack.enter_async_context(Caller(name, opened["url"], opened["token"], moments))
    if hangs_up:
        stack.push_async_callback(hang_up, platform.gateway, opened)
    return caller


async def greeted(
    stack: AsyncExitStack, platform: Platform, agent: str, name: str, *, hangs_up: bool = False
) -> Caller:
    """Return a caller who has heard the greeting, and stays as `requested` says."""
    caller = await requested(stack, platform, agent, name, hangs_up=hangs_up)
    await caller.first_word(90)
    await caller.hear(30)
    return caller


async def answered(caller: Caller, question: str = QUESTION, fact: str = FACT) -> None:
    """Let the caller ask the question, and check the fact in the answer.

    On a busy machine, Whisper *base* may mishear synthetic speech, or take so long that the agent apologises. Then the
    caller asks again, once, as people do.
    """
    said_before, understood_before = len(caller.captions), len(caller.understood)
    _, _, answer = await ask(caller, question)
    understood = " ".join(caller.understood[understood_before:])
    if similarity(understood, question) < SAME and similarity(answer, fact) < SAME:
        print(f"the caller asks again: {question!r} was heard as {understood!r}")
        said_before = len(caller.captions)
        await ask(caller, question)
    await says(caller, fact, since=said_before)


async def says(caller: Caller, text: str, *, since: int = 0) -> None:
    """Wait until the agent's captions, from number `since`, are the text."""

    def captions() -> str:
        return " ".join(caller.captions[since:])

    try:
        await eventually_in_thread(lambda: similarity(captions(), text) >= SAME, f"the agent says {text!r}", 15)
    except AssertionError as error:
        heard = f"it said {captions()!r}, and had heard {caller.understood}"
        raise AssertionError(f"{error}; {heard}") from error


async def becomes(
    product: Product, name: str, kind: str, status: str, reason: str, message: str = "", *, seconds: float = 30
) -> None:
    """Wait until one of the agent's conditions has this status, this reason and, if given, this message."""

    def condition() -> bool:
        seen = agents.condition(product, name, kind)
        return seen[:2] == (status, reason) and message in ("", seen[2])

    try:
        await eventually_in_thread(condition, f"{kind} of {name} is {status} {reason} {message}", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {agents.condition(product, name, kind)}") from error


def refused(platform: Platform, agent: str) -> tuple[str, str]:
    """Return reason and message of the gateway's 409, once the gateway knows that the agent takes no calls."""
    found: list[tuple[str, str]] = []

    def is_refused() -> bool:
        found[:] = _request(platform, agent)
        return bool(found)

    eventually_blocking(is_refused, f"the gateway refuses calls to {agent}")
    return found[0]


def _request(platform: Platform, agent: str) -> list[tuple[str, str]]:
    """Request a call without joining it; return the rejection if it is a 409."""
    headers = {"Content-Type": "application/json", **PAGE_HEADERS}
    body = json.dumps({"agent": agent, "name": "Layla"}).encode()
    request = urllib.request.Request(f"{platform.gateway}/v1/calls", data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30):
            return []
    except urllib.error.HTTPError as answer:
        with answer:
            problem = json.load(answer)
            return [(problem["reason"], problem["detail"])] if answer.code == 409 else []

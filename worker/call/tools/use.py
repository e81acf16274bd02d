"""One use of a tool: bounded in time and size, counted, and explained to the language model when it fails."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Final

from livekit.agents import ToolError

from worker.call import metrics, prompt

logger = logging.getLogger(__name__)

MAX_RESULT_BYTES: Final = 8 * 1024
"""Most text of a result: some 2,000 tokens, which every later request of the turn sends again."""
_CUT: Final = " [cut: the result was longer]"


class ToolFailed(Exception):
    """A tool that failed, with a cause for the language model and the log: never content of the result."""


async def use(name: str, seconds: float, request: Awaitable[str]) -> str:
    """Return the result of a tool.

    Raises:
        ToolError: it failed or took too long. The language model reads the message and explains it to the caller.
    """
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            result = bounded(await request)
    except TimeoutError:
        cause = f"no result within {seconds:g} s"
    except ToolFailed as error:
        cause = str(error)
    except Exception as error:  # whatever a tool does, the caller hears that it failed
        cause = type(error).__name__
    else:
        _record(name, began, "succeeded")
        return result
    _record(name, began, "failed", cause)
    raise ToolError(f"The tool failed: {cause}. Tell the caller in one sentence that this did not work, and go on.")


async def use_external(name: str, seconds: float, request: Awaitable[str]) -> str:
    """Return the result of a tool of another system, marked as data. Every agent sees the mark, whatever its prompt.

    Raises:
        ToolError: as `use` does. Its message is not marked: the language model must follow it.
    """
    return prompt.tool_result(await use(name, seconds, request))


def _record(name: str, began: float, outcome: str, cause: str = "") -> None:
    seconds = time.monotonic() - began
    metrics.TOOL_USES.labels(name, outcome).inc()
    metrics.TOOL_DURATION.observe(seconds)
    fields = {"tool": name, "outcome": outcome, "seconds": round(seconds, 3)}
    if cause:
        logger.warning("tool failed", extra={**fields, "error": cause})
    else:
        logger.info("tool used", extra=fields)


def bounded(result: str) -> str:
    """Return a result of at most MAX_RESULT_BYTES in UTF-8, with a note when it was cut."""
    data = result.encode(errors="replace")
    if len(data) <= MAX_RESULT_BYTES:
        return data.decode()
    return data[: MAX_RESULT_BYTES - len(_CUT)].decode(errors="ignore") + _CUT

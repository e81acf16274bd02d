"""Runs a whole program as a worker. Imported lazily, so that an agent class pays only for the contract."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

from worker.contract import CallContext

if TYPE_CHECKING:
    from livekit.agents import JobContext, JobProcess


def serve(
    entrypoint: "Callable[[JobContext], Awaitable[None]]", *, prewarm: "Callable[[JobProcess], Any] | None" = None
) -> NoReturn:
    """Answer calls with `entrypoint` until SIGTERM, in place of `livekit.agents.cli.run_app`; ends the process.

    `prewarm` prepares each call process before it gets a job. Both are top-level functions. Registration, slots, drain,
    status and metrics are those of every worker. Call this in the image's main module, under
    ``if __name__ == "__main__":``, before the process has started a thread or an event loop.

    Raises TypeError when the functions cannot be used.
    """
    from worker.__main__ import main
    from worker.call.program import Program

    sys.exit(main(Program(entrypoint, prewarm)))


def call_context(context: "JobContext") -> CallContext:
    """Return the facts of the call that a program's entrypoint answers."""
    from worker.call import program

    return program.call_context(context)

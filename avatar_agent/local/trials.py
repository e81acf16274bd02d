"""``python -m avatar_agent.local.trials``: tries code, providers and tools as a worker does, without LiveKit.

Prints one JSON document. It runs in a process of its own, with a worker's configuration and variables: own code and
plugins are imported, and they may raise, hang, exit or crash.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable
from typing import Final

from pydantic import Field

from agentspec.model import Model
from agentspec.wire import StageReports, render
from process.settings import SettingsError
from worker.config import WorkerSettings, clean_environment, load_settings, secret_values
from worker.server import logs

TRIAL_SECONDS: Final = 60.0
"""How long the trials of all stages and tools may take together."""


class Trials(Model):
    """What a worker would report before its first call."""

    settings_failure: str = Field(default="", description="Why the worker cannot start; empty: it can.")
    code_failure: str = Field(default="", description="Why own code cannot be used; empty: it can.")
    avatar_failure: str = Field(default="", description="Why the avatar's plugin cannot be used; empty: it can.")
    tool_failure: str = Field(default="", description="Why MCP servers cannot be used; empty: they can.")
    stages: StageReports = Field(default_factory=StageReports, description="Outcomes of one request of each stage.")


def run() -> Trials:
    """Try everything; takes at most about two minutes, and less than ten seconds when all answers come."""
    clean_environment(os.environ)
    try:
        settings = load_settings()
    except SettingsError as error:
        return Trials(settings_failure=str(error))
    logs.configure(secret_values(settings.config))

    from worker.call import preload
    from worker.call.avatars import plugin

    # Both fork, so they run before the first thread and event loop.
    code_failure = preload.check_code(settings.config) if settings.config.agent_code else ""
    plugin.check(settings.config)
    tried = asyncio.run(_requests(settings))
    return tried.model_copy(update={"code_failure": code_failure, "avatar_failure": plugin.known_failure()})


async def _requests(settings: WorkerSettings) -> Trials:
    from worker.call import voice
    from worker.provider_reports import ProviderLog
    from worker.server import trials, worker
    from worker.server.tool_trials import ToolTrials

    tools = ToolTrials(settings.config)
    if (invalid := await worker.check_stages(settings)) != StageReports():
        return Trials(stages=invalid, tool_failure=await _in_time(tools.try_once()))
    log, stages = ProviderLog(), voice.make_stages(settings)

    async def try_all() -> str:
        async with stages.http_session():
            _, failure = await asyncio.gather(trials.try_once(settings.config, stages, log), tools.try_once())
        return failure

    tool_failure = await _in_time(try_all())
    await stages.aclose()
    return Trials(stages=log.reports(time.monotonic()), tool_failure=tool_failure)


async def _in_time(trial: Awaitable[str]) -> str:
    """Return the failure that a trial returns, or that it did not end in time."""
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            return await trial
    except TimeoutError:
        return f"not all trials ended within {TRIAL_SECONDS:g} s"


if __name__ == "__main__":
    result = render(run())
    sys.stdout.write(f"{result}\n")
    sys.stdout.flush()
    os._exit(0)  # code of plugins may have left threads that run on

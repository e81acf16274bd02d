"""What runs in a call process: one job, one call. livekit-agents starts the process and imports this module."""

import os
from pathlib import Path

from livekit.agents import JobContext, JobProcess

from agentspec.workerconfig import CONFIG_PATH
from worker.call import Call
from worker.config import CONFIG_VARIABLE, load_config


def prewarm(process: JobProcess) -> None:
    """Before any job: read the configuration. The models are shared with the process this one was forked from."""
    process.userdata["config"] = load_config(Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_PATH))


async def answer(context: JobContext) -> None:
    """Join the job's room and hold the call; returns once the call is under way."""
    await Call(context, context.proc.userdata["config"]).start()

"""What runs in a call process: one job, one call. livekit-agents starts the process and imports this module."""

import os
from pathlib import Path

from livekit.agents import JobContext, JobProcess

from agentspec.workerconfig import CONFIG_PATH
from worker import voice
from worker.call import Call
from worker.config import CONFIG_VARIABLE, load_config


def prewarm(process: JobProcess) -> None:
    """Before any job: read the configuration and set the client up. The models came with the fork."""
    config = load_config(Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_PATH))
    process.userdata["config"] = config
    process.userdata["client"] = voice.make_client(config.voice, os.environ["OPENAI_API_KEY"])


async def answer(context: JobContext) -> None:
    """Join the job's room and hold the call; returns once the call is under way."""
    kept = context.proc.userdata
    await Call(context, kept["config"], kept["client"]).start()

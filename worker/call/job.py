"""What runs in a call process: one job, one call. livekit-agents starts the process and imports this module."""

import faulthandler
import os
import signal
from pathlib import Path

from livekit.agents import JobContext, JobProcess

from agentspec.wire import CONFIG_PATH
from worker.call import voice
from worker.call.call import Call
from worker.config import CONFIG_VARIABLE, load_config


def prewarm(process: JobProcess) -> None:
    """Before any job: read the configuration and set the client up. The models came with the fork.

    Signals are the main process' to act on: it drains, and one sent to the whole group must not cut calls. The SDK
    means to ignore them here too, and to print the stacks on SIGUSR1 before it kills a process that hangs, but under
    a fork server its code for that has run in another process (livekit-agents 1.8.9, ipc/job_proc_lazy_main.py).
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)
    config = load_config(Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_PATH))
    process.userdata["config"] = config
    process.userdata["client"] = voice.make_client(config.voice, os.environ["OPENAI_API_KEY"])


async def answer(context: JobContext) -> None:
    """Join the job's room and hold the call; returns once the call is under way."""
    kept = context.proc.userdata
    await Call(context, kept["config"], kept["client"]).start()

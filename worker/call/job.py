"""Entry points of a call process, which livekit-agents starts for one job and one call."""

import faulthandler
import signal

from livekit.agents import JobContext, JobProcess

from worker.call import fallbacks, metrics, voice
from worker.call.call import Call
from worker.call.conversation import index_of
from worker.config import load_settings


def prewarm(process: JobProcess) -> None:
    """Prepare the process before it gets a job: signals, the metrics' files, configuration, knowledge and stages.

    The fork server has loaded the models and indexed the knowledge.
    """
    prepare_process()
    settings = load_settings()
    process.userdata["config"] = settings.config
    index_of(settings.config)
    stages = process.userdata["stages"] = voice.make_stages(settings)
    fallbacks.follow(stages)


def prepare_process() -> None:
    """Prepare what every call process needs: signals, and the metrics' files.

    Only the main process acts on SIGTERM and SIGINT, which start a drain; a signal to the whole process group must not
    cut calls. The SDK intends to ignore these signals here, and to print stacks on SIGUSR1 before it kills a hung
    process. Under a fork server that code runs in another process (livekit-agents 1.8.9, ipc/job_proc_lazy_main.py), so
    this function does both.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)
    faulthandler.enable()  # a crash of the native media library leaves the stacks of all threads in the log
    metrics.open_files()


async def answer(context: JobContext) -> None:
    """Start the call of a job; returns once the session runs."""
    prepared = context.proc.userdata
    await Call(context, prepared["config"], prepared["stages"]).start()

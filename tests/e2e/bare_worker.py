"""A hand-written worker with livekit-agents alone: the peer in benchmarks, or a worker that must get no call.

It registers under BARE_AGENT_NAME (empty: automatic dispatch), appends the room of every offered job to
BARE_JOBS_FILE, says BARE_GREETING to the caller, and converses as BARE_INSTRUCTIONS say in BARE_LANGUAGE.

All else are livekit-agents' defaults: its silero for speech detection, and its end-of-turn model.
"""

import os
import sys
from pathlib import Path

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobExecutorType, JobRequest, cli
from livekit.plugins import openai

NAME = os.environ["BARE_AGENT_NAME"]
GREETING = os.environ.get("BARE_GREETING", "")
LANGUAGE = os.environ.get("BARE_LANGUAGE", "ar")
INSTRUCTIONS = os.environ.get("BARE_INSTRUCTIONS", "You are a voice assistant.")
# The default load is the machine's CPU: on a busy test machine, this worker would decline all jobs.
server = AgentServer(job_executor_type=JobExecutorType.PROCESS, num_idle_processes=1, port=0, load_fnc=lambda: 0.0)


async def on_request(request: JobRequest) -> None:
    _note(request.room.name)
    await request.accept()


def _note(room: str) -> None:
    with Path(os.environ["BARE_JOBS_FILE"]).open("a") as jobs:
        jobs.write(f"{room}\n")


@server.rtc_session(agent_name=NAME, on_request=on_request)
async def entrypoint(context: JobContext) -> None:
    await context.connect()
    session: AgentSession[None] = AgentSession(
        stt=openai.STT(model="whisper-1", language=LANGUAGE),
        llm=openai.LLM(model="gpt-4o-mini"),
        tts=openai.TTS(model="tts-1", voice="onyx"),
    )
    await session.start(agent=Agent(instructions=INSTRUCTIONS), room=context.room)
    await context.wait_for_participant()
    if GREETING:
        await session.say(GREETING).wait_for_playout()


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "start"]
    cli.run_app(server)

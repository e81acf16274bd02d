"""A whole livekit-agents program with a session of its own, as it would run by `cli.run_app`.

The operator's worker takes its place in front of LiveKit: it registers, keeps count of slots, drains, and reports.
"""

from livekit.agents import Agent, AgentSession, JobContext
from livekit.plugins import openai

from avatar_agent import call_context, serve


async def entrypoint(context: JobContext) -> None:
    """Answer one call."""
    call = call_context(context)
    session: AgentSession[None] = AgentSession(
        stt=openai.STT(model="whisper-1", language=call.language),
        llm=openai.LLM(model="gpt-4o-mini"),
        tts=openai.TTS(model="tts-1", voice="onyx"),
    )
    await session.start(agent=Agent(instructions=call.instructions), room=context.room)
    await context.connect()
    await context.wait_for_participant()
    await session.say(call.settings["welcome"])


if __name__ == "__main__":
    serve(entrypoint)

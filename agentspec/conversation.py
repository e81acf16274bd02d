"""How a silent or a long call ends."""

from pydantic import Field

from agentspec.model import Model


class ConversationSpec(Model):
    """How a silent or a long call ends. The agent says its sentences in its own language."""

    idle_prompt_seconds: int = Field(
        default=60,
        ge=0,
        le=3600,
        description="Seconds of silence after which the agent asks whether the caller is still there. Silence is the "
        "time in which neither the caller nor the agent speaks, and no answer is pending. 0: the agent never asks, and "
        "silence ends no call.",
    )
    idle_hang_up_seconds: int = Field(
        default=30,
        ge=1,
        le=3600,
        description="Seconds of silence after that question, after which the agent says goodbye and ends the call. "
        "No effect when idlePromptSeconds is 0.",
    )
    announce_end: bool = Field(
        default=True,
        description="Say one minute before `worker.maxCallMinutes` that the call is about to end, and say goodbye at "
        "the end. With `maxCallMinutes: 1` there is only the goodbye.",
    )

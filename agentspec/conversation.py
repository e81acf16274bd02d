"""How a silent or a long call ends, and what a rescue knows of the conversation."""

from pydantic import Field

from agentspec.model import Model


class ConversationSpec(Model):
    """How a silent or a long call ends, and whether a new agent continues the conversation of a lost one.

    The agent says its sentences in its own language.
    """

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
    resume_after_rescue: bool = Field(
        default=True,
        description="When a worker is lost in mid-call, the agent that the gateway sends instead says that the line "
        "was interrupted, and continues the conversation. For this, the worker stores the last turns of the call, at "
        "most 4 KiB of text, in LiveKit: in the attribute `avatar-agent.turns` of the caller's participant. It is "
        "there as long as the caller is in the room, and all participants of the room can read it. Only calls of a "
        "gateway have it. With false nothing is stored, and a new agent greets the caller.",
    )

"""The contract with own code: what `worker.agent` may name, and what it receives for each call.

`worker.agent` names a subclass of `livekit.agents.Agent`, or a function that returns an Agent. What needs no argument
is called without one. What needs one receives the `CallContext`. `avatar_agent` is the public name of this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

CONTRACT_VERSION: Final = 1
"""Version of this contract. A release may add fields with a default; it raises the version when it changes or removes
one."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """One text that the agent answers from."""

    name: str
    """``<ConfigMap>/<key>``, or the name of a text in the manifest."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """The facts about one call, as the manifest and the caller's back end state them."""

    call_id: str = ""
    """The gateway's id of the call; empty: no gateway made the dispatch."""
    job_id: str = ""
    """LiveKit's id of the job."""
    room: str = ""
    """Name of the call's room."""
    agent: str = ""
    """The AvatarAgent, as ``namespace/name``."""
    agent_name: str = ""
    """The name that the workers register under."""
    caller_identity: str = ""
    """LiveKit identity that the caller joins with; empty: whoever joins first is the caller."""
    user_id: str = ""
    """The back end's own id of the caller; empty: it sent none."""
    language: str = "en"
    """Language of the conversation, BCP 47."""
    caller_language: str = ""
    """Language that the caller prefers, BCP 47; empty: unknown."""
    capabilities: tuple[str, ...] = ()
    """What the caller's client can do, such as ``video``."""
    facts: Mapping[str, str | bool | int | float]
    """Facts that the caller's back end sent. They are data: nothing in them is an instruction."""
    instructions: str
    """The system prompt of the stock agent: persona, rules for spoken answers, and a small knowledge base."""
    greeting: str = ""
    """What the product says first, once the caller has joined; empty: nothing."""
    knowledge: tuple[Knowledge, ...] = ()
    """All texts of `spec.knowledge`."""
    settings: Mapping[str, Any]
    """`spec.settings` of the manifest."""
    started: datetime
    """When the job started, in the agent's time zone (`spec.timeZone`, or else UTC)."""

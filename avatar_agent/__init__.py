"""What own code imports: the contract with `worker.agent`, and `serve` for whole programs.

from avatar_agent import CallContext
from livekit.agents import Agent

class Receptionist(Agent):
    def __init__(self, call: CallContext) -> None:
        super().__init__(instructions=call.instructions)
"""

from avatar_agent.serving import call_context, serve
from worker.contract import CONTRACT_VERSION, CallContext, Knowledge

__all__ = ["CONTRACT_VERSION", "CallContext", "Knowledge", "call_context", "serve"]

"""What code of one's own imports: the contract with `worker.agent`.

from avatar_agent import CallContext
from livekit.agents import Agent

class Receptionist(Agent):
    def __init__(self, call: CallContext) -> None:
        super().__init__(instructions=call.instructions)
"""

from worker.contract import CONTRACT_VERSION, CallContext, Knowledge

__all__ = ["CONTRACT_VERSION", "CallContext", "Knowledge"]

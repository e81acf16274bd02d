"""Tools of an agent and of its session that have the same name: the agent's own takes its place.

livekit-agents rejects two tools with the same name: the session then cannot start, or each reply fails. The names are
known only during a call: an agent of own code hands over to another one, or changes its tools, and an MCP server lists
its tools after the call has begun.
"""

import logging
from collections.abc import Sequence
from typing import Any

from livekit.agents import llm
from livekit.agents.voice import AgentSession, agent_session
from livekit.agents.voice.agent_activity import AgentActivity

logger = logging.getLogger(__name__)

_Tools = list[llm.Tool | llm.Toolset]


class YieldingSession(AgentSession[None]):
    """A session whose tools an agent has, except those whose names its own tools have."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._left_out: set[str] = set()

    def tools_beside(self, own: Sequence[llm.Tool | llm.Toolset]) -> _Tools:
        """Return the session's tools for an agent with these tools of its own. Logs each name that it leaves out once.

        Raises:
            ValueError: two of the agent's own tools have the same name.
        """
        kept, names = beside(self.tools, own)
        if new := names - self._left_out:
            self._left_out |= new
            logger.warning("tools left out: the agent has tools of these names", extra={"names": sorted(new)})
        return kept


def beside(shared: Sequence[llm.Tool | llm.Toolset], own: Sequence[llm.Tool | llm.Toolset]) -> tuple[_Tools, set[str]]:
    """Return the shared tools whose names no own tool has, and the other names.

    A toolset with such a name becomes its other tools.
    """
    taken = llm.ToolContext(own).function_tools.keys()
    kept: _Tools = []
    left_out: set[str] = set()
    for tool in shared:
        flat = llm.ToolContext([tool]).flatten()
        names = {each.id for each in flat} & taken
        kept += [each for each in flat if each.id not in names] if names else [tool]
        left_out |= names
    return kept, left_out


class _Activity(AgentActivity):
    """What an agent does while it has the call. livekit-agents gives it all tools of the session besides its own."""

    @property
    def tools(self) -> _Tools:
        """Override: each reply and each start of an agent reads this. The session's tools are the first ones."""
        tools, session = super().tools, self.session
        if not isinstance(session, YieldingSession):
            return tools
        own = tools[len(session.tools) :]
        return [*session.tools_beside(own), *own]


agent_session.AgentActivity = _Activity  # type: ignore[attr-defined]

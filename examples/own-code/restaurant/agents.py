"""A restaurant's receptionist, who knows the menu and hands callers over to the colleague for reservations."""

import os

from livekit.agents import Agent, ChatContext, RunContext, function_tool

from avatar_agent import CallContext


class Receptionist(Agent):
    """Answers first."""

    def __init__(self, call: CallContext) -> None:
        super().__init__(instructions=call.instructions)
        self._call = call

    @function_tool
    async def todays_menu(self, context: RunContext[None]) -> str:
        """Look up today's menu."""
        return f"Today we serve {self._call.settings['menu']}."

    @function_tool
    async def book_table(self, context: RunContext[None]) -> Agent:
        """Hand the caller over to the colleague who books tables."""
        return Reservations(self._call, self.chat_ctx)


class Reservations(Agent):
    """Books tables."""

    def __init__(self, call: CallContext, chat_ctx: ChatContext) -> None:
        super().__init__(
            instructions=f"{call.instructions}\n\nYou book tables. Never promise a table that no tool has confirmed.",
            chat_ctx=chat_ctx.copy(exclude_instructions=True, exclude_function_call=True),
        )

    async def on_enter(self) -> None:
        await self.session.say("Welcome to our reservations desk. When would you like to come?")

    @function_tool
    async def free_tables(self, context: RunContext[None]) -> str:
        """Look up which tables are free."""
        return f"Tables are free from eight o'clock on the {os.environ['TERRACE']}."

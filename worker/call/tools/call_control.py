"""The tools with which an agent acts on its own call: end it, transfer it, press telephone keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from livekit import api
from livekit.agents import JobContext, RunContext, function_tool, llm

from agentspec.tools import EndCallTool, SendDTMFTool, TransferTool
from worker.call.caller import Caller
from worker.call.tools.use import ToolFailed, use

_END_SECONDS: Final = 20.0
"""Longest time to finish the agent's sentence and to say goodbye."""
_TRANSFER_SECONDS: Final = 30.0
"""Longest duration of a transfer. LiveKit's SIP service waits for the trunk's answer."""
_KEY_SECONDS: Final = 0.3
"""From one key to the next, as in livekit-agents' own tool (beta/tools/send_dtmf.py)."""
_PRESS_SECONDS: Final = 20.0
"""Longest time for all keys of one use."""
_MAX_KEYS: Final = 32
_KEYS: Final = "0123456789*#"
_NO_ARGUMENTS: Final[dict[str, object]] = {"type": "object", "properties": {}}


class CallControl:
    """What these tools do with one call."""

    def __init__(
        self, context: JobContext, caller: Caller, say_goodbye: Callable[[], Awaitable[None]], end: Callable[[], None]
    ) -> None:
        """Take the job and the caller, and how to say the prepared goodbye and to end the call."""
        self._context = context
        self._caller = caller
        self._say_goodbye = say_goodbye
        self._end = end

    async def say_goodbye_and_end(self) -> None:
        """Say the prepared goodbye, and end the call."""
        await self._say_goodbye()
        self._end()

    async def transfer_telephone(self, to: str) -> None:
        """Transfer the telephone caller; the caller's participant then leaves the room.

        Raises:
            ToolFailed: the caller has no telephone, or LiveKit could not transfer it.
        """
        if not self._caller.is_telephone:
            raise ToolFailed("the caller has no telephone")
        request = api.TransferSIPParticipantRequest(
            room_name=self._context.room.name, participant_identity=self._caller.identity, transfer_to=to
        )
        try:
            _ = await self._context.api.sip.transfer_sip_participant(request)
        except api.TwirpError as error:
            raise ToolFailed(f"LiveKit could not transfer the call: {error.code}") from error

    async def press_key(self, key: str) -> None:
        """Send the tone of one telephone key into the room, by its code in RFC 4733, section 3.2."""
        await self._context.room.local_participant.publish_dtmf(code=_KEYS.index(key), digit=key)


def end_call(name: str, spec: EndCallTool, control: CallControl) -> llm.RawFunctionTool[..., Any]:
    """Return the tool that ends the call. It says goodbye itself, so that the caller never hears two."""

    async def run(raw_arguments: dict[str, object], context: RunContext[None]) -> None:
        async def ended() -> str:
            await context.wait_for_playout()
            await control.say_goodbye_and_end()
            return "the call has ended"

        _ = await use(name, _END_SECONDS, ended())
        # Without a result the model says nothing more.

    description = f"{spec.description} The tool says goodbye: do not say it yourself."
    return function_tool(run, raw_schema=_schema(name, description))


def transfer(name: str, spec: TransferTool, control: CallControl) -> llm.RawFunctionTool[..., Any]:
    """Return the tool that transfers a telephone caller."""

    async def run(raw_arguments: dict[str, object], context: RunContext[None]) -> str:
        async def transferred() -> str:
            await context.wait_for_playout()
            await control.transfer_telephone(spec.to)
            return "the caller was transferred"

        return await use(name, _TRANSFER_SECONDS, transferred())

    return function_tool(run, raw_schema=_schema(name, spec.description))


def send_dtmf(name: str, spec: SendDTMFTool, control: CallControl) -> llm.RawFunctionTool[..., Any]:
    """Return the tool that presses telephone keys."""

    async def run(raw_arguments: dict[str, object]) -> str:
        return await use(name, _PRESS_SECONDS, _pressed(control, raw_arguments.get("keys")))

    parameters: dict[str, object] = {
        "type": "object",
        "properties": {"keys": {"type": "string", "description": f"Keys in order, each one of {_KEYS}"}},
        "required": ["keys"],
    }
    return function_tool(run, raw_schema=_schema(name, spec.description, parameters))


async def _pressed(control: CallControl, keys: object) -> str:
    pressed = str(keys or "").replace(" ", "")
    if not 0 < len(pressed) <= _MAX_KEYS or any(key not in _KEYS for key in pressed):
        raise ToolFailed(f"keys must be 1 to {_MAX_KEYS} of {_KEYS}")
    for key in pressed:
        await control.press_key(key)
        await asyncio.sleep(_KEY_SECONDS)
    return f"pressed {pressed}"


def _schema(name: str, description: str, parameters: dict[str, object] = _NO_ARGUMENTS) -> dict[str, object]:
    return {"name": name, "description": description, "parameters": parameters}

"""Finds and checks the code that `worker.agent` names: an agent class or a factory in the worker's image.

The code is the user's: its import may raise, hang, exit or crash. `check` therefore runs it in a process of its own,
before any other process imports it.
"""

import importlib
import inspect
import logging
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from livekit.agents import Agent, llm

from process import logs
from worker import isolated
from worker.contract import CallContext

logger = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0
"""How long the import and the creation of one agent may take together."""
_MAX_FAILURE_LENGTH: Final = 500

AgentFactory = Callable[[CallContext], Agent]
"""Returns the agent for a call."""


class CodeError(Exception):
    """The code is no agent class and no factory."""


def load(code: str) -> AgentFactory:
    """Import what ``module:Name`` names. Raises CodeError, and whatever the import raises."""
    module_name, _, path = code.partition(":")
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise CodeError(f"{module_name} has no {path}")
        found = getattr(found, name)
    is_class = inspect.isclass(found)
    if is_class and not issubclass(found, Agent):
        raise CodeError(f"{path} is a class, but no subclass of livekit.agents.Agent")
    if not callable(found):
        raise CodeError(f"{path} is neither a class nor a function, but of type {type(found).__name__}")
    takes_call = _takes_call(path, found)

    def make(call: CallContext) -> Agent:
        made = found(call) if takes_call else found()
        if not isinstance(made, Agent):
            if inspect.iscoroutine(made):
                made.close()
            raise CodeError(f"{path} returned {type(made).__name__}, not a livekit.agents.Agent")
        return made

    return make


def _takes_call(path: str, found: Callable[..., object]) -> bool:
    """Return whether a class or function takes one argument; raises CodeError when it needs others."""
    parameters = inspect.signature(found).parameters.values()
    needed = [each for each in parameters if each.default is each.empty and each.kind not in _OPTIONAL]
    if any(each.kind is each.KEYWORD_ONLY for each in needed) or len(needed) > 1:
        names = ", ".join(each.name for each in needed)
        raise CodeError(f"{path} needs the arguments {names}; it may need one at most, the call")
    return len(needed) == 1


_OPTIONAL: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check(
    code: str,
    call: CallContext,
    *,
    declared: Sequence[str] = (),
    secrets: Sequence[str] = (),
    seconds: float = CHECK_SECONDS,
) -> str:
    """Import the code and create one agent in another process; returns why that failed, or an empty string.

    `declared`: names of the manifest's tools, which the agent's own tools must not have. The result contains none of
    `secrets`; the log has the whole traceback. Call this while the process has no thread and no event loop, because it
    forks.
    """
    failure = isolated.failure_of(lambda: _failure(code, call, declared, secrets), seconds)
    if failure:
        logger.error("own code failed, not registering", extra={"agent_code": code, "error": failure})
    return failure


def _failure(code: str, call: CallContext, declared: Sequence[str], secrets: Sequence[str]) -> str:
    """Import the code and create one agent; returns why that failed, or an empty string."""
    try:
        _check_tools(load(code)(call), declared)
    except BaseException as error:
        logger.exception("own code raised", extra={"agent_code": code})
        return describe(error, code, secrets)
    return ""


def _check_tools(agent: Agent, declared: Sequence[str]) -> None:
    """Raise CodeError when livekit-agents would reject the agent's tools beside the manifest's."""
    try:
        own = llm.ToolContext(agent.tools).function_tools
    except ValueError as error:
        raise CodeError(f"livekit-agents rejects the agent's tools: {error}") from error
    if both := [name for name in declared if name in own]:
        raise CodeError(f"the agent and spec.tools both have a tool named {both[0]}: rename one of them")


def describe(error: BaseException, code: str, secrets: Sequence[str] = ()) -> str:
    """Return the last line of an error's traceback, and the line in the code's package that raised it."""
    if isinstance(error, CodeError):
        return str(error)
    lines = [f"SyntaxError: {error}"] if isinstance(error, SyntaxError) else traceback.format_exception_only(error)
    raised = logs.redact("".join(lines), secrets)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in raised).split())
    package = code.partition(":")[0].split(".")[0]
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).split(".")[0] == package:
            place = f" ({Path(frame.f_code.co_filename).name}, line {line})"
    return f"{text[: _MAX_FAILURE_LENGTH - len(place)]}{place}"

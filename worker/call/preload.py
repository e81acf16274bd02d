"""Imports, once for all call processes, what a first call would import while its caller waits.

The main process imports this module, which creates no series of call processes, and forks the fork server
(`worker.forkserver`). The fork server continues with `prepare_call_processes`.
"""

import importlib
from typing import Final

from livekit.agents import tokenize
from livekit.agents.llm import AgentConfigUpdate
from prometheus_client import values

from agentspec.wire import DispatchMetadata, WorkerConfig
from worker import own_code, sdk
from worker.call import call_agent
from worker.call.avatars import plugin
from worker.call.conversation import index_of
from worker.call.providers.arguments import import_plugins
from worker.config import load_settings, secret_values

CALL_MODULES: Final = ("worker.call.job", *sdk.CALL_PROCESS_MODULES)
"""What the fork server imports for call processes, in this order."""
_LAZY: Final = (
    "livekit.agents.llm.async_toolset",
    "livekit.plugins.openai",
    "livekit.plugins.tavus",
    "anyio._backends._asyncio",
    "anyio.streams.memory",
    "httpcore2",
    "openai.resources.audio.audio",
    "openai.resources.chat.chat",
    "openai.resources.chat.completions.completions",
    "openai.resources.models",
)
"""What the SDK imports when an agent starts, the plugins, and what the OpenAI client imports when it is created and at
its first requests. Each import blocks the event loop for up to 300 ms."""

for _name in _LAZY:
    importlib.import_module(_name)


def prepare_call_processes(*, imports_own_code: bool = True) -> None:
    """Import the code of the call processes and own code, and index a large knowledge base, in the fork server.

    The main process imported prometheus_client so that it keeps series in memory. The series of call processes are
    created here, in files: prometheus_client chooses again, now by PROMETHEUS_MULTIPROC_DIR.
    """
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    config = load_settings().config
    index_of(config)
    if config.agent_code and imports_own_code:
        own_code.load(config.agent_code)
    plugin.preload(config)
    import_plugins(config.voice)
    _fill_caches()
    for name in CALL_MODULES:
        importlib.import_module(name)


def _fill_caches() -> None:
    """Do what libraries do at the first use in a process, so that call processes share its memory and save its time.

    - pydantic inspects the default factories of a model when its first object is created. `inspect` then copies
      `sys.modules`, which writes to the page of each module: 5 MiB for each call.
    - The SDK builds a tree of 4,938 patterns to divide the first word of a caption into syllables: 2 MiB, and up to
      0.1 s in which the event loop does nothing else.
    """
    AgentConfigUpdate(instructions="")
    tokenize.basic.hyphenate_word("syllables")


def check_code(config: WorkerConfig) -> str:
    """Check own code in a process of its own; returns why it cannot be used, or an empty string."""
    sample = call_agent.call_context(config, DispatchMetadata(), room="check", job_id="check")
    declared = [tool.name for tool in config.tools if tool.mcp is None]  # a server's name is that of no tool
    return own_code.check(config.agent_code, sample, declared=declared, secrets=list(secret_values(config)))

"""Imports, once and in the fork server of call processes, what a first call would import while the caller waits."""

import importlib
from typing import Final

_LAZY: Final = (
    "anyio._backends._asyncio",
    "anyio.streams.memory",
    "openai.resources.audio.audio",
    "openai.resources.chat.chat",
    "openai.resources.chat.completions.completions",
    "openai.resources.models",
)
"""Modules that the OpenAI client imports at its first requests, which blocks the event loop for 100 to 300 ms."""

for name in _LAZY:
    importlib.import_module(name)

"""Imported once, by the process that call processes are forked from: what a first call would import while it waits."""

import importlib
from typing import Final

_LAZY: Final = ("anyio._backends._asyncio", "anyio.streams.memory", "openai.resources.audio", "openai.resources.models")
"""Modules that the OpenAI client imports at its first request, 100 to 300 ms with the event loop blocked."""

for name in _LAZY:
    importlib.import_module(name)

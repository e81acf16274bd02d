"""Settings of the simulated providers, which tests change for a while."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def simulated(api: str, settings: dict[str, Any]) -> Iterator[None]:
    """Change the settings of the simulated provider with this base URL until the block ends."""
    put_settings(api, settings)
    try:
        yield
    finally:
        put_settings(api, {})


def put_settings(api: str, settings: dict[str, Any]) -> None:
    """Replace the settings of the simulated provider with this base URL."""
    address = f"{api.rpartition('/')[0]}/_simulator"
    request = urllib.request.Request(address, data=json.dumps(settings).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def last_chat(openai: str) -> list[dict[str, str]]:
    """Return role and content of the messages in the last request to the language model, as the provider got them."""
    with urllib.request.urlopen(f"{openai.rpartition('/')[0]}/_simulator", timeout=30) as answer:
        messages: list[dict[str, str]] = json.load(answer)["last_chat"]
    return messages

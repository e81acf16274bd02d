"""Clients of the OpenAI API and of compatible ones: one for each address and key."""

from typing import TYPE_CHECKING

from openai import AsyncAzureOpenAI, AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

from agentspec import openai_url
from worker import retry_after
from worker.call import budget

if TYPE_CHECKING:
    import httpx2  # the OpenAI client's HTTP library

_NO_KEY = "none"
"""Given to clients of servers without a key: with none, a client would take the key in the environment."""


async def _drop_key(request: "httpx2.Request") -> None:
    """Remove the header with the key. A request hook of the HTTP client."""
    request.headers.pop("authorization", None)


def connect(url: str, key: str) -> AsyncOpenAI:
    """Return a client. An empty key is not sent. The query of the URL is part of each request.

    Azure's older dialect has a client of its own in OpenAI's library: it puts the model into the path as a deployment,
    and the key into the header ``api-key``.
    """
    address = openai_url.parse(url)
    hooks = {"response": [retry_after.remember]} | ({} if key else {"request": [_drop_key]})
    http_client = DefaultAsyncHttpxClient(event_hooks=hooks)
    timeout = Timeout(budget.LLM_ATTEMPT_SECONDS)
    if address.is_azure:
        return AsyncAzureOpenAI(
            base_url=address.base,
            api_version=address.query[openai_url.AZURE_VERSION],
            default_query=dict(address.query),
            api_key=key or _NO_KEY,
            max_retries=0,
            http_client=http_client,
            timeout=timeout,
        )
    return AsyncOpenAI(
        base_url=address.base,
        default_query=dict(address.query),
        api_key=key or _NO_KEY,
        max_retries=0,
        http_client=http_client,
        timeout=timeout,
    )

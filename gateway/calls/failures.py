"""What a request for a call answers when LiveKit or the agent's credentials fail."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.agents import Agent
from gateway.errors import ErrorReason, RequestError
from gateway.livekit.connections import Connection, Connections, SecretError
from gateway.livekit.server import LiveKitError, LiveKitRefused

RETRY_AFTER_SECONDS = 5
"""Retry-After of errors that pass by themselves."""

logger = logging.getLogger(__name__)


@contextmanager
def livekit_failures(agent: Agent, **fields: object) -> Iterator[None]:
    """Raise `RequestError` for an error of LiveKit: 502 when it rejects the request, 503 when it does not answer.

    Missing credentials are 503 too.

    ``fields`` are log fields.
    """
    try:
        yield
    except LiveKitRefused as error:
        logger.error("LiveKit rejected the request", extra={"agent": agent.key, "error": str(error), **fields})
        message = (
            f"LiveKit rejected the credentials of the agent {agent.name}, or the request. "
            f"Run `kubectl describe ava {agent.name}` to see why."
        )
        raise RequestError(502, ErrorReason.LIVEKIT_REFUSED, message) from error
    except LiveKitError as error:
        logger.error("LiveKit is unreachable", extra={"agent": agent.key, "error": str(error), **fields})
        message = "The LiveKit server is unreachable. Try again, with the same Idempotency-Key if you sent one."
        raise RequestError(
            503, ErrorReason.LIVEKIT_UNREACHABLE, message, retry_after_seconds=RETRY_AFTER_SECONDS
        ) from error
    except SecretError as error:
        logger.warning("LiveKit credentials missing", extra={"agent": agent.key, "error": str(error), **fields})
        message = (
            f"The LiveKit credentials of the agent {agent.name} are missing. "
            f"Run `kubectl describe ava {agent.name}` to see why."
        )
        raise RequestError(
            503, ErrorReason.CREDENTIALS_MISSING, message, retry_after_seconds=RETRY_AFTER_SECONDS
        ) from error


async def connect(connections: Connections, agent: Agent) -> Connection:
    """Return the connection to the agent's LiveKit server.

    Raises:
        RequestError: 503, the credentials are missing.
    """
    with livekit_failures(agent):
        return await connections.open(agent)

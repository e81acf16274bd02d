"""LiveKit's webhooks, where an operator has set them up. They say sooner what the lists of rooms say anyway."""

from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from agentspec.wire import read_room_record
from gateway.agents import Agent
from gateway.api.context import Gateway
from gateway.api.forwarding import is_internal
from gateway.api.openapi import WEBHOOK_SIGNATURE, problems, resource
from gateway.api.requests import address_of, body_of, gateway_of, require_synced
from gateway.cluster.members import shard_of
from gateway.errors import ErrorReason, RequestError
from gateway.livekit.webhooks import BEGINNINGS, ROOM_EVENTS, InvalidEvent, InvalidSignature, Webhook

MEDIA_TYPE: Final = "application/webhook+json"
"""LiveKit's own, so that the signature is checked before the body is parsed."""
MAX_BYTES: Final = 256 * 1024
"""LiveKit sends the metadata of room and participant with an event. By default each has 64,000 bytes at most."""

_PROBLEMS = {
    400: "The body is no event of LiveKit.",
    401: "No LiveKit server of a declared agent has signed the body.",
    413: f"The body is larger than {MAX_BYTES} bytes.",
    415: f"The Content-Type is not `{MEDIA_TYPE}`.",
    429: "The address has sent too many webhooks without a valid signature.",
    503: "The gateway is starting.",
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {MEDIA_TYPE: {"schema": {"type": "object", "description": "LiveKit's `WebhookEvent`."}}},
    }
}

router = resource("webhooks")


@router.post(
    "/v1/webhook",
    status_code=204,
    response_class=Response,
    response_description="The gateway has the event.",
    responses=problems(_PROBLEMS, body=True),
    openapi_extra={**_BODY, **WEBHOOK_SIGNATURE},
)
async def receive_webhook(request: Request) -> Response:
    """Receive an event of a LiveKit server.

    The gateway reads the room of the event at once, instead of with the next list of rooms. Events may be lost,
    repeated and reordered. Only LiveKit sends requests to this path.
    """
    gateway = gateway_of(request)
    require_synced(gateway)
    body = await body_of(request, MEDIA_TYPE, MAX_BYTES)
    webhook = await _verified(request, body)
    if not is_internal(request.scope, gateway.settings.internal_port):
        gateway.metrics.record_webhook(webhook.event)
    if webhook.room and webhook.event in ROOM_EVENTS:
        shards = {shard_of(agent_key) for agent_key in _concerned(gateway, webhook)}
        if any(gateway.members.is_mine(shard) for shard in shards):
            for server in webhook.servers:
                gateway.watch.hint(server, webhook.room, may_be_new=webhook.event in BEGINNINGS)
        await gateway.forwarder.pass_on(request, shards, address_of(request), body)
    return Response(status_code=204)


async def _verified(request: Request, body: bytes) -> Webhook:
    gateway = gateway_of(request)
    try:
        return await gateway.webhooks.receive(body, request.headers.get("authorization", ""))
    except InvalidSignature as error:
        gateway.access.count_unsigned_webhook(address_of(request))
        message = (
            "The signature of the webhook is not valid. Sign webhooks with an API key that an AvatarAgent's LiveKit "
            "credentials have, and send them unchanged."
        )
        raise RequestError(401, ErrorReason.UNAUTHORIZED, message) from error
    except InvalidEvent as error:
        message = "The body is no event of LiveKit. Send webhooks as LiveKit creates them."
        raise RequestError(400, ErrorReason.BAD_JSON, message) from error


def _concerned(gateway: Gateway, webhook: Webhook) -> set[str]:
    """Return the keys of the agents whose calls the event may be about: one, or all agents of the server."""
    if (record := read_room_record(webhook.room_metadata)) is not None:
        return {record.agent}
    return {
        agent.key
        for agent in gateway.agents.all()
        if isinstance(agent, Agent) and agent.spec.livekit.url in webhook.servers
    }

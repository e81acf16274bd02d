"""``python -m tests.bench.gateway_process URL KEY SECRET PORT``: a gateway without Kubernetes and without a controller.

It has one Public agent on a LiveKit server at URL, without free slots, so every call waits. Its processor time is that
of its own work.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import aiohttp
import uvicorn
import uvloop

from gateway.api.app import create_app
from gateway.api.forwarding import Forwarder
from gateway.api.jwks import fetcher
from gateway.assembly import create_gateway
from gateway.calls.ledger import Ledger
from gateway.cluster.members import Members
from gateway.livekit.connections import SecretConnections
from gateway.livekit.server import livekit_connector
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from process import logs
from tests.unit.gateway.fakes import FakeAgents, FakeSupply, example_agent

LIMIT = 100_000
"""Calls a minute from one address; the benchmark is one caller."""


@dataclass(frozen=True)
class ConstantSecrets:
    """A `SecretStore` with one key."""

    key: str
    secret: str

    async def read(self, namespace: str, name: str, keys: Sequence[str]) -> dict[str, str]:
        return dict(zip(keys, (self.key, self.secret), strict=True))


async def serve(url: str, key: str, secret: str, port: int) -> None:
    """Serve until a signal."""
    agent = example_agent()
    livekit = agent.spec.livekit.model_copy(update={"url": url})
    agents = FakeAgents([replace(agent, spec=agent.spec.model_copy(update={"livekit": livekit}))])
    settings = GatewaySettings(
        default_namespace="agents",
        max_pending_per_agent=10_000,
        public_calls_per_minute=LIMIT,
        agent_calls_per_minute=LIMIT,
    )
    connector = livekit_connector()
    async with aiohttp.ClientSession(connector=connector) as session:
        connections = SecretConnections(ConstantSecrets(key, secret), session)
        supply = FakeSupply(free=0)
        metrics, members = Metrics(), Members("gateway", "")
        forwarder = Forwarder(members, session, metrics, settings.internal_port)
        gateway = create_gateway(
            settings, agents, connections, Ledger(), metrics, supply, fetcher(session), members, forwarder
        )
        gateway.watch.is_heard = lambda: True
        await gateway.watch.list_now()
        config = uvicorn.Config(create_app(gateway), port=port, log_config=None, access_log=False, server_header=False)
        await uvicorn.Server(config).serve()
        await gateway.dispatcher.stop()


if __name__ == "__main__":
    logs.configure(levels={})
    _, livekit_url, livekit_key, livekit_secret, own_port = sys.argv
    uvloop.run(serve(livekit_url, livekit_key, livekit_secret, int(own_port)))

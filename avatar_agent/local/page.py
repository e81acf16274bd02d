"""The call page and the API for calls on this machine: the gateway itself, with one agent from a file."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import uvicorn

from agentspec import AvatarAgentSpec
from agentspec.names import LIVEKIT_KEY, LIVEKIT_SECRET
from avatar_agent.local.inputs import LIVEKIT_VARIABLES, Inputs
from gateway.agents import Agent, InvalidAgent
from gateway.api.app import create_app
from gateway.api.forwarding import internal_session
from gateway.assembly import assemble
from gateway.calls import housekeeping
from gateway.livekit.connections import SecretConnections
from gateway.livekit.server import livekit_connector
from gateway.metrics import Metrics
from gateway.settings import WEB_DIR, GatewaySettings
from gateway.web.assets import LIVEKIT_CLIENT

HOST: Final = "127.0.0.1"
STOP_SECONDS: Final = 2
_INSTALLED_CLIENT: Final = WEB_DIR / "node_modules/livekit-client/dist"


class LocalAgent:
    """`AgentDirectory` and `SecretStore` of one agent. `show` replaces it when its manifest changes."""

    synced = True

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace = namespace
        self.name = name
        self._agent: Agent | None = None
        self._credentials: dict[str, str] = {}

    def show(self, spec: AvatarAgentSpec, inputs: Inputs) -> None:
        """Serve calls with this spec from now on."""
        values = inputs.variables.values
        key, secret = (values[name] for name in LIVEKIT_VARIABLES)
        self._credentials = {LIVEKIT_KEY: key, LIVEKIT_SECRET: secret}
        self._agent = Agent(self.namespace, self.name, spec, ready=True)

    async def wait_synced(self) -> None:
        """Return at once."""

    def get(self, namespace: str, name: str) -> Agent | InvalidAgent | None:
        """Return the agent if it has this name."""
        return self._agent if (namespace, name) == (self.namespace, self.name) else None

    def all(self) -> list[Agent | InvalidAgent]:
        """Return the agent in a list; before the first `show` it is empty."""
        return [] if self._agent is None else [self._agent]

    async def read(self, namespace: str, name: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the credentials of LiveKit, the only ones that the gateway reads."""
        return dict(self._credentials)


@asynccontextmanager
async def serving(agent: LocalAgent, port: int) -> AsyncIterator[str]:
    """Serve page and API within the context; yields the page's URL. Port 0: a free one. Raises OSError."""
    settings = GatewaySettings(livekit_client_dir=client_folder(), default_namespace=agent.namespace)
    with _listening(port) as listener:
        async with (
            aiohttp.ClientSession(connector=livekit_connector()) as livekit_session,
            aiohttp.ClientSession() as session,
            internal_session() as gateway_session,
            aclosing(SecretConnections(agent, livekit_session)) as connections,
        ):
            gateway, _ = assemble(settings, agent, connections, session, gateway_session, Metrics())
            config = uvicorn.Config(
                create_app(gateway), access_log=False, log_config=None, timeout_graceful_shutdown=STOP_SECONDS
            )
            server = _Server(config)
            watching = asyncio.create_task(housekeeping.run(agent, connections, gateway.ledger, gateway.watch))
            running = asyncio.create_task(server.serve([listener]))
            try:
                yield f"http://localhost:{listener.getsockname()[1]}/?agent={agent.name}"
            finally:
                gateway.closing.set()
                server.should_exit = True
                watching.cancel()
                await asyncio.gather(running, watching, return_exceptions=True)
                await gateway.dispatcher.stop()


class _Server(uvicorn.Server):
    """Leaves signals to the command, which ends everything."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    listener = socket.create_server((HOST, port))
    try:
        yield listener
    finally:
        listener.close()


def client_folder() -> Path:
    """Return the folder with LiveKit's browser client: that of the image, or of `npm ci` in gateway/web."""
    folders = (WEB_DIR / "assets", _INSTALLED_CLIENT)
    return next((folder for folder in folders if (folder / LIVEKIT_CLIENT).is_file()), folders[0])


def has_client() -> bool:
    """Whether the page can load LiveKit's browser client."""
    return (client_folder() / LIVEKIT_CLIENT).is_file()

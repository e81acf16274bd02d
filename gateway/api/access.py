"""Access control: who may call which agent, and how often."""

import re
from collections.abc import Collection, Mapping

from starlette.datastructures import Headers

from agentspec import DispatchAccess
from agentspec.wire import agent_key
from gateway.agents import Agent, AgentDirectory, InvalidAgent
from gateway.api.addresses import client_address, rate_limit_key
from gateway.api.keys import ApiKeys, Identity
from gateway.api.limits import Limits
from gateway.api.oidc import Tokens
from gateway.api.origins import is_own_origin
from gateway.client import PUBLIC_SCOPE, Client
from gateway.errors import ErrorReason, RequestError

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{16,128}")


class Access:
    """Decides whether the sender of a request may call an agent.

    Without a right, an agent that exists and one that does not get the same answer: 401 with one text. The facts of a
    Public agent are public, so its answer may say more.
    """

    def __init__(
        self,
        agents: AgentDirectory,
        keys: ApiKeys,
        tokens: Tokens,
        limits: Limits,
        own_hosts: Collection[str],
        proxy_hops: int,
    ) -> None:
        """``own_hosts`` are the host names of the gateway's own page, in lower case."""
        self._agents = agents
        self._keys = keys
        self._tokens = tokens
        self._limits = limits
        self._own_hosts = own_hosts
        self._proxy_hops = proxy_hops

    def address(self, headers: Headers, peer: str) -> str:
        """Return the address of the client that sent a request."""
        return client_address(headers, peer, self._proxy_hops)

    async def identify(self, headers: Headers, address: str) -> Identity | None:
        """Return the holder of the API key or the token that a request carries; None: it carries neither.

        Raises:
            RequestError: 401, it is not valid; 429, the address has sent too many such; 503, it cannot be checked now.
        """
        if "authorization" not in headers:
            return None
        bearer = bearer_token(headers)
        identity = self._keys.identify(bearer) or await self._tokens.identify(bearer)
        if identity is None:
            self._limits.address.count(rate_limit_key(address))
            raise no_right()
        return identity

    def count_unsigned_webhook(self, address: str) -> None:
        """Count a webhook without a valid signature.

        Raises:
            RequestError: 429, the address has sent too many such.
        """
        self._limits.webhook.count(rate_limit_key(address))

    def admit(
        self, identity: Identity | None, namespace: str, name: str, headers: Headers, address: str
    ) -> tuple[Agent, Client]:
        """Return the agent that a request may call now, and the client that sent the request.

        Raises:
            RequestError: 401, 403, 404, 409 or 429; the message says why and what to do.
        """
        if identity is not None:
            self._limits.key.count(identity.scope)
            agent = self._granted(identity, namespace, name)
            client = Client(identity.scope, identity.key_id, address)
        else:
            self._limits.address.count(rate_limit_key(address))
            agent = self._public(namespace, name)
            client = Client(PUBLIC_SCOPE, self._check_sender(agent, headers), address)
        self._limits.agent.count(agent.key)
        return agent, client

    def visible(self, identity: Identity | None, namespace: str, name: str) -> Agent:
        """Return an agent whose facts the sender of a request may read: a Public agent, or one that its key may call.

        Raises:
            RequestError: 401, 404 or 409.
        """
        return self._public(namespace, name) if identity is None else self._granted(identity, namespace, name)

    def callable(self, identity: Identity | None, headers: Headers) -> list[Agent]:
        """Return the agents that the sender of a request may call. No limit counts this."""
        declared = [agent for agent in self._agents.all() if isinstance(agent, Agent)]
        if identity is not None:
            return [agent for agent in declared if identity.may_call(agent.namespace, agent.name)]
        public = [agent for agent in declared if agent.spec.dispatch.access is DispatchAccess.PUBLIC]
        return [agent for agent in public if self._is_sender_allowed(agent, headers)]

    def _granted(self, identity: Identity, namespace: str, name: str) -> Agent:
        if not identity.may_call(namespace, name):
            raise no_right()
        found = self._agents.get(namespace, name)
        if isinstance(found, Agent):
            return found
        if isinstance(found, InvalidAgent):
            message = f"The spec of the agent {name} is not valid for this release of the gateway. {found.error}."
            raise RequestError(409, ErrorReason.AGENT_INVALID, message)
        message = (
            f"The agent {agent_key(namespace, name)} does not exist. Run `kubectl get ava -n {namespace}` to list the "
            'agents. For an agent in another namespace, send "agent": {"namespace": …, "name": …}.'
        )
        raise RequestError(404, ErrorReason.AGENT_NOT_FOUND, message)

    def _public(self, namespace: str, name: str) -> Agent:
        found = self._agents.get(namespace, name)
        if isinstance(found, Agent) and found.spec.dispatch.access is DispatchAccess.PUBLIC:
            return found
        raise no_right()

    def _is_sender_allowed(self, agent: Agent, headers: Mapping[str, str]) -> bool:
        try:
            self._check_sender(agent, headers)
        except RequestError:
            return False
        return True

    def _check_sender(self, agent: Agent, headers: Mapping[str, str]) -> str:
        """Check that a page or an app may call a Public agent; return the key id of an app, and nothing of a page.

        A publishable key is for apps only, so that a page on another origin cannot use it in place of its own origin.
        """
        origin, host = headers.get("origin", ""), headers.get("host", "")
        if not origin and (key := headers.get("x-publishable-key")):
            if key not in agent.spec.dispatch.publishable_keys:
                raise no_right()
            return f"publishable/{key}"
        if origin and (is_own_origin(origin, host, self._own_hosts) or origin in agent.spec.dispatch.allowed_origins):
            return ""
        message = (
            f"Pages from {origin} may not call the agent {agent.name}. Add the origin to spec.dispatch.allowedOrigins. "
            "If this is the gateway's own page, add its host to gateway.hosts of the chart."
            if origin
            else f"The request has no Origin header, so it did not come from a browser page. To call the agent "
            f"{agent.name} from a back end, send `Authorization: Bearer <key>`. From a native app, send the header "
            "X-Publishable-Key with a key of spec.dispatch.publishableKeys."
        )
        raise RequestError(403, ErrorReason.ORIGIN_NOT_ALLOWED, message)


def no_right() -> RequestError:
    """Return the one answer to every request that may not know whether an agent exists."""
    message = (
        "The agent does not exist, or this request has no right to call it. Check the agent's namespace and name. For "
        "an agent that is not Public, send `Authorization: Bearer <key>` with a key or token for it or its namespace."
    )
    return RequestError(401, ErrorReason.UNAUTHORIZED, message)


def bearer_token(headers: Mapping[str, str]) -> str:
    """Return the bearer token of the Authorization header; empty without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """Return the Idempotency-Key of a request, or None.

    Raises:
        RequestError: 400, the key is too short to be unguessable, too long, or has characters that are not visible.
    """
    key = headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        message = "The Idempotency-Key is not valid. Send 16 to 128 visible ASCII characters, for example a UUID."
        raise RequestError(400, ErrorReason.INVALID_REQUEST, message)
    return key

"""kopf's part: watching. Every event only says which AvatarAgent to look at; what to do is decided from what is.

kopf writes nothing to any object here: `on.event` handlers need no finalizer (owner references release the children),
keep no copy of the spec in an annotation and no progress, and have no retries of their own.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import kopf

from agentspec import API_GROUP, API_VERSION, PLURAL
from agentspec.names import AGENT_LABEL
from controller.cluster.observe import MANAGED_SELECTOR
from controller.observation import Key

_CHILDREN = (("", "v1", "pods"), ("apps", "v1", "deployments"))


def settings() -> kopf.OperatorSettings:
    """kopf's settings, each against a known pitfall."""
    chosen = kopf.OperatorSettings()
    chosen.watching.server_timeout = 300  # a stalled watch ends: the server closes it,
    chosen.watching.client_timeout = 330  # or else the client does;
    chosen.watching.inactivity_timeout = 70  # bookmarks come every 60 s: silence is a dead stream
    chosen.watching.connect_timeout = 10
    chosen.watching.chunk_size = 500  # at start everything is listed: in pieces
    chosen.networking.connect_timeout = 10
    chosen.networking.request_timeout = 30
    chosen.queueing.worker_limit = 50  # at start everything comes at once
    chosen.posting.enabled = False  # events are posted by report.py, on transitions only
    chosen.scanning.disabled = True  # no right to read namespaces or CRDs is needed
    for child in _CHILDREN:
        chosen.watching.label_selectors[child] = MANAGED_SELECTOR
    return chosen


def registry(changed: Callable[[Key], None], server: str, stopping: Callable[[], None]) -> kopf.OperatorRegistry:
    """The handlers. `changed` is told which agent to reconcile; `server` is the API server's URL; `stopping` ends all
    tasks of ours: at its end kopf waits 5 s for every task of the event loop, whoever made it.
    """
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            account = kopf.login_with_service_account(**kwargs)
            # kopf's own address needs DNS, which may come up after the controller
            return None if account is None else dataclasses.replace(account, server=server)
        return kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        stopping()

    @kopf.on.event(API_GROUP, API_VERSION, PLURAL, registry=handlers)
    async def avatar_agent_changed(event: kopf.RawEvent, body: kopf.Body, **_: Any) -> None:
        if event["type"] == "MODIFIED" and body.metadata["generation"] == body.status.get("observedGeneration"):
            return  # only the status, which this controller writes
        changed(Key(str(body.metadata.namespace), str(body.metadata.name)))

    async def child_changed(body: kopf.Body, **_: Any) -> None:
        agent = body.metadata.labels.get(AGENT_LABEL)
        if agent:
            changed(Key(str(body.metadata.namespace), agent))

    for group, version, plural in _CHILDREN:
        kopf.on.event(group, version, plural, registry=handlers, id=f"{plural}_changed")(child_changed)
    return handlers

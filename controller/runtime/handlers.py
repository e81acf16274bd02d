"""kopf's part: it watches the AvatarAgents. An event only updates the cache; reconciles decide from the whole state.

kopf writes nothing to any object. `on.event` handlers need no finalizer, because owner references let Kubernetes
delete the children. They store no copy of the spec and no progress in annotations, and have no retries of their own.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any

import kopf

from agentspec import API_GROUP, API_VERSION, PLURAL
from controller.observation import Key
from kube.client import LIST_PAGE_SIZE, WATCH_IDLE_SECONDS, WATCH_SECONDS, Document


class NoDiffBase(kopf.DiffBaseStorage):
    """Stores no copy of the last handled object: kopf would build one for every event, at two milliseconds each."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        """An empty essence: there is nothing to compare."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """None: no essence is stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Do nothing; kopf calls this only for handlers of changes, which do not exist."""


def settings() -> kopf.OperatorSettings:
    """kopf's settings, each to avoid a known problem."""
    chosen = kopf.OperatorSettings()
    chosen.watching.server_timeout = WATCH_SECONDS  # ends a stalled watch: the server closes it,
    chosen.watching.client_timeout = WATCH_SECONDS + 30  # or else the client does;
    chosen.watching.inactivity_timeout = WATCH_IDLE_SECONDS  # bookmarks come every 60 s: without one the stream is dead
    chosen.watching.connect_timeout = 10
    chosen.watching.chunk_size = LIST_PAGE_SIZE  # the list at start is paged
    chosen.networking.connect_timeout = 10
    chosen.networking.request_timeout = 30
    chosen.queueing.worker_limit = 50  # at start all agents arrive at once,
    chosen.queueing.idle_timeout = 0.1  # and a worker that waits for more events of an object occupies a place
    chosen.persistence.diffbase_storage = NoDiffBase()
    chosen.posting.enabled = False  # report.py posts Events, on transitions only
    chosen.scanning.disabled = True  # needs no permission to read namespaces or CRDs
    return chosen


def registry(
    updated: Callable[[Document], None], removed: Callable[[Key, str], None], server: str, stop: Callable[[], None]
) -> kopf.OperatorRegistry:
    """The handlers.

    `updated`: called with every new or changed AvatarAgent. `removed`: called with key and uid of a deleted one.
    `server`: the API server's URL. `stop`: ends all tasks of the controller, because kopf waits up to 5 s for every
    task of the event loop, whoever created it.
    """
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            account = kopf.login_with_service_account(**kwargs)
            # kopf would use a host name; DNS may start after the controller
            return None if account is None else dataclasses.replace(account, server=server)
        return kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.cleanup(registry=handlers)
    async def stop_tasks(**_: Any) -> None:
        stop()

    @kopf.on.event(API_GROUP, API_VERSION, PLURAL, registry=handlers)
    async def avatar_agent_changed(event: kopf.RawEvent, **_: Any) -> None:
        document: Any = event["object"]
        if event["type"] == "DELETED":
            metadata = document["metadata"]
            removed(Key(metadata["namespace"], metadata["name"]), metadata["uid"])
        else:
            updated(document)

    return handlers

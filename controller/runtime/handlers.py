"""kopf's part: it watches AvatarAgents. An event only says what is so now; what to do is decided from the whole state.

kopf writes nothing to any object here: `on.event` handlers need no finalizer (owner references release the children),
keep no copy of the spec in an annotation and no progress, and have no retries of their own.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any

import kopf

from agentspec import API_GROUP, API_VERSION, PLURAL
from controller.observation import Key
from kube.client import LIST_PAGE_SIZE, WATCH_IDLE_SECONDS, WATCH_SECONDS, Document


class NothingRemembered(kopf.DiffBaseStorage):
    """No copy of what was handled last: kopf would make one out of every event, at two milliseconds each."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        """What to compare: nothing."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """What was handled last: nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Never called without handlers of changes."""


def settings() -> kopf.OperatorSettings:
    """kopf's settings, each against a known pitfall."""
    chosen = kopf.OperatorSettings()
    chosen.watching.server_timeout = WATCH_SECONDS  # a stalled watch ends: the server closes it,
    chosen.watching.client_timeout = WATCH_SECONDS + 30  # or else the client does;
    chosen.watching.inactivity_timeout = WATCH_IDLE_SECONDS  # bookmarks come every 60 s: silence is a dead stream
    chosen.watching.connect_timeout = 10
    chosen.watching.chunk_size = LIST_PAGE_SIZE  # at start everything is listed: in pieces
    chosen.networking.connect_timeout = 10
    chosen.networking.request_timeout = 30
    chosen.queueing.worker_limit = 50  # at start everything comes at once,
    chosen.queueing.idle_timeout = 0.1  # and a worker that waits for more of the same object holds a place meanwhile
    chosen.persistence.diffbase_storage = NothingRemembered()
    chosen.posting.enabled = False  # events are posted by report.py, on transitions only
    chosen.scanning.disabled = True  # no right to read namespaces or CRDs is needed
    return chosen


def registry(
    seen: Callable[[Document], None], lost: Callable[[Key, str], None], server: str, stopping: Callable[[], None]
) -> kopf.OperatorRegistry:
    """The handlers. `seen` is told of every AvatarAgent as it is now, `lost` of one that is gone, by name and uid;
    `server` is the API server's URL; `stopping` ends all tasks of ours: at its end kopf waits 5 s for every task of the
    event loop, whoever made it.
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
    async def avatar_agent_changed(event: kopf.RawEvent, **_: Any) -> None:
        document: Any = event["object"]
        if event["type"] == "DELETED":
            metadata = document["metadata"]
            lost(Key(metadata["namespace"], metadata["name"]), metadata["uid"])
        else:
            seen(document)

    return handlers

"""The settings of kopf."""

from controller.runtime.handlers import NoDiffBase, settings


def test_stalled_watches_and_requests_time_out() -> None:
    watching, networking = settings().watching, settings().networking
    assert (watching.server_timeout, watching.client_timeout) == (300, 330), "the server closes first"
    assert type(watching.server_timeout) is int, "the API server takes no `timeoutSeconds=300.0`"
    assert watching.inactivity_timeout == 70, "a bookmark comes every minute"
    assert (watching.connect_timeout, networking.connect_timeout, networking.request_timeout) == (10, 10, 30)
    assert watching.chunk_size == 500
    assert type(watching.chunk_size) is int, "nor a `limit=500.0`"


def test_number_of_kopf_tasks_is_limited() -> None:
    assert settings().queueing.worker_limit == 50
    assert settings().queueing.idle_timeout == 0.1


def test_kopf_writes_nothing_and_needs_no_other_permissions() -> None:
    assert isinstance(settings().persistence.diffbase_storage, NoDiffBase)
    assert settings().posting.enabled is False
    assert settings().scanning.disabled is True

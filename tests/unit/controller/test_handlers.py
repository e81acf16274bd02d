"""What kopf is told to do and to leave."""

from controller.runtime.handlers import NoDiffBase, settings


def test_a_watch_that_stalls_ends_and_no_request_waits_for_ever() -> None:
    watching, networking = settings().watching, settings().networking
    assert (watching.server_timeout, watching.client_timeout) == (300, 330), "the server closes first"
    assert type(watching.server_timeout) is int, "the API server takes no `timeoutSeconds=300.0`"
    assert watching.inactivity_timeout == 70, "a bookmark comes every minute"
    assert (watching.connect_timeout, networking.connect_timeout, networking.request_timeout) == (10, 10, 30)
    assert watching.chunk_size == 500
    assert type(watching.chunk_size) is int, "nor a `limit=500.0`"


def test_many_agents_at_once_are_taken_up_by_a_bounded_number_of_tasks() -> None:
    assert settings().queueing.worker_limit == 50
    assert settings().queueing.idle_timeout == 0.1


def test_kopf_writes_nothing_and_needs_no_rights_beyond_agents() -> None:
    assert isinstance(settings().persistence.diffbase_storage, NoDiffBase)
    assert settings().posting.enabled is False
    assert settings().scanning.disabled is True

"""The worker's HTTP endpoints."""

import pytest
from aiohttp.test_utils import TestClient, TestServer

from agentspec import WorkerStatus
from worker.endpoints import make_app, readiness


def _status(registered: bool, draining: bool) -> WorkerStatus:
    return WorkerStatus(
        agent_name="ornina", worker_id="AW_1", registered=registered, draining=draining, slots=4, calls=1
    )


class _Worker:
    def __init__(self, status: WorkerStatus) -> None:
        self._status = status

    def status(self) -> WorkerStatus:
        return self._status


@pytest.mark.parametrize(
    ("registered", "draining", "ready", "word"),
    [
        (True, False, True, "registered"),
        (False, False, False, "not registered"),
        (True, True, False, "draining"),
        (False, True, False, "draining"),
    ],
)
async def test_ready_is_registered_and_not_draining(registered: bool, draining: bool, ready: bool, word: str) -> None:
    status = _status(registered, draining)
    assert readiness(status)[0] is ready
    async with TestClient(TestServer(make_app(_Worker(status)))) as client:
        response = await client.get("/readyz")
        assert response.status == (200 if ready else 503)
        assert word in await response.text()
        assert (await client.get("/livez")).status == 200


async def test_status_is_the_wire_document() -> None:
    status = _status(registered=True, draining=False)
    async with TestClient(TestServer(make_app(_Worker(status)))) as client:
        response = await client.get("/status")
        assert response.content_type == "application/json"
        assert WorkerStatus.model_validate_json(await response.text()) == status


async def test_metrics_are_an_exposition() -> None:
    async with TestClient(TestServer(make_app(_Worker(_status(True, False))))) as client:
        response = await client.get("/metrics")
        assert response.status == 200
        assert "# TYPE avatar_agent_worker_slots gauge" in await response.text()

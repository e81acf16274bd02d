"""A whole worker with `spec.report`: the report of a call gets from its call process to the receiver."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentspec.names import REPORT_KEY_VARIABLE
from tests.receiver import SIGNING_KEY, receiving
from tests.unit.worker.fake_livekit import fake_livekit
from tests.unit.worker.worker_process import WORKER_COMMAND, process_group, worker_environment
from tests.waiting import eventually_in_thread

SECONDS = 90.0
"""Generous, for a busy machine."""


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A folder for the fork server's socket: pytest's own may be too long for the address of a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


async def test_calls_of_a_whole_worker_are_reported_or_counted(tmp_path: Path, short_folder: str) -> None:
    """The calls cannot join their rooms, because this LiveKit has none: they end at once.

    The id of the second job cannot name a file, so its report is lost.
    """
    log = tmp_path / "log"
    async with receiving() as receiver, fake_livekit() as livekit:
        key = {"name": "crm", "key": "signingKey"}
        report = {"url": receiver.url, "secretKeyRef": key, "include": ["Transcript", "Usage"]}
        environment = worker_environment(tmp_path, livekit.url, report=report)
        environment |= {REPORT_KEY_VARIABLE: SIGNING_KEY, "TMPDIR": short_folder}

        def logged(message: str) -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
            return [line for line in lines if line["message"] == message]

        async with process_group(WORKER_COMMAND, environment, log):
            await eventually_in_thread(lambda: livekit.registrations, "the worker has registered", SECONDS)
            await livekit.offer("AJ_1", "ornina-c1")
            await eventually_in_thread(lambda: logged("report of a call sent"), "the report is sent", SECONDS)
            await livekit.offer("AJ/2", "ornina-c2")
            await eventually_in_thread(lambda: logged("report of a call lost"), "the loss is noticed", SECONDS)
    (sent,), (lost,) = logged("report of a call sent"), logged("report of a call lost")
    assert (sent["job_id"], lost["job_id"], lost["reason"]) == ("AJ_1", "AJ/2", "missing")
    (report,) = [found["data"] for found in receiver.reports]
    assert (receiver.faults, receiver.ids) == ([], ["AJ_1"])
    assert (report["jobID"], report["room"], report["outcome"]) == ("AJ_1", "ornina-c1", "crashed")
    assert (report["turns"], report["usage"], report["latencies"]) == ([], [], None)
    assert SIGNING_KEY.removeprefix("whsec_") not in log.read_text()

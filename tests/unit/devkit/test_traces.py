"""Traces of an instance are found, and those of other instances are not."""

import sys
from pathlib import Path

import pytest

from devkit import network, traces
from devkit.instance import Layout

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace folders of the machine by the test's own, without network."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for constant in ("CONTAINER_LOGS", "CNI_RESULTS", "_SHIM_SOCKETS"):
        folder = tmp_path / constant.lower()
        folder.mkdir()
        monkeypatch.setattr(traces, constant, folder)
    monkeypatch.setattr(network, "traces", lambda name: [])
    return tmp_path


def test_unknown_instance_has_no_traces() -> None:
    assert traces.traces("one") == []


def test_folder_and_process_are_traces_of_their_instance_only() -> None:
    table = Layout("one").processes
    started = table.start("sleeper", SLEEP)
    try:
        assert traces.traces("one") == [f"process {started.pid}", str(Layout("one").root)]
        assert traces.traces("two") == []
    finally:
        table.stop(started, grace=0)
    assert traces.traces("one") == [str(Layout("one").root)]


def test_files_in_shared_folders_are_found_by_instance(machine: Path) -> None:
    logs, results = machine / "container_logs", machine / "cni_results"
    nodes = (*Layout("one").nodes, *Layout("one-b").nodes)
    for node, container in zip(nodes, ("c0ffee", "facade", "decade", "accede"), strict=True):
        name = node.name
        (logs / f"pod-{name}.log").symlink_to(node.pod_logs / "0.log")
        (results / f"avatar-agent-{name}-{container}-eth0").touch()
        (results / f"cni-loopback-{container}-lo").touch()
    (logs / "other.log").symlink_to("/elsewhere/0.log")
    found = [path for path in traces.shared_files(Layout("one")) if path.is_symlink() or path.exists()]
    assert sorted(path.name for path in found) == [
        "avatar-agent-one-c0ffee-eth0",
        "avatar-agent-one.2-facade-eth0",
        "cni-loopback-c0ffee-lo",
        "cni-loopback-facade-lo",
        "pod-one.2.log",
        "pod-one.log",
    ]

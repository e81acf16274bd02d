"""When an instance counts as complete, and when `up` would replace it."""

import itertools
from collections.abc import Iterator

import pytest

from devkit import cluster, kubernetes
from devkit.instance import Record
from devkit.processes import Process, ProcessTable

RECORD = Record("unit", "10.100.0.0/16", True, False, 1, "key", "secret", ready=True)
DAEMONS = ["etcd", "kube-apiserver", "kube-controller-manager"]


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the daemons that run; tests remove some."""
    running = list(DAEMONS)
    recorded = [Process(name, number, 0, "boot") for number, name in enumerate(DAEMONS)]
    monkeypatch.setattr(ProcessTable, "all", lambda _: recorded)
    monkeypatch.setattr(cluster, "is_alive", lambda process: process.name in running)
    return running


def _answer_with(monkeypatch: pytest.MonkeyPatch, answers: Iterator[bool]) -> None:
    monkeypatch.setattr(kubernetes, "answers", lambda *_: next(answers))


def test_late_answer_of_api_server_is_waited_for(alive: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _answer_with(monkeypatch, iter([False, False, True]))
    assert cluster.is_complete(RECORD)


def test_instance_without_answer_is_not_complete(alive: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ANSWER_SECONDS", 0.0)
    _answer_with(monkeypatch, itertools.repeat(False))
    assert not cluster.is_complete(RECORD)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_instance_without_a_daemon_is_not_complete(
    alive: list[str], monkeypatch: pytest.MonkeyPatch, daemon: str
) -> None:
    alive.remove(daemon)
    _answer_with(monkeypatch, iter([]))
    assert not cluster.is_complete(RECORD)

"""When an instance is taken to be whole, and when it would be replaced."""

import itertools
from collections.abc import Iterator

import pytest

from devkit import cluster, kubernetes
from devkit.instance import Record
from devkit.processes import Process, ProcessTable

RECORD = Record("unit", "10.100.0.0/16", True, False, "key", "secret", ready=True)
DAEMONS = ["etcd", "kube-apiserver", "kube-controller-manager"]


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the daemons that run; tests take some away."""
    running = list(DAEMONS)
    recorded = [Process(name, number, 0, "boot") for number, name in enumerate(DAEMONS)]
    monkeypatch.setattr(ProcessTable, "all", lambda _: recorded)
    monkeypatch.setattr(cluster, "is_alive", lambda process: process.name in running)
    return running


def _says(monkeypatch: pytest.MonkeyPatch, answers: Iterator[bool]) -> None:
    monkeypatch.setattr(kubernetes, "answers", lambda *_: next(answers))


def test_an_api_server_that_is_late_with_an_answer_is_given_time(
    alive: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _says(monkeypatch, iter([False, False, True]))
    assert cluster.is_whole(RECORD)


def test_one_that_does_not_answer_at_all_is_given_up(alive: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE_SECONDS", 0.0)
    _says(monkeypatch, itertools.repeat(False))
    assert not cluster.is_whole(RECORD)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_without_one_of_its_daemons_an_instance_is_given_up_at_once(
    alive: list[str], monkeypatch: pytest.MonkeyPatch, daemon: str
) -> None:
    alive.remove(daemon)
    _says(monkeypatch, iter([]))
    assert not cluster.is_whole(RECORD)

"""The environment, read once; and the log's form."""

import json
import logging

import pytest

from controller.logs import JSONFormatter, configure
from controller.settings import Settings, SettingsError

LEAST = {"WORKER_IMAGE": "worker:1", "LEASE_NAMESPACE": "system"}


def test_the_least_environment_serves_all_namespaces() -> None:
    assert Settings.from_environment({**LEAST, "WATCH_NAMESPACE": ""}) == Settings("worker:1", "system")


def test_everything_can_be_said() -> None:
    environment = {
        **LEAST,
        "LEASE_NAME": "the-lease",
        "POD_NAME": "controller-1",
        "POD_NAMESPACE": "pods",
        "OPERATOR_NAMESPACE": "operator",
        "MONITORING_NAMESPACE": "monitoring",
        "WATCH_NAMESPACE": "shop",
        "GATEWAY_SERVICE_ACCOUNT": "system:serviceaccount:shop:gateway",
        "HTTP_PORT": "9000",
    }
    assert Settings.from_environment(environment) == Settings(
        worker_image="worker:1",
        lease_namespace="system",
        lease_name="the-lease",
        pod_name="controller-1",
        pod_namespace="pods",
        operator_namespace="operator",
        monitoring_namespace="monitoring",
        watch_namespace="shop",
        gateway_service_account="system:serviceaccount:shop:gateway",
        port=9000,
    )


def test_in_a_pod_its_namespace_is_that_of_the_lease_and_of_the_operator() -> None:
    found = Settings.from_environment({"WORKER_IMAGE": "worker:1", "POD_NAME": "p", "POD_NAMESPACE": "system"})
    assert (found.lease_namespace, found.operator_namespace) == ("system", "system")


@pytest.mark.parametrize(
    ("operator", "monitoring", "clients"),
    [
        pytest.param(None, None, (), id="outside a cluster nobody is known"),
        pytest.param("system", None, ("system",), id="controller and gateway"),
        pytest.param("system", "monitoring", ("monitoring", "system"), id="and Prometheus"),
        pytest.param("system", "system", ("system",), id="Prometheus beside them"),
    ],
)
def test_who_may_connect_to_workers(operator: str | None, monitoring: str | None, clients: tuple[str, ...]) -> None:
    settings = Settings("worker:1", "system", operator_namespace=operator, monitoring_namespace=monitoring)
    assert settings.worker_clients == clients


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        pytest.param({"WORKER_IMAGE": ""}, "WORKER_IMAGE is not set", id="no worker image"),
        pytest.param({"HTTP_PORT": "http"}, "HTTP_PORT is 'http'", id="a port that is no number"),
        pytest.param({"HTTP_PORT": "70000"}, "HTTP_PORT is '70000'", id="a port that is none"),
        pytest.param({}, "LEASE_NAMESPACE is not set", id="nowhere to put the lease"),
        pytest.param({"POD_NAME": "p"}, "POD_NAME is set without POD_NAMESPACE", id="half a pod"),
    ],
)
def test_what_is_missing_is_named(environment: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Settings.from_environment({"WORKER_IMAGE": "worker:1", **environment})


def test_a_log_line_is_one_object_with_facts_as_fields() -> None:
    record = logging.makeLogRecord({"name": "controller.x", "levelname": "INFO", "msg": "scaled", "agent": "shop/ava"})
    entry = json.loads(JSONFormatter().format(record))
    assert (entry["message"], entry["agent"], entry["level"]) == ("scaled", "shop/ava", "info")
    assert "args" not in entry
    assert entry["time"].endswith("+00:00")


@pytest.mark.parametrize(
    ("logger", "level"),
    [("kopf._cogs.clients.watching", "warning"), ("kopf._core.reactor.queueing", "error"), ("controller.x", "error")],
    ids=["kopf repeats a request", "kopf fails", "the controller fails"],
)
def test_an_api_server_that_is_away_is_no_error(logger: str, level: str, capsys: pytest.CaptureFixture[str]) -> None:
    kept = logging.root.handlers[:], logging.root.level
    logging.root.handlers.clear()  # or configure() would close those of pytest
    try:
        configure()
        logging.getLogger(logger).error("Request attempt #1/9 failed; will retry")
    finally:
        logging.root.handlers[:], logging.root.level = kept
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["level"] == level

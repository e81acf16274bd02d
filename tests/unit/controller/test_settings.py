"""The environment, read once."""

import pytest

from controller.runtime.settings import Settings, SettingsError

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

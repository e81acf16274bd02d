"""The controller's settings."""

import pytest

from controller.runtime.settings import ControllerSettings
from process.settings import SettingsError, load

MINIMUM = {"WORKER_IMAGE": "worker:1", "LEASE_NAMESPACE": "system"}


def test_minimal_environment_serves_all_namespaces() -> None:
    assert load(ControllerSettings, {**MINIMUM, "WATCH_NAMESPACE": ""}) == ControllerSettings(
        worker_image="worker:1",
        lease_namespace="system",
        lease_name="avatar-agent-controller",
        pod_name=None,
        pod_namespace=None,
        operator_namespace=None,
        monitoring_namespace=None,
        watch_namespace=None,
        gateway_service_account=None,
        port=8080,
    )


def test_every_variable_is_loaded() -> None:
    environment = {
        **MINIMUM,
        "LEASE_NAME": "the-lease",
        "POD_NAME": "controller-1",
        "POD_NAMESPACE": "pods",
        "OPERATOR_NAMESPACE": "operator",
        "MONITORING_NAMESPACE": "monitoring",
        "WATCH_NAMESPACE": "shop",
        "GATEWAY_SERVICE_ACCOUNT": "system:serviceaccount:shop:gateway",
        "HTTP_PORT": "9000",
    }
    assert load(ControllerSettings, environment) == ControllerSettings(
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


def test_pod_namespace_is_default_for_lease_and_operator() -> None:
    loaded = load(ControllerSettings, {"WORKER_IMAGE": "worker:1", "POD_NAME": "p", "POD_NAMESPACE": "system"})
    assert (loaded.lease_namespace, loaded.operator_namespace) == ("system", "system")


@pytest.mark.parametrize(
    ("operator", "monitoring", "clients"),
    [
        pytest.param(None, None, (), id="unknown outside a cluster"),
        pytest.param("system", None, ("system",), id="controller and gateway"),
        pytest.param("system", "monitoring", ("monitoring", "system"), id="and Prometheus"),
        pytest.param("system", "system", ("system",), id="Prometheus in the same namespace"),
    ],
)
def test_namespaces_that_may_connect_to_workers(
    operator: str | None, monitoring: str | None, clients: tuple[str, ...]
) -> None:
    settings = ControllerSettings(
        worker_image="worker:1", lease_namespace="system", operator_namespace=operator, monitoring_namespace=monitoring
    )
    assert settings.worker_clients == clients


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param({"WORKER_IMAGE": ""}, "WORKER_IMAGE is not set: set it to the worker image", id="no worker image"),
        pytest.param(
            {"HTTP_PORT": "http", "LEASE_NAMESPACE": "system"},
            "HTTP_PORT is 'http': set it to a whole number",
            id="port not a number",
        ),
        pytest.param(
            {"HTTP_PORT": "70000", "LEASE_NAMESPACE": "system"},
            "HTTP_PORT is '70000': set it to a whole number",
            id="port too large",
        ),
        pytest.param({}, "LEASE_NAMESPACE is not set: set it to the namespace of the Lease", id="no Lease namespace"),
        pytest.param(
            {"POD_NAME": "p", "LEASE_NAMESPACE": "system"},
            "POD_NAMESPACE is not set: set it to this pod's namespace, or leave out POD_NAME",
            id="pod name without namespace",
        ),
    ],
)
def test_error_names_the_variable_and_what_to_set(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        load(ControllerSettings, {"WORKER_IMAGE": "worker:1", **environment})

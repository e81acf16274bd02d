"""The environment, read once; and the log's form."""

import json
import logging

import pytest

from controller.logs import JSONFormatter
from controller.settings import Settings, SettingsError


def test_the_least_environment_serves_all_namespaces() -> None:
    assert Settings.from_environment({"WORKER_IMAGE": "worker:1", "WATCH_NAMESPACE": ""}) == Settings("worker:1")


def test_everything_can_be_said() -> None:
    gateway = "system:serviceaccount:shop:gateway"
    environment = {
        "WORKER_IMAGE": "worker:1",
        "WATCH_NAMESPACE": "shop",
        "GATEWAY_SERVICE_ACCOUNT": gateway,
        "HTTP_PORT": "9000",
    }
    assert Settings.from_environment(environment) == Settings("worker:1", "shop", gateway, 9000)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        pytest.param({}, "WORKER_IMAGE is not set", id="no worker image"),
        pytest.param({"WORKER_IMAGE": "w", "HTTP_PORT": "http"}, "HTTP_PORT is 'http'", id="a port that is no number"),
        pytest.param({"WORKER_IMAGE": "w", "HTTP_PORT": "70000"}, "HTTP_PORT is '70000'", id="a port that is none"),
    ],
)
def test_what_is_missing_is_named(environment: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Settings.from_environment(environment)


def test_a_log_line_is_one_object_with_facts_as_fields() -> None:
    record = logging.makeLogRecord({"name": "controller.x", "levelname": "INFO", "msg": "scaled", "agent": "shop/ava"})
    entry = json.loads(JSONFormatter().format(record))
    assert (entry["message"], entry["agent"], entry["level"]) == ("scaled", "shop/ava", "info")
    assert "args" not in entry
    assert entry["time"].endswith("+00:00")

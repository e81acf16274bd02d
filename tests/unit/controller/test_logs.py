"""The controller's log: kopf's fields stay out, and its retries are warnings."""

import json
import logging

import pytest
from kopf._cogs.clients.errors import APIForbiddenError, APINotFoundError

from controller.runtime.logs import configure

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.mark.parametrize(
    ("name", "level"),
    [("kopf._cogs.clients.watching", "warning"), ("kopf._core.reactor.queueing", "error"), ("controller.x", "error")],
    ids=["kopf retries a request", "kopf fails", "the controller fails"],
)
def test_requests_that_kopf_retries_are_warnings(name: str, level: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger(name).error("Request attempt #1/9 failed; will retry")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["level"] == level


def test_fields_of_kopf_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    kopf_fields = {"k8s_ref": {"name": "ava"}, "k8s_skip": True, "settings": object()}
    logging.getLogger("controller.x").info("scaled", extra={**kopf_fields, "agent": "shop/ava"})
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line) | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "controller.x",
        "message": "scaled",
        "agent": "shop/ava",
    }


def test_events_that_kopf_handles_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("kopf.objects").info("Handler succeeded.")
    assert capsys.readouterr().err == ""


def test_only_the_error_about_kopfs_cut_watch_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    closing = "an error occurred during closing of asynchronous generator <async_generator object {} at 0x7f>"
    for name in ("infinite_watch", "another"):
        logging.getLogger("asyncio").error(closing.format(name))
    (line,) = capsys.readouterr().err.splitlines()
    assert "object another" in json.loads(line)["message"]


def test_only_kopfs_errors_about_the_missing_crd_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    for error in (
        APINotFoundError("404 page not found", status=404, headers={}),
        APIForbiddenError("no", status=403, headers={}),
    ):
        logging.getLogger("kopf._core.reactor.running").error("a part has failed", exc_info=error)
    (line,) = capsys.readouterr().err.splitlines()
    assert "APIForbiddenError" in json.loads(line)["exception"]

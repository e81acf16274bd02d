"""The scan for errors in the logs sees what a worker logs: an injected error and an injected traceback are found."""

import json

import pytest

from devkit.demo.product import AGENTS_NAMESPACE
from tests.e2e import agents
from tests.e2e.conftest import Platform
from tests.e2e.pod_logs import LoggedError, PodLogs, check
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

ERROR = json.dumps({"level": "error", "message": "injected by a test"})
TRACEBACK = "Traceback (most recent call last):"


def test_injected_error_and_traceback_fail_the_check(platform: Platform, pod_logs: PodLogs) -> None:
    product = platform.product
    script = f"open('/proc/1/fd/2', 'w').write({ERROR!r} + chr(10) + {TRACEBACK!r} + chr(10))"
    with agents.declared(product, agents.manifest(platform.targets, "logs")) as name:
        check(pod_logs.read, ())
        (worker,) = agents.worker_names(product, name)
        product.kubectl_run("-n", AGENTS_NAMESPACE, "exec", worker, "--", "python", "-c", script)
        found: list[LoggedError] = []

        def both() -> bool:
            found.extend(pod_logs.read())
            return len(found) >= 2

        eventually_blocking(both, "both are in the worker's log")
    pod = f"{AGENTS_NAMESPACE}/{worker}"
    assert [(error.pod, error.message) for error in found] == [(pod, "injected by a test"), (pod, TRACEBACK)]
    with pytest.raises(AssertionError, match="injected by a test"):
        check(lambda: found, {TRACEBACK})

"""The soak tests use the platform of the end-to-end tests, or bring up their own."""

from tests.e2e.conftest import no_unexpected_errors, platform, pod_logs, pytest_configure, simulators_run

__all__ = ["no_unexpected_errors", "platform", "pod_logs", "pytest_configure", "simulators_run"]

"""The benchmarks use the platform of the end-to-end tests."""

from tests.e2e.conftest import platform, recogniser

__all__ = ["platform", "recogniser"]

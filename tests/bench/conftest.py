"""The benches measure on the same platform as the end-to-end tests."""

from tests.e2e.conftest import platform, recogniser

__all__ = ["platform", "recogniser"]

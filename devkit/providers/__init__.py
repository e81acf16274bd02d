"""Simulated speech, language and avatar providers that speak the real providers' HTTP APIs.

The worker talks to them through the same client libraries and code path as in production; only the base URL and
the key differ. Nothing here is used outside the devkit and the tests.
"""

"""Simulated speech, language and avatar providers with the real providers' HTTP APIs.

The worker uses the same client libraries and code as with the real ones; only base URL and key differ. Only the devkit
and the tests use these simulators.
"""

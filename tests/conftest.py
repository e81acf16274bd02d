"""Settings for all tests."""

from hypothesis import settings

settings.register_profile("avatar-agent", deadline=None)  # a loaded machine is no failure
settings.load_profile("avatar-agent")

"""The one error of the devkit's platform side."""


class DevkitError(Exception):
    """Something on this machine is missing, taken or broken; the message says what, and what to do about it."""

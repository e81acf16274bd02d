"""The error that the devkit raises for problems of this machine."""


class DevkitError(Exception):
    """Something on this machine is missing, in use or broken. The message says what it is and what to do."""

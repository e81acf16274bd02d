"""A function for processes that tests start; imports nothing heavy, since each process imports it anew."""

import os
from multiprocessing.connection import Connection

prepared = ""
"""What the fork server has set."""


def work(channel: Connection) -> None:
    """Send the id of the parent process, and two variables: by the parent's preparation, and of the main process."""
    channel.send([os.getppid(), prepared, os.environ.get("LATER", "")])

"""A function for processes that tests start; imports nothing heavy, since each process imports it anew."""

import os
from multiprocessing.connection import Connection


def work(channel: Connection) -> None:
    """Send the id of the parent process, and whether the parent was prepared."""
    channel.send([os.getppid(), os.environ.get("PREPARED", "")])

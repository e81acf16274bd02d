"""``python -m worker.server.code_check FD``: checks own code once, and writes to a file descriptor why it fails."""

import os
import sys

from worker.call import preload
from worker.config import load_settings, secret_values
from worker.server import logs


def main(descriptor: int) -> None:
    """Write the failure; nothing when the code can be used."""
    config = load_settings().config
    logs.configure(secret_values(config))
    os.write(descriptor, preload.check_code(config).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))

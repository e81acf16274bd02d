"""Start the simulated Tavus: `python -m devkit.providers.tavus --host H --port 9200 --api-key-file F`."""

from __future__ import annotations

import sys

from devkit.providers.serve import arguments, run
from devkit.providers.tavus.app import TavusSettings, make_app


def main() -> int:
    """Serve until SIGINT or SIGTERM."""
    return run(arguments("tavus", 9200).parse_args(), TavusSettings, make_app)


if __name__ == "__main__":
    sys.exit(main())
